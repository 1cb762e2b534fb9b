"""The files of the specification, read strictly: a key that is misspelt, or of another type, is no key.

The commands that only print read these files without cattrs, which takes as long to import as all else of them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance import spec
from conformance.spec.values import from_plain

DIRECTORY = Path(spec.__file__).parent
FILES = sorted((DIRECTORY / "requirements").glob("*.toml"))


@dataclass(frozen=True, slots=True)
class Entry:
    id: str
    sentence: str
    consequence: str
    source: tuple[str, ...]
    level: str = "MUST"
    since: str = "0.2.0"
    needs: tuple[str, ...] = ()
    privileges: str = "namespace"
    kernel: str = ""
    backing: tuple[str, ...] = ()
    varies: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    varies: tuple[str, ...]
    requirement: tuple[Entry, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    family: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class Capability:
    of: str
    meaning: str
    core: bool = False
    convention: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    capability: Mapping[str, Capability]


@dataclass(frozen=True, slots=True)
class Retired:
    retired: tuple[str, ...]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_requirements_has_the_keys_of_its_types(path: Path) -> None:
    known = spec.load_requirements()
    for family in from_plain(File, tomllib.loads(path.read_text())).family:
        for one in family.requirement:
            found = known[one.id]
            assert (found.family, found.sentence, found.level) == (family.name, one.sentence, one.level)
            assert (found.privileges, found.kernel, found.backing) == (one.privileges, one.kernel, one.backing)
            assert found.needs == (*family.needs, *one.needs)
            assert found.varies == (family.varies if one.varies is None else one.varies)
            assert tuple(reference.text for reference in found.source) == one.source
            assert (found.since, found.consequence) == (one.since, one.consequence)


def test_capabilities_and_retired_ids_have_the_keys_of_their_types() -> None:
    said = tomllib.loads((DIRECTORY / "capabilities.toml").read_text())
    found = from_plain(Capabilities, {"capability": said}).capability
    assert {name: (one.of, one.meaning, one.core, one.convention) for name, one in found.items()} == {
        name: (one.of, one.meaning, one.core, one.convention) for name, one in spec.load_capabilities().items()
    }
    retired = from_plain(Retired, tomllib.loads((DIRECTORY / "retired.toml").read_text())).retired
    assert set(retired) == spec.load_retired()
