"""What a selftest leaves: JSON lines, from which its reports are made (kills.schema.json, docs/results.md).

A ``selftest`` line tells what was run, ``fault`` lines what is wrong with each driver, ``trial`` lines what became
of it with each seed, ``gap`` lines which requirements nothing breaks; ``different`` lines what a correct driver
chooses, ``hearing`` lines whether it conforms; and an ``end`` line how much there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from conformance.report.records import Digest
from conformance.selftest.alarms import Choice, Hearing, Standing, false_alarms
from conformance.selftest.kills import Fate, KillMatrix, Specimen, Trial, uncovered
from conformance.spec import load_requirements
from conformance.spec.errors import BadFile
from conformance.spec.lines import Form, Lines
from conformance.spec.profiles import PARTIAL
from conformance.spec.values import BadValue, Count, Key, RequirementId, Seconds

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("kills.schema.json")
HALF: Final = 0.5
T = TypeVar("T")


class BadKills(BadFile):
    """A file that is no result of a selftest; the text names the file, the line and what to do."""


@dataclass(frozen=True, slots=True)
class Selftest:
    """What was run, where and how."""

    suite: Annotated[str, Key("Version of overlay-conformance.")]
    specification: Annotated[Digest, Key("Digest of the requirements of the suite.")]
    basis: Annotated[str, Key("The correct driver that mutants are derived from, MODULE:CLASS.")]
    version: Annotated[str, Key("Its version.")]
    kernel: Annotated[
        str,
        Key(
            "Release, as uname -r prints it; of several machines, those whose trials are in the file, with ' and '"
            " between them."
        ),
    ]
    machine: str
    profile: Annotated[str, Key(among=("smoke", "quick", "standard"))]
    examples: Annotated[int, Key("Examples for each property.", minimum=1)]
    seeds: Annotated[tuple[int, ...], Key(least=1)]
    jobs: Annotated[int, Key("Number of concurrent trials.", minimum=1)]
    budget: Annotated[Seconds, Key("Seconds after which the trial of a mutant was ended.")]
    whole: Annotated[
        bool,
        Key(
            "Whether all tests of the profile were run on each driver; otherwise those of the requirements that a"
            " mutant breaks, until all of them failed, and of those that a variant's choice touches. If complete,"
            " variants are also tried by all tests of the profile quick."
        ),
    ]
    complete: Annotated[bool, Key("Whether all mutants and all variants were tried.")]
    started: Annotated[str, Key("ISO 8601, UTC.")]
    seconds: Annotated[Seconds, Key("Wall clock.")]


@dataclass(frozen=True, slots=True)
class Gap:
    """A requirement that no mutant broke. Only after a selftest with all mutants."""

    requirement: RequirementId
    reason: str


@dataclass(frozen=True, slots=True)
class Excepted:
    """A requirement that needs no mutant."""

    requirement: RequirementId
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The last line."""

    trials: Annotated[Count, Key("How many lines 'trial' there are.")]
    counts: Annotated[Mapping[Fate, Count], Key("Mutants by the worst of their trials.", every=True)]
    hearings: Annotated[Count, Key("How many lines 'hearing' there are.")]
    standings: Annotated[Mapping[Standing, Count], Key("Hearings by their result.", every=True)]
    exit_code: Literal[0, 1]


Record = Selftest | Specimen | Trial | Gap | Excepted | Choice | Hearing | End
LINES: Final[Lines[Record]] = Lines(
    "record",
    (
        Form("selftest", Selftest, {"format": Literal[1]}),
        Form("fault", Specimen),
        Form("trial", Trial),
        Form("gap", Gap),
        Form("exception", Excepted),
        Form("different", Choice),
        Form("hearing", Hearing),
        Form("end", End),
    ),
)


@dataclass(frozen=True, slots=True)
class KillReport:
    """A selftest, its matrix, and requirements that nothing was seen to break, with the reason.

    ``exceptions`` are those of which that is known, with the reason. ``choices`` are the variants that
    were judged, ``hearings`` what came out.
    """

    about: Selftest
    matrix: KillMatrix
    gaps: Mapping[str, str] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    hearings: tuple[Hearing, ...] = ()

    @property
    def false_alarms(self) -> list[Hearing]:
        """The hearings of drivers that the suite does not let pass."""
        return false_alarms(self.hearings)

    @property
    def exit_code(self) -> Literal[0, 1]:
        """0 without a false alarm, a surviving mutant and a gap; in quick, if half of them are killed.

        A selftest of all mutants in another profile shows whether tests of the profile quick kill half of them.
        """
        if self.false_alarms:
            return 1
        if self.about.profile in PARTIAL:
            return 0 if self.matrix.share >= HALF else 1
        if self.about.complete and self.matrix.share_of_quick < HALF:
            return 1
        return 1 if self.matrix.alive or self.gaps else 0


