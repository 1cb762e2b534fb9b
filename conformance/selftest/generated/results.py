"""The result file of ``selftest --generated``: JSON lines (generated.schema.json).

A ``generated`` line says what was run, a ``mutant`` line what became of each mutant, with its diff, and an ``end``
line how much there is. The lines of mutants are appended as their trials end, so an interrupted run leaves them. A
run with the same question continues the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from conformance.selftest.generated.fates import Fate, Score, Tried
from conformance.spec.errors import BadFile

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("generated.schema.json")
# What a file has to agree in with the run that continues it.
_QUESTION: Final = ("suite", "specification", "basis", "sources", "profile", "examples", "seed", "call_timeout")


class BadGenerated(BadFile):
    """A file that is no result of generated mutants, or of other ones; the text says what to do."""


@dataclass(frozen=True, slots=True)
class About:
    """What is run. ``sources`` is a digest of the modules that are mutated, ``mutants`` how many these have."""

    suite: str
    specification: str
    basis: str
    sources: str
    kernel: str
    machine: str
    profile: str
    examples: int
    seed: int
    call_timeout: float
    mutants: int
    started: str


@dataclass(slots=True)
class Results:
    """A result file that is being written; ``tried`` are the mutants in it, by id."""

    about: About
    path: Path | None
    tried: dict[str, Tried] = field(default_factory=dict)

    @classmethod
    def begun(cls, about: About, path: Path | None) -> Results:
        """An empty one, or the one that is there already; raises BadGenerated if that answers another question."""
        results = cls(about, path)
        if path and path.exists() and path.stat().st_size:
            before, tried = read(path)
            for name in _QUESTION:
                if getattr(before, name) != getattr(about, name):
                    raise BadGenerated(
                        f"{path}: its {name} is {getattr(before, name)}, and now it is {getattr(about, name)};"
                        " remove the file, or name another one"
                    )
            results.tried = {one.mutant.id: one for one in tried}
        results.write(())
        return results

    def add(self, one: Tried) -> None:
        """Append one mutant."""
        self.tried[one.mutant.id] = one
        if self.path:
            with self.path.open("a") as file:
                _line(file, "mutant", one.as_json())

    def forget(self, ids: Iterable[str]) -> None:
        """Leave out those of the mutants that were listed as equivalent and not tried."""
        for id_ in ids:
            if id_ in self.tried and self.tried[id_].fate is Fate.EQUIVALENT:
                del self.tried[id_]

    def write(self, end: Iterable[tuple[str, Any]]) -> None:
        """Write the file anew, whole or not at all, with an ``end`` line if there is something for it."""
        if not self.path:
            return
        beside = self.path.with_name(self.path.name + ".part")
        with beside.open("w") as file:
            _line(file, "generated", {"format": FORMAT, **asdict(self.about)})
            for one in self.tried.values():
                _line(file, "mutant", one.as_json())
            if said := dict(end):
                _line(file, "end", said)
        beside.replace(self.path)

    def finish(self, chosen: Iterable[Tried], seconds: float, exit_code: int) -> None:
        """Write the file with its end: the counts are those of the sample."""
        score = Score.of(chosen)
        counts = {"counts": asdict(score), "share": round(score.share, 4)}
        self.write({**counts, "seconds": round(seconds, 3), "exit_code": exit_code}.items())


def read(path: Path) -> tuple[About, list[Tried]]:
    """What is in a file, with or without an end; a last line that is cut is left out. Raises BadGenerated."""
    records = []
    lines = path.read_text().splitlines(keepends=True)
    try:
        for number, line in enumerate(lines, start=1):
            if number == len(lines) and not line.endswith("\n"):
                break
            records.append(json.loads(line))
        about = dict(records[0])
        if about.pop("record") != "generated" or about.pop("format") != FORMAT:
            raise ValueError(f"no first line 'generated' of format {FORMAT}")
        return About(**about), [
            Tried.from_json({key: value for key, value in one.items() if key != "record"})
            for one in records
            if one["record"] == "mutant"
        ]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadGenerated(
            f"{path}: this is no result file of generated mutants ({type(error).__name__}: {error});"
            " name another file"
        ) from error


def _line(file: IO[str], record: str, said: dict[str, Any]) -> None:
    file.write(json.dumps({"record": record, **said}) + "\n")
