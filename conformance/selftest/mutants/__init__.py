"""Mutants: drivers that are each broken in one known way, to prove that the suite sees it.

Each wraps a correct driver in its own process, which ``CONFORMANCE_FAULTY_BASIS`` in the environment names as
MODULE:CLASS, so that this package needs no driver of its own. ``python:conformance.selftest.mutants.layers:NAME``
and ``python:conformance.selftest.mutants.archives:NAME`` are their connection strings.
"""
