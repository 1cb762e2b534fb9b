"""The result file: JSON lines, the only thing that reports are made from (docs/results.md, results.schema.json).

A ``run`` line tells what was run, ``outcome`` lines what came of each test, ``result`` lines the verdict on each
requirement, ``capability`` lines what host and driver can do, and an ``end`` line how many outcomes there were, so
that a file that was cut is known as one. Results and capabilities follow from the outcomes; they are in the file
for those who read it without this project.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, assert_never

from conformance.report.capabilities import CapabilityRow, capability_rows
from conformance.spec import Requirement, load_capabilities
from conformance.spec.errors import BadFile
from conformance.spec.lines import Form, Lines
from conformance.spec.profiles import PARTIAL, PROFILES
from conformance.spec.values import BadValue, Count, Key, RequirementId, Seconds
from conformance.spec.verdicts import (
    PREFLIGHT,
    RequirementResult,
    Share,
    TestOutcome,
    Verdict,
    exit_code,
    judge,
    shares_of,
)

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("results.schema.json")
INTERRUPTED: Final = "interrupted by "  # how the failure of a run begins that a signal ended
_IDENTITY: Final = (
    *("suite", "specification", "connection", "driver", "version"),
    *("kernel", "machine", "lane", "profile", "examples", "seed"),
)
_LISTS: Final = ("backings", "selected", "notes")


Digest = Annotated[str, Key(pattern="^[0-9a-f]{12}$")]


class BadResults(BadFile):
    """A result file that cannot be used; the text names the file, the line and what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was run, where and how.

    ``suite`` is the version of this project, ``specification`` a digest of the requirements that were judged by.
    ``lacking`` names capabilities of the host that are not there, ``declined`` those of the driver, with reasons.
    ``tests`` counts the tests that the suite has, in whatever profile, by filesystem and requirement. It is empty
    in files of earlier versions, as ``overlay`` is. ``seconds`` is the wall clock; ``failure`` is empty unless the
    harness failed.
    """

    suite: Annotated[str, Key("Version of overlay-conformance.")]
    specification: Annotated[
        Digest, Key("Digest of the requirements of the suite; results with different digests are not merged.")
    ]
    connection: Annotated[str, Key("Connection string of the driver: KIND:ARGUMENTS.")]
    driver: str
    version: str
    kernel: Annotated[str, Key("Release, as uname -r prints it.")]
    machine: str
    lane: Annotated[str, Key(among=("root", "user-namespace", "none"))]
    profile: Annotated[str, Key(among=PROFILES)]
    examples: Annotated[int, Key(minimum=1)]
    seed: int
    backings: Annotated[
        tuple[str, ...], Key("Backing filesystems; 'host' is that of the temporary directory.")
    ] = ()
    selected: tuple[RequirementId, ...] = ()
    declined: Annotated[Mapping[str, str], Key("Capability to reason, as the driver says.")] = field(
        default_factory=dict
    )
    lacking: Annotated[Mapping[str, str], Key("Capability to reason, of the host.")] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    started: Annotated[str, Key("ISO 8601, UTC.")] = ""
    seconds: Annotated[Seconds, Key("Wall clock.")] = 0.0
    failure: Annotated[
        str,
        Key("Empty unless the harness failed, or a signal ended the run: then it begins with 'interrupted by'."),
    ] = ""
    expression: Annotated[str, Key("The option -k, which left out tests; absent without it.", omitted=True)] = ""
    budget: Annotated[
        str, Key("The option --budget, as a duration or 'once'; absent without it.", omitted=True)
    ] = ""
    shrinks: Annotated[
        bool, Key("False with --no-shrink: examples are not minimal; else absent.", omitted=True)
    ] = True
    stopped: Annotated[
        str, Key("Why the run stopped before all tests ran: a limit of failures; else absent.", omitted=True)
    ] = ""
    overlay: Annotated[
        Mapping[str, str],
        Key(
            "Parameters of the kernel's module overlay (overlayfs.rst); absent in files of earlier versions.",
            later=True,
        ),
    ] = field(default_factory=dict)
    tests: Annotated[
        Mapping[str, Mapping[str, Annotated[int, Key(minimum=1)]]],
        Key(
            "Filesystem to requirement to the number of tests that the suite has, in whatever profile; absent in"
            " files of earlier versions.",
            later=True,
        ),
    ] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run, so that it is partial; ``failure`` names the signal."""
        return self.failure.startswith(INTERRUPTED)

    @property
    def is_partial(self) -> bool:
        """Whether the profile or -k left out tests, so that a requirement without a test is no finding."""
        return self.profile in PARTIAL or bool(self.expression)

    @property
    def id(self) -> str:
        """The same for all parts of one run: the same driver, kernel, profile and seed."""
        said = json.dumps([*(getattr(self, name) for name in _IDENTITY), *sorted(self.overlay.items())])
        return hashlib.sha256(said.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one requirement, over all filesystems of the run. It follows from the outcomes."""

    requirement: RequirementId
    verdict: Verdict
    ran: Annotated[
        Count | None,
        Key(
            "Tests of the requirement that ran, on all filesystems; absent where none reported an outcome, and in"
            " files of earlier versions.",
            omitted=True,
        ),
    ] = None
    tests: Annotated[
        Count | None,
        Key("Tests of the requirement that the suite has, on all filesystems; 0 if nobody counted.", omitted=True),
    ] = None


@dataclass(frozen=True, slots=True)
class End:
    """The end of a run."""

    outcomes: Annotated[Count, Key("How many outcomes the run has; a file with fewer is truncated.")]
    counts: Mapping[Verdict, Count]
    exit_code: Literal[0, 1, 2, 3]


Record = Run | TestOutcome | Result | CapabilityRow | End
_RUN: Final = {"run": Annotated[Digest, Key("The run that the record belongs to.")]}
LINES: Final[Lines[Record]] = Lines(
    "record",
    (
        Form("run", Run, {**_RUN, "format": Literal[1]}),
        # A case is in the evidence folder; what was cut became outcomes of its own (verdicts.with_cut_short).
        Form("outcome", TestOutcome, _RUN, without=("case", "cut", "held")),
        Form("result", Result, _RUN),
        Form("capability", CapabilityRow, _RUN),
        Form("end", End, _RUN),
    ),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One run and its outcomes."""

    run: Run
    outcomes: tuple[TestOutcome, ...]

    @property
    def to_judge(self) -> tuple[str, ...]:
        """The requirements that were selected; none where the run ended with the preflight, or before it."""
        ended = not self.outcomes if self.run.failure else any(one.test == PREFLIGHT for one in self.outcomes)
        return () if ended else self.run.selected

    def results(self) -> list[RequirementResult]:
        """One verdict for each requirement that was to be judged, or that an outcome is about."""
        said = [one for outcome in self.outcomes for one in outcome.requirements]
        results = judge(dict.fromkeys([*self.to_judge, *sorted(set(said))]), self.outcomes)
        if self.run.is_partial:
            results = [result for result in results if result.outcomes]
        return results

    def capabilities(self) -> list[CapabilityRow]:
        """What host and driver can do."""
        return capability_rows(self.run.declined, self.run.lacking, self.outcomes, load_capabilities())

    def noting(self, *notes: str) -> Part:
        """The same with further notes."""
        return replace(self, run=replace(self.run, notes=(*self.run.notes, *notes))) if notes else self

    def shares(self) -> dict[str, Share]:
        """How many of its tests ran for each requirement, over all filesystems of the run."""
        counts: Counter[str] = Counter()
        for of_backing in self.run.tests.values():
            counts.update(of_backing)
        return shares_of(self.outcomes, counts)

    @property
    def exit_code(self) -> Literal[0, 1, 2, 3]:
        """What the command exits with (docs/exit-codes.md)."""
        return 2 if self.run.failure else exit_code(self.results())


def digest_of(requirements: Mapping[str, Requirement]) -> str:
    """Which specification it is: two that ask for the same have the same digest."""
    said = sorted((one.id, one.level, one.sentence) for one in requirements.values())
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


def lines_of(parts: Iterable[Part]) -> list[str]:
    """The lines of a result file, the same for the same parts in whatever order."""
    lines: list[str] = []
    for part in sorted(parts, key=lambda one: one.run.id):
        lines += [json.dumps(record) for record in _records_of(part)]
    return lines


def write(path: Path, parts: Iterable[Part]) -> None:
    """Write a result file, whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.write_text("".join(line + "\n" for line in lines_of(parts)))
    beside.replace(path)


def _records_of(part: Part) -> list[dict[str, Any]]:
    lists: dict[str, Any] = {name: tuple(sorted(set(getattr(part.run, name)))) for name in _LISTS}
    part = Part(replace(part.run, **lists), part.outcomes)
    name = part.run.id
    outcomes = sorted(part.outcomes, key=lambda one: (one.backing, one.test))
    results, shares = part.results(), part.shares()
    counts = {verdict: sum(one.verdict is verdict for one in results) for verdict in Verdict}
    records: list[Record] = [*outcomes, *(_result(one, shares.get(one.requirement)) for one in results)]
    records += [*part.capabilities(), End(len(outcomes), counts, part.exit_code)]
    run = LINES.plain(part.run, run=name, format=FORMAT)
    return [run, *(LINES.plain(one, run=name) for one in records)]


def _result(result: RequirementResult, share: Share | None) -> Result:
    return Result(result.requirement, result.verdict, *((share.ran, share.tests) if share else ()))


def read(path: Path) -> list[Part]:
    """The parts of a result file; raises BadResults."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadResults(f"{path}: {error}") from error
    return parts_of(lines, str(path))


def parts_of(lines: Iterable[str], path: str) -> list[Part]:
    """The parts of the lines of a result file, which messages call ``path``; raises BadResults."""
    runs: dict[str, Run] = {}
    outcomes: dict[str, list[TestOutcome]] = {}
    ended: set[str] = set()
    for number, line in enumerate(lines, 1):
        try:
            _take(json.loads(line), runs, outcomes, ended)
        except BadResults as error:
            raise BadResults(f"{path}, line {number}: {error}") from error
        except (ValueError, BadValue) as error:
            raise BadResults(
                f"{path}, line {number}: this is not a line of a result file ({error});"
                " 'overlay-conformance run --results FILE' writes one, docs/results.md describes it"
            ) from error
    if not runs or runs.keys() - ended:
        raise BadResults(
            f"{path}: the file is truncated: a run has no line 'end'; run it again, or copy the file again"
        )
    return [Part(run, tuple(outcomes[name])) for name, run in runs.items()]


def _take(said: object, runs: dict[str, Run], outcomes: dict[str, list[TestOutcome]], ended: set[str]) -> None:
    if not isinstance(said, dict):
        raise BadValue("it is no object")
    fields = dict(said)
    kind, name = fields.get("record"), fields.pop("run", None)
    if kind == "run" and fields.pop("format", None) != FORMAT:
        raise BadResults(f"the format is not {FORMAT}; use the version of the suite that wrote it")
    if not isinstance(name, str) or (kind != "run" and name not in runs):
        raise BadValue("run has to name a run of a line above")
    record = LINES.value(fields)
    match record:
        case Run():
            if record.id != name:
                raise BadResults(f"the run is named {name}, but its id is {record.id}: the file was edited")
            runs[name], outcomes[name] = record, []
        case TestOutcome():
            outcomes[name].append(record)
        case End():
            if record.outcomes != len(outcomes[name]):
                raise BadResults(
                    f"{record.outcomes} outcomes expected, found {len(outcomes[name])}: the file is truncated"
                )
            ended.add(name)
        case Result() | CapabilityRow():
            pass  # they follow from the outcomes
        case None:
            raise BadResults(f"a record called {kind!r}; use the version of the suite that wrote it")
        case _:
            assert_never(record)


def merge(files: Sequence[tuple[str, Sequence[Part]]]) -> list[Part]:
    """One result out of several, each with its name for the message; raises BadResults if they do not agree.

    Parts of one run (the same driver, kernel, profile and seed) are joined, whatever requirements and filesystems
    each was about; different runs stay apart.
    """
    _check_specification(files)
    joined: dict[str, Part] = {}
    came_from: dict[str, str] = {}
    for name, parts in files:
        for part in parts:
            before = joined.get(part.run.id)
            joined[part.run.id] = _joined(before, part, came_from[part.run.id], name) if before else part
            came_from[part.run.id] = name
    _check_declined(joined.values())
    return list(joined.values())


def _check_specification(files: Sequence[tuple[str, Sequence[Part]]]) -> None:
    known: dict[str, str] = {}
    for name, parts in files:
        for part in parts:
            known.setdefault(part.run.specification, f"{name} (version {part.run.suite})")
    if len(known) > 1:
        said = " and ".join(known.values())
        raise BadResults(f"{said} were judged by different requirements; run both with one version of the suite")


def _check_declined(parts: Iterable[Part]) -> None:
    known: dict[tuple[str, str], Run] = {}
    for part in parts:
        run = part.run
        other = known.setdefault((run.connection, run.version), run)
        if dict(other.declined) != dict(run.declined):
            differing = sorted(set(other.declined.items()) ^ set(run.declined.items()))
            raise BadResults(
                f"{run.connection} {run.version} declines other capabilities in one run than in another:"
                f" {', '.join(dict(differing))}; is it the same driver?"
            )


def _joined(one: Part, other: Part, first: str, second: str) -> Part:
    twice = {(outcome.test, outcome.backing) for outcome in one.outcomes} & {
        (outcome.test, outcome.backing) for outcome in other.outcomes
    }
    if twice:
        test, backing = sorted(twice)[0]
        raise BadResults(
            f"{first} and {second} both hold {test} on {backing} of one run ({len(twice)} such tests); name each"
            " file once, and give each job its own requirements or filesystems"
        )
    changes: dict[str, Any] = {}
    for name in _LISTS:
        changes[name] = tuple(sorted({*getattr(one.run, name), *getattr(other.run, name)}))
    both = one.run.lacking.keys() & other.run.lacking.keys()
    changes["lacking"] = {name: one.run.lacking[name] for name in sorted(both)}
    changes["started"] = min(one.run.started, other.run.started)
    changes["seconds"] = round(one.run.seconds + other.run.seconds, 3)
    changes["tests"] = {
        backing: {**one.run.tests.get(backing, {}), **other.run.tests.get(backing, {})}
        for backing in sorted({*one.run.tests, *other.run.tests})
    }
    changes["failure"] = "\n".join(text for text in (one.run.failure, other.run.failure) if text)
    for name in ("expression", "stopped", "budget"):
        changes[name] = "; ".join(
            dict.fromkeys(text for text in (getattr(one.run, name), getattr(other.run, name)) if text)
        )
    changes["shrinks"] = one.run.shrinks and other.run.shrinks
    same = {slot.name: getattr(one.run, slot.name) for slot in fields(Run) if slot.name not in changes}
    return Part(Run(**same, **changes), one.outcomes + other.outcomes)
