"""All mutants: those of this package, and those of packages that entry points name.

A package outside registers its mutants by an entry point of the group ``overlay_conformance.mutants``, whose value
is the package. Each class in a module of it that has ``__mutant__`` is a mutant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.selftest.mutants.mutant import MUTANT, Mutant
from conformance.selftest.registered import classes_of, packages_of

GROUP: Final = "overlay_conformance.mutants"

# Requirements that no mutant breaks, with the reason; whoever breaks one takes it out of here.
EXCEPTIONS: Final[Mapping[str, str]] = {
    "OVL-CRASH-RESET": "a machine that is reset, by the matrix",
    "OVL-GATE-D-TYPE": "xfs without ftype: kernels without CONFIG_XFS_SUPPORT_V4 mount none",
    "OVL-KERNEL-WELL": "a kernel that fails; tests/conformance/test_health.py gives its judge the words of one",
    "OVL-MOUNT-LABEL-KEPT": "a kernel with SELinux",
}

MUTANTS: Final[tuple[Mutant, ...]] = tuple(
    Mutant.of(one)
    for package in packages_of(GROUP, "conformance.selftest.mutants")
    for one in classes_of(package, MUTANT)
)
