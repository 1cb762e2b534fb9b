"""Mutants of the reference driver: each replaces functions of it, where no wrapper could break the behaviour.

The entry point ``refdriver`` of the group ``overlay_conformance.mutants`` names this package, so that
``overlay-conformance selftest`` finds the mutants, and the suite does not import them by name.
``python:refdriver.mutants.MODULE:NAME`` is the connection string of one. The driver imports none of it.
"""
