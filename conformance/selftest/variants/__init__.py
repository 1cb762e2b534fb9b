"""Drivers that are correct, and do differently what a driver may do as it likes: the suite must not call one wrong.

``overlay-conformance selftest`` runs the suite on each beside the mutants. One that fails is a false alarm, as
bad as a mutant that is missed. Like the mutants they change the driver that ``CONFORMANCE_FAULTY_BASIS`` names.
"""
