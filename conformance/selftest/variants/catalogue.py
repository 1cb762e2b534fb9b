"""All variants, by the modules that hold them."""

from __future__ import annotations

from typing import Final

from conformance.selftest.variants import answering, archiving, comparing, mounting
from conformance.selftest.variants.different import Different

DIFFERENT: Final[tuple[Different, ...]] = (
    *comparing.DIFFERENT,
    *archiving.DIFFERENT,
    *mounting.DIFFERENT,
    *answering.DIFFERENT,
)