def lines_of(report: KillReport) -> list[str]:
    """The lines of the file."""
    matrix, hearings = report.matrix, report.hearings
    counts = {fate: sum(matrix.fate(one) is fate for one in matrix.mutants) for fate in Fate}
    standings = {one: sum(hearing.standing is one for hearing in hearings) for one in Standing}
    records: list[Record] = [
        *matrix.mutants,
        *matrix.trials,
        *(Gap(one, said) for one, said in report.gaps.items()),
        *(Excepted(one, said) for one, said in report.exceptions.items()),
        *report.choices,
        *hearings,
        End(len(matrix.trials), counts, len(hearings), standings, report.exit_code),
    ]
    lines = [LINES.plain(report.about, format=FORMAT), *map(LINES.plain, records)]
    return [json.dumps(one) for one in lines]


def write(path: Path, report: KillReport) -> None:
    """Write the file, whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.write_text("".join(line + "\n" for line in lines_of(report)))
    beside.replace(path)


def read(path: Path) -> KillReport:
    """Back from :func:`write`; raises BadKills."""
    try:
        found = [_record(path, line) for line in path.read_text().splitlines()]
        (about,), (end,) = _all(Selftest, found), _all(End, found)
    except (OSError, ValueError, BadValue) as error:
        raise BadKills(
            f"{path}: this is not a result file of a selftest ({error});"
            " 'overlay-conformance selftest --results FILE' writes one, docs/results.md describes it"
        ) from error
    trials, hearings = _all(Trial, found), _all(Hearing, found)
    for kind, expected, there in (("trials", end.trials, trials), ("hearings", end.hearings, hearings)):
        if len(there) != expected:
            raise BadKills(f"{path}: expected {expected} lines '{kind}', found {len(there)}: the file is truncated")
    return KillReport(
        about,
        KillMatrix(_all(Specimen, found), trials, about.profile),
        {one.requirement: one.reason for one in _all(Gap, found)},
        {one.requirement: one.reason for one in _all(Excepted, found)},
        _all(Choice, found),
        hearings,
    )


def _all(kind: type[T], found: Sequence[Record]) -> tuple[T, ...]:
    return tuple(one for one in found if isinstance(one, kind))


def _record(path: Path, line: str) -> Record:
    """The value of a line; raises BadKills, BadValue or ValueError."""
    said = json.loads(line)
    if not isinstance(said, dict):
        raise BadValue("a line is no object")
    if said.get("record") == "selftest" and said.pop("format", None) != FORMAT:
        raise BadKills(f"{path}: the format is not {FORMAT}; use the version of the suite that wrote it")
    record = LINES.value(said)
    if record is None:
        raise BadKills(
            f"{path}: a record called {said.get('record')!r}; use the version of the suite that wrote it"
        )
    return record


def is_selftest(path: Path) -> bool:
    """Whether a file is of a selftest, by its first line; whether it is whole is another question."""
    with path.open() as file:
        try:
            first = json.loads(file.readline())
        except ValueError:
            return False
    return isinstance(first, dict) and first.get("record") == "selftest"


def joined(found: Sequence[tuple[str, KillReport]]) -> KillReport:
    """One selftest that was run on several machines, by the names of its files.

    Each mutant is reported by the first machine that could try it, each false alarm by any. Raises BadKills if they
    asked for different things.
    """
    name, first = found[0]
    for other_name, other in found[1:]:
        for what in ("suite", "specification", "basis", "version", "profile", "examples", "seeds", "whole"):
            ours, theirs = getattr(first.about, what), getattr(other.about, what)
            if ours != theirs:
                raise BadKills(
                    f"{name} and {other_name} differ in their {what}, {ours} and {theirs}: run one again"
                )
    mutants = {mutant.name: mutant for _, one in found for mutant in one.matrix.mutants}
    trials: list[Trial] = []
    kernels = []
    for mutant in mutants.values():
        said = [one for _, one in found if one.matrix.of(mutant)]
        best = next((one for one in said if one.matrix.fate(mutant) is not Fate.NOT_APPLICABLE), said[0])
        trials += best.matrix.of(mutant)
        kernels.append(best.about.kernel)
    matrix = KillMatrix(tuple(mutants.values()), tuple(trials), first.about.profile)
    about = replace(
        first.about,
        kernel=" and ".join(dict.fromkeys(kernels)),
        complete=any(one.about.complete for _, one in found),
        seconds=round(sum(one.about.seconds for _, one in found), 3),
    )
    exceptions = {key: said for _, one in found for key, said in one.exceptions.items()}
    judged = about.complete and about.profile not in PARTIAL
    return KillReport(
        about,
        matrix,
        uncovered(matrix, load_requirements(), exceptions) if judged else {},
        exceptions,
        tuple({choice.name: choice for _, one in found for choice in one.choices}.values()),
        tuple(hearing for _, one in found for hearing in one.hearings),
    )
