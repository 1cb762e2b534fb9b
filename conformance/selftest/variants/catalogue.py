"""All variants: those of this package, and those of packages that entry points name.

The group is ``overlay_conformance.variants``; otherwise it is as for mutants.
"""

from __future__ import annotations

from typing import Final

from conformance.selftest.registered import classes_of, packages_of
from conformance.selftest.variants.variant import VARIANT, Variant

GROUP: Final = "overlay_conformance.variants"

VARIANTS: Final[tuple[Variant, ...]] = tuple(
    Variant.of(one)
    for package in packages_of(GROUP, "conformance.selftest.variants")
    for one in classes_of(package, VARIANT)
)
