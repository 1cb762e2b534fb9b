"""All faults, by the modules that hold them."""

from __future__ import annotations

from typing import Final

from conformance.faulty import archives, carrying, claims, crashing, keeping, layers, quota, taking
from conformance.faulty.fault import Fault

FAULTS: Final[tuple[Fault, ...]] = (
    *archives.FAULTS,
    *carrying.FAULTS,
    *claims.FAULTS,
    *crashing.FAULTS,
    *keeping.FAULTS,
    *layers.FAULTS,
    *quota.FAULTS,
    *taking.FAULTS,
)
