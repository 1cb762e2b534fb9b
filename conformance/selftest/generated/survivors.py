"""Why mutants survive that are not equivalent: what this host cannot show, and what the suite does not test.

People list them in a TOML file, with the reason::

    [[survivor]]
    module = "mydriver.quota"
    function = "Quota.limit"
    operator = ""
    before = ""
    after = ""
    kind = "machine"
    reason = "Only xfs with project quota has limits."

An empty text stands for any: with an empty ``function`` the entry is of all mutants of the module. The first entry
of a mutant counts. ``kind`` is ``machine``, ``kernel``, ``filesystem`` or ``failure``, as in the list of branches
that no test executes (docs/selftest.md), ``interface`` for what no adapter asks of a driver, or ``gap``. The file
of a package of mutants is ``survivors.toml`` in that package.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from conformance.selftest.generated.mutants import GeneratedMutant
from conformance.spec.errors import BadFile
from conformance.spec.values import BadValue, from_plain

NAME: Final = "survivors.toml"
ELSEWHERE: Final = ("machine", "kernel", "filesystem")  # kinds that another host can show
_NAMES: Final = ("module", "function", "operator", "before", "after")


class BadSurvivors(BadFile):
    """A file that is no list of explained survivors; the text names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One entry."""

    module: str
    kind: Literal["machine", "kernel", "filesystem", "failure", "interface", "gap"]
    reason: str
    function: str = ""
    operator: str = ""
    before: str = ""
    after: str = ""

    def is_of(self, mutant: GeneratedMutant) -> bool:
        """Whether the entry is of this mutant."""
        return all(getattr(self, name) in ("", getattr(mutant, name)) for name in _NAMES)

    @property
    def sentence(self) -> str:
        """The kind and the reason."""
        return f"{self.kind}: {self.reason}"


@dataclass(frozen=True, slots=True)
class _File:
    """The whole file."""

    survivor: tuple[Explained, ...] = ()


def explained_of(file: Path) -> tuple[Explained, ...]:
    """The entries of a file; raises BadSurvivors."""
    try:
        entries = from_plain(_File, tomllib.loads(file.read_text())).survivor
    except (OSError, ValueError, BadValue) as error:
        raise BadSurvivors(
            f"{file}: this is no list of explained survivors ({error}); see docs/selftest.md"
        ) from error
    for number, one in enumerate(entries, start=1):
        if not one.reason.strip():
            raise BadSurvivors(f"{file}: entry {number} needs text for reason")
    return entries


def explanation_of(entries: Sequence[Explained], mutant: GeneratedMutant) -> Explained | None:
    """The first entry that is of a mutant."""
    return next((one for one in entries if one.is_of(mutant)), None)


def without_mutant(entries: Iterable[Explained], mutants: Sequence[GeneratedMutant]) -> list[Explained]:
    """The entries that are of no mutant."""
    return [one for one in entries if not any(map(one.is_of, mutants))]
