"""Variants: correct drivers that make another permitted choice. The suite must not fail one.

``overlay-conformance selftest`` runs the suite on each beside the mutants. One that fails is a false alarm, as
bad as a mutant that survives. Like the mutants they wrap the driver that ``CONFORMANCE_MUTANT_BASIS`` names.
"""
