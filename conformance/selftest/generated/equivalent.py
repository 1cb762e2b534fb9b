"""Mutants that no test can kill, as their mutation changes nothing that a user of the driver can observe.

People list them in a TOML file, with the reason::

    [[equivalent]]
    module = "refdriver.files"
    function = "write_whole"
    operator = "number"
    before = "chunk = 65536"
    after = "chunk = 65537"
    reason = "the size of a buffer"

``before`` and ``after`` are the lines that differ, with single spaces. Line numbers are not in it, so an entry
survives changes elsewhere. An entry that names no mutant of the present source is stale. The file of a package of
mutants (entry points ``overlay_conformance.mutants``) is ``equivalent.toml`` in that package.
"""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.selftest.generated.mutants import GeneratedMutant
from conformance.selftest.registered import packages_of
from conformance.spec.errors import BadFile
from conformance.spec.values import BadValue, from_plain

NAME: Final = "equivalent.toml"


class BadEquivalents(BadFile):
    """A file that is no list of equivalent mutants; the text names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class Equivalent:
    """One entry."""

    module: str
    function: str
    operator: str
    before: str
    after: str
    reason: str

    def is_of(self, mutant: GeneratedMutant) -> bool:
        """Whether the entry is of this mutant."""
        return all(
            getattr(self, name) == getattr(mutant, name)
            for name in ("module", "function", "operator", "before", "after")
        )


@dataclass(frozen=True, slots=True)
class _File:
    """The whole file."""

    equivalent: tuple[Equivalent, ...] = ()


def equivalents_of(file: Path) -> tuple[Equivalent, ...]:
    """The entries of a file; raises BadEquivalents."""
    try:
        entries = from_plain(_File, tomllib.loads(file.read_text())).equivalent
    except (OSError, ValueError, BadValue) as error:
        raise BadEquivalents(
            f"{file}: this is no list of equivalent mutants ({error}); see docs/selftest.md"
        ) from error
    for number, one in enumerate(entries, start=1):
        if not one.reason.strip():
            raise BadEquivalents(f"{file}: entry {number} needs text for reason")
    return entries


def file_of(basis: str, name: str = NAME) -> Path | None:
    """The list in a package of mutants that is in the driver's own package, None if there is none."""
    top = basis.partition(":")[0].partition(".")[0]
    for package in packages_of("overlay_conformance.mutants", ""):
        if package.partition(".")[0] != top:
            continue
        found = importlib.util.find_spec(package)
        for place in (found.submodule_search_locations or []) if found else []:
            if (Path(place) / name).exists():
                return Path(place) / name
    return None


def stale(entries: Iterable[Equivalent], mutants: Iterable[GeneratedMutant]) -> list[Equivalent]:
    """The entries that are of no mutant."""
    there = {(one.module, one.function, one.operator, one.before, one.after) for one in mutants}
    return [one for one in entries if (one.module, one.function, one.operator, one.before, one.after) not in there]
