"""Mutants: drivers that are each broken in one known way, to prove that the suite kills them.

Those of this package wrap any Python driver, which ``CONFORMANCE_MUTANT_BASIS`` in the environment names as
MODULE:CLASS. ``python:conformance.selftest.mutants.life:NAME`` is the connection string of one. Mutants that
replace functions of one driver live beside that driver; :mod:`conformance.selftest.mutants.catalogue` finds them.
"""
