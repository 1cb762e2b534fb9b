"""Mutants that are made by a machine: mutation operators on the source of the basis driver."""

from typing import Final

# What the process of the driver is handed (generated/driver.py).
CONNECTION: Final = "python:conformance.selftest.generated.driver:Driver"
MUTATION: Final = "CONFORMANCE_MUTATION"
REACH: Final = "CONFORMANCE_REACH"
