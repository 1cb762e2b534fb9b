"""How a mutant or a variant is registered: by plain values on its class, which the suite reads.

The suite may not be imported here, so these are the reference driver's own. Their fields are those that the suite
describes in conformance/selftest/mutants/mutant.py and conformance/selftest/variants/variant.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from refdriver.mutants.basis import Patched

BASIS: Final = "refdriver:Driver"
_Patched = TypeVar("_Patched", bound=type[Patched])


@dataclass(frozen=True, slots=True)
class MutantOfReference:
    """What a mutant breaks, as ids of requirements (it is named for the first), and where the bug was seen."""

    breaks: tuple[str, ...]
    source: str
    backing: str
    hard: bool
    needs: str
    basis: str = BASIS


@dataclass(frozen=True, slots=True)
class VariantOfReference:
    """Who makes this choice, the requirements that show it, and those of level SHOULD that it waives."""

    source: str
    touches: tuple[str, ...]
    waives: tuple[str, ...]
    backing: str
    why_not: Callable[[], str]
    basis: str = BASIS


def mutant(
    *, breaks: tuple[str, ...], source: str, backing: str = "host", hard: bool = False, needs: str = ""
) -> Callable[[_Patched], _Patched]:
    """Register a class as a mutant."""

    def registered(driver: _Patched) -> _Patched:
        driver.__mutant__ = MutantOfReference(breaks, source, backing, hard, needs)
        return driver

    return registered


def variant(
    *,
    source: str,
    touches: tuple[str, ...],
    waives: tuple[str, ...] = (),
    backing: str = "host",
    why_not: Callable[[], str] = str,
) -> Callable[[_Patched], _Patched]:
    """Register a class as a variant; ``why_not`` says why it cannot work on this host, "" if it can."""

    def registered(driver: _Patched) -> _Patched:
        driver.__variant__ = VariantOfReference(source, touches, waives, backing, why_not)
        return driver

    return registered
