"""What a selftest leaves: JSON lines, from which its reports are made (kills.schema.json, docs/results.md).

A ``selftest`` line tells what was run, ``fault`` lines what is wrong with each driver, ``trial`` lines what became
of it with each seed, ``gap`` lines which requirements nothing breaks; ``different`` lines what a correct driver
chooses, ``hearing`` lines whether it conforms; and an ``end`` line how much there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from conformance.selftest.alarms import Choice, Hearing, Standing, false_alarms
from conformance.selftest.kills import Fate, KillMatrix, Specimen, Trial, uncovered
from conformance.spec import load_requirements
from conformance.spec.errors import BadFile
from conformance.spec.profiles import PARTIAL

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("kills.schema.json")
HALF: Final = 0.5


class BadKills(BadFile):
    """A file that is no result of a selftest; the text names the file, the line and what to do."""


@dataclass(frozen=True, slots=True)
class Selftest:
    """What was run. ``seconds`` is the wall clock, ``budget`` the seconds for each trial, ``basis`` MODULE:CLASS.

    With ``whole`` all tests of the profile were run on each driver, otherwise those of what it breaks or touches.
    ``complete`` says whether all mutants and all variants of the catalogues were tried.
    """

    suite: str
    specification: str
    basis: str
    version: str
    kernel: str
    machine: str
    profile: str
    examples: int
    seeds: tuple[int, ...]
    jobs: int
    budget: float
    whole: bool
    complete: bool
    started: str
    seconds: float


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
    def exit_code(self) -> int:
        """0 without a false alarm, a surviving mutant and a gap; in quick, if half of them are killed."""
        if self.false_alarms:
            return 1
        if self.about.profile in PARTIAL:
            return 0 if self.matrix.share >= HALF else 1
        return 1 if self.matrix.alive or self.gaps else 0


def lines_of(report: KillReport) -> list[str]:
    """The lines of the file."""
    matrix = report.matrix
    counts = {fate.value: sum(matrix.fate(one) is fate for one in matrix.mutants) for fate in Fate}
    records: list[dict[str, Any]] = [
        {"record": "selftest", "format": FORMAT, **asdict(report.about)},
        *({"record": "fault", **asdict(one)} for one in matrix.mutants),
        *({"record": "trial", **one.as_json()} for one in matrix.trials),
        *({"record": "gap", "requirement": one, "reason": said} for one, said in report.gaps.items()),
        *({"record": "exception", "requirement": one, "reason": said} for one, said in report.exceptions.items()),
        *({"record": "different", **one.as_json()} for one in report.choices),
        *({"record": "hearing", **one.as_json()} for one in report.hearings),
        {
            "record": "end",
            "trials": len(matrix.trials),
            "counts": counts,
            "hearings": len(report.hearings),
            "standings": {
                one.value: sum(hearing.standing is one for hearing in report.hearings) for one in Standing
            },
            "exit_code": report.exit_code,
        },
    ]
    return [json.dumps(record) for record in records]


def write(path: Path, report: KillReport) -> None:
    """Write the file, whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.write_text("".join(line + "\n" for line in lines_of(report)))
    beside.replace(path)


def read(path: Path) -> KillReport:
    """Back from :func:`write`; raises BadKills."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for line in path.read_text().splitlines():
            record = json.loads(line)
            found.setdefault(record.pop("record"), []).append(record)
        (about,), (end,) = found["selftest"], found["end"]
        if about.pop("format") != FORMAT:
            raise BadKills(f"{path}: the format is not {FORMAT}; use the version of the suite that wrote it")
        mutants = tuple(Specimen.from_json(one) for one in found.get("fault", []))
        trials = tuple(Trial.from_json(one) for one in found.get("trial", []))
        hearings = tuple(Hearing.from_json(one) for one in found.get("hearing", []))
        for kind, there in (("trials", trials), ("hearings", hearings)):
            if len(there) != end[kind]:
                raise BadKills(
                    f"{path}: expected {end[kind]} lines '{kind}', found {len(there)}: the file is truncated"
                )
        return KillReport(
            Selftest(**{**about, "seeds": tuple(about["seeds"])}),
            KillMatrix(mutants, trials, about["profile"]),
            {one["requirement"]: one["reason"] for one in found.get("gap", [])},
            {one["requirement"]: one["reason"] for one in found.get("exception", [])},
            tuple(Choice.from_json(one) for one in found.get("different", [])),
            hearings,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadKills(
            f"{path}: this is not a result file of a selftest ({type(error).__name__}: {error});"
            " 'overlay-conformance selftest --results FILE' writes one, docs/results.md describes it"
        ) from error


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
