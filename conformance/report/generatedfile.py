"""The result file of ``selftest --generated``: JSON lines (generated.schema.json, docs/selftest.md).

A ``generated`` line says what was run, a ``mutant`` line what became of each mutant, with its diff, and an ``end``
line how much there is. The lines of mutants are appended as their trials end, so an interrupted run leaves them. A
run with the same question continues the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal

from conformance.harness.events import GeneratedFate, Judged
from conformance.report.records import Digest
from conformance.selftest.generated.fates import Score, Tried
from conformance.selftest.generated.mutants import GeneratedMutant
from conformance.spec.errors import BadFile
from conformance.spec.lines import Form, Lines
from conformance.spec.values import BadValue, Count, Key, Seconds, as_plain, from_plain, keys_of

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("generated.schema.json")
# What a file has to agree in with the run that continues it.
_QUESTION: Final = ("suite", "specification", "basis", "sources", "profile", "examples", "seed", "call_timeout")


class BadGenerated(BadFile):
    """A file that is no result of generated mutants, or of other ones; the text says what to do."""


@dataclass(frozen=True, slots=True)
class About:
    """What was run, where and how."""

    suite: Annotated[str, Key("Version of overlay-conformance.")]
    specification: Annotated[Digest, Key("Digest of the requirements of the suite.")]
    basis: Annotated[str, Key("The correct driver that is mutated, MODULE:CLASS.")]
    sources: Annotated[Digest, Key("Digest of the modules that are mutated.")]
    kernel: Annotated[str, Key("Release, as uname -r prints it.")]
    machine: str
    profile: Annotated[str, Key(among=("quick", "standard"))]
    examples: Annotated[int, Key("Examples for each property.", minimum=1)]
    seed: Annotated[int, Key("Seed of the sample and of the examples.")]
    call_timeout: Annotated[Seconds, Key("Seconds after which a call of the driver was ended.")]
    mutants: Annotated[Count, Key("Number of mutants of which the sample was taken.")]
    started: Annotated[str, Key("ISO 8601, UTC.")]


@dataclass(frozen=True, slots=True)
class End:
    """What came of the sample of the last run."""

    counts: Score
    share: Annotated[
        float, Key("The score, 0 to 1: killed of those that are neither equivalent nor stillborn.", minimum=0)
    ]
    seconds: Annotated[Seconds, Key("Wall clock of the last run.")]
    exit_code: Literal[0, 1]


Record = About | Judged | End
_MUTANT: Final = {name: hint for name, (hint, _) in keys_of(GeneratedMutant).items()}
LINES: Final[Lines[Record]] = Lines(
    "record",
    (
        Form("generated", About, {"format": Literal[1]}),
        Form("mutant", Judged, _MUTANT),
        Form("end", End),
    ),
)


@dataclass(slots=True)
class Results:
    """A result file that is being written; ``tried`` are the mutants in it, by id."""

    about: About
    path: Path | None
    tried: dict[str, Tried] = field(default_factory=dict)

    @classmethod
    def begun(cls, about: About, path: Path | None, *, grown: bool = False) -> Results:
        """An empty one, or the one that is there already; raises BadGenerated if that answers another question.

        If the suite has ``grown``, the specification may be another: what was killed is killed.
        """
        results = cls(about, path)
        if path and path.exists() and path.stat().st_size:
            before, tried = read(path)
            for name in _QUESTION:
                if grown and name == "specification":
                    continue
                if getattr(before, name) != getattr(about, name):
                    raise BadGenerated(
                        f"{path}: its {name} is {getattr(before, name)}, and now it is {getattr(about, name)};"
                        " remove the file, or name another one"
                    )
            results.tried = {one.mutant.id: one for one in tried}
        results.write()
        return results

    @classmethod
    def of(cls, path: Path) -> Results:
        """What a file has, to be written elsewhere; raises BadGenerated."""
        about, tried = read(path)
        return cls(about, None, {one.mutant.id: one for one in tried})

    @property
    def elsewhere(self) -> list[str]:
        """Ids of the mutants that survived for want of another machine, by the list of survivors."""
        survived = GeneratedFate.SURVIVED
        return [name for name, one in self.tried.items() if one.fate is survived and one.kind == "machine"]

    def of_another_machine(self, path: Path) -> Results:
        """Those of ``elsewhere`` alone, for the machine that tries them again."""
        return Results(self.about, path, {name: self.tried[name] for name in self.elsewhere})

    def join(self, path: Path) -> None:
        """Take what another machine killed for killed; raises BadGenerated."""
        found = (one for one in read(path)[1] if one.fate is GeneratedFate.KILLED)
        self.tried |= {one.mutant.id: one for one in found}

    def add(self, one: Tried) -> None:
        """Append one mutant."""
        self.tried[one.mutant.id] = one
        if self.path:
            with self.path.open("a") as file:
                _write(file, _of_mutant(one))

    def forget(self, ids: Iterable[str], *, survived: bool = False) -> None:
        """Leave out those of the mutants that were listed as equivalent or are undecided, or that ``survived``."""
        fates = {GeneratedFate.EQUIVALENT, GeneratedFate.UNDECIDED}
        fates |= {GeneratedFate.SURVIVED} if survived else set()
        for id_ in ids:
            if id_ in self.tried and self.tried[id_].fate in fates:
                del self.tried[id_]

    def write(self, end: End | None = None) -> None:
        """Write the file anew, whole or not at all."""
        if not self.path:
            return
        beside = self.path.with_name(self.path.name + ".part")
        with beside.open("w") as file:
            _write(file, LINES.plain(self.about, format=FORMAT))
            for one in self.tried.values():
                _write(file, _of_mutant(one))
            if end:
                _write(file, LINES.plain(end))
        beside.replace(self.path)

    def finish_all(self) -> Literal[0, 1]:
        """Write the file with its end, of all mutants in it; the status that it says: 1 if one survived."""
        score = Score.of(self.tried.values())
        code: Literal[0, 1] = 1 if score.survived or score.undecided else 0
        self.finish(self.tried.values(), 0.0, code)
        return code

    def finish(self, chosen: Iterable[Tried], seconds: float, exit_code: Literal[0, 1]) -> None:
        """Write the file with its end: the counts are those of the sample."""
        score = Score.of(chosen)
        self.write(End(score, round(score.share, 4), round(seconds, 3), exit_code))


def read(path: Path) -> tuple[About, list[Tried]]:
    """What is in a file, with or without an end; a last line that is cut is left out. Raises BadGenerated."""
    try:
        lines = path.read_text().splitlines(keepends=True)
        found = [_record(line) for line in lines if line.endswith("\n")]
        if not found or not isinstance(about := found[0], About):
            raise BadValue("the first line is not 'generated'")
    except (ValueError, BadValue) as error:
        raise BadGenerated(
            f"{path}: this is no result file of generated mutants ({error}); name another file"
        ) from error
    return about, [one for one in found if isinstance(one, Tried)]


def _record(line: str) -> About | Tried | End:
    """The value of a line; raises BadValue or ValueError."""
    said = json.loads(line)
    if not isinstance(said, dict):
        raise BadValue("a line is no object")
    if said.get("record") == "generated" and said.pop("format", None) != FORMAT:
        raise BadValue(f"the format is not {FORMAT}")
    if said.get("record") == "mutant":
        mutant = from_plain(GeneratedMutant, {name: said.pop(name) for name in _MUTANT if name in said})
    record = LINES.value(said)
    if record is None:
        raise BadValue(f"a record called {said.get('record')!r}")
    return Tried.of(mutant, record) if isinstance(record, Judged) else record


def _of_mutant(one: Tried) -> dict[str, Any]:
    return LINES.plain(one.judged, **as_plain(one.mutant))


def _write(file: IO[str], said: dict[str, Any]) -> None:
    file.write(json.dumps(said) + "\n")
