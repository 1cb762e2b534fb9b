"""All faults, by the modules that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.faulty import (
    archives,
    carrying,
    claims,
    counting,
    crashing,
    keeping,
    layers,
    lives,
    mounting,
    opening,
    quota,
    recovering,
    stores,
    taking,
    together,
)
from conformance.faulty.fault import Fault

# Requirements that no fault breaks, with the reason; whoever breaks one takes it out of here.
EXCEPTIONS: Final[Mapping[str, str]] = {
    "OVL-CRASH-RESET": "a machine that is reset, by the matrix",
    "OVL-GATE-D-TYPE": "xfs without ftype: kernels without CONFIG_XFS_SUPPORT_V4 mount none",
    "OVL-KERNEL-WELL": "a kernel that fails; tests/conformance/test_health.py gives its judge the words of one",
    "OVL-MOUNT-LABEL-KEPT": "a kernel with SELinux",
}

FAULTS: Final[tuple[Fault, ...]] = (
    *archives.FAULTS,
    *carrying.FAULTS,
    *claims.FAULTS,
    *counting.FAULTS,
    *crashing.FAULTS,
    *keeping.FAULTS,
    *layers.FAULTS,
    *lives.FAULTS,
    *mounting.FAULTS,
    *opening.FAULTS,
    *quota.FAULTS,
    *recovering.FAULTS,
    *stores.FAULTS,
    *taking.FAULTS,
    *together.FAULTS,
)
