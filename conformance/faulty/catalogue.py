"""All faults, by the modules that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.faulty import archives, carrying, claims, keeping, layers, taking
from conformance.faulty.fault import Fault

# Requirements that no fault breaks, with the reason; whoever breaks one takes it out of here.
EXCEPTIONS: Final[Mapping[str, str]] = {
    "OVL-GATE-D-TYPE": "xfs without ftype: kernels without CONFIG_XFS_SUPPORT_V4 mount none",
    "OVL-MOUNT-LABEL-KEPT": "a kernel with SELinux",
    "OVL-QUOTA-ENFORCED": "xfs with project quota",
    "OVL-QUOTA-OWN": "xfs with project quota",
    "OVL-QUOTA-REOPEN": "xfs with project quota",
    "OVL-QUOTA-ID-AGAIN": "xfs with project quota",
}

FAULTS: Final[tuple[Fault, ...]] = (
    *archives.FAULTS,
    *carrying.FAULTS,
    *claims.FAULTS,
    *keeping.FAULTS,
    *layers.FAULTS,
    *taking.FAULTS,
)
