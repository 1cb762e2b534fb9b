"""Which tests may be skipped where all are to run: tests/allowed-skips.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

LIST = Path(__file__).parent.parent / "allowed-skips.toml"


@dataclass(frozen=True, slots=True)
class Skip:
    """Patterns of a test's id and of its reason; what it lacks is of the kernel or of the machine."""

    test: str
    says: str
    lacks: str
    why: str

    def allows(self, test: str, reason: str) -> bool:
        return fnmatchcase(test, self.test.replace("[", "[[]")) and fnmatchcase(reason, self.says)


def allowed_skips(file: Path = LIST) -> list[Skip]:
    """The list; raises TypeError for an entry with other keys, ValueError for one that lacks a program."""
    found = [Skip(**entry) for entry in tomllib.loads(file.read_text())["skip"]]
    for skip in found:
        if skip.lacks not in ("kernel", "machine"):
            raise ValueError(f"{skip.test}: lacks = {skip.lacks!r} is neither 'kernel' nor 'machine'")
    return found


def forbidden(skipped: Iterable[tuple[str, str]], allowed: Sequence[Skip]) -> list[str]:
    """Lines about skipped tests, of id and reason, that no entry allows."""
    return [f"{test}: {reason}" for test, reason in skipped if not any(one.allows(test, reason) for one in allowed)]
