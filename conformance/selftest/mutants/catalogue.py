"""All mutants, by the modules that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.selftest.mutants import (
    archives,
    carrying,
    claims,
    comparing,
    counting,
    crashing,
    escaping,
    field,
    hostile,
    keeping,
    layers,
    links,
    lives,
    marks,
    metadata,
    mounting,
    opening,
    packing,
    quota,
    recovering,
    stores,
    taking,
    together,
    whiteouts,
)
from conformance.selftest.mutants.fault import Fault

# Requirements that no mutant breaks, with the reason; whoever breaks one takes it out of here.
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
    *comparing.FAULTS,
    *counting.FAULTS,
    *crashing.FAULTS,
    *escaping.FAULTS,
    *field.FAULTS,
    *hostile.FAULTS,
    *keeping.FAULTS,
    *layers.FAULTS,
    *links.FAULTS,
    *lives.FAULTS,
    *marks.FAULTS,
    *metadata.FAULTS,
    *mounting.FAULTS,
    *opening.FAULTS,
    *packing.FAULTS,
    *quota.FAULTS,
    *recovering.FAULTS,
    *stores.FAULTS,
    *taking.FAULTS,
    *together.FAULTS,
    *whiteouts.FAULTS,
)
