"""Verdicts: what a run found out about each requirement."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from conformance.spec import LEVELS, Requirement
from conformance.spec.causes import Cause
from conformance.spec.values import Key, RequirementId, Seconds


class Verdict(enum.Enum):
    """In the order in which one hides another: a failure is never covered up by a pass.

    ERROR is the harness's own; XFAIL a failure that is known and expected, XPASS one that was expected and did
    not come, which is a failure; DECLINED what the driver says it does not do; NOT-APPLICABLE what this kernel,
    filesystem or privilege level cannot show; UNTESTED what did not run.
    """

    ERROR = "ERROR"
    FAIL = "FAIL"
    XPASS = "XPASS"
    XFAIL = "XFAIL"
    PASS = "PASS"
    DECLINED = "DECLINED"
    NOT_APPLICABLE = "NOT-APPLICABLE"
    UNTESTED = "UNTESTED"


PREFLIGHT: Final = "preflight"  # the name of the test that is the preflight (conformance.harness.preflight)
# What did not run hides what passed besides: half of the tests of a requirement are no pass.
_BY_WEIGHT: Final = (
    *(Verdict.ERROR, Verdict.FAIL, Verdict.XPASS, Verdict.XFAIL, Verdict.UNTESTED),
    *(Verdict.PASS, Verdict.DECLINED, Verdict.NOT_APPLICABLE),
)
_RAN: Final = (Verdict.ERROR, Verdict.FAIL, Verdict.XPASS, Verdict.XFAIL, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """One test on one filesystem; with a budget, one round of it.

    ``seconds`` is the time that it took, ``driver_seconds`` that part of it which was the driver's or the
    kernel's. ``kernel`` is what the kernel's log said meanwhile; ``facts`` is what was seen where the requirements
    leave it open, such as which of two errors came. ``case`` is what a failure can be repeated from
    (see conformance.history.case); ``evidence`` is the folder that it was written to, relative to the result file.
    ``shrink_seconds`` is the part of the time in which a failing example was shrunk.
    ``cut`` are requirements of the test that it did not judge, because it failed by ``requirements`` first.
    ``held`` are those that hold all the same, as it went on to its end.
    """

    __test__ = False  # pytest would take it for a test class

    test: str
    requirements: Annotated[tuple[RequirementId, ...], Key(least=1)]
    verdict: Verdict
    reason: Annotated[str, Key("Expected against found, for people; empty for PASS.")] = ""
    steps: Annotated[tuple[str, ...], Key("The trace of the minimal example.")] = ()
    backing: str = ""
    seconds: Seconds = 0.0
    driver_seconds: Annotated[Seconds, Key("The part of the time that was spent in the driver or the kernel.")] = (
        0.0
    )
    kernel: Annotated[tuple[str, ...], Key("New warnings of the kernel's log during the test.")] = ()
    facts: Annotated[
        tuple[str, ...],
        Key(
            "Observations where the requirements leave a choice, such as which of two errors occurred.", later=True
        ),
    ] = ()
    case: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    evidence: Annotated[
        str,
        Key("Folder with the evidence of a failure, relative to the result file; empty if there is none."),
    ] = ""
    cut: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    cause: Annotated[
        Cause | None,
        Key("The kind of a failure; absent elsewhere, and in files of earlier versions.", omitted=True),
    ] = None
    shrink_seconds: Annotated[
        Seconds,
        Key("The part of the time after the first failing example: it was shrunk; absent for 0.", omitted=True),
    ] = 0.0


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """The verdict on one requirement, with the outcomes that decided it."""

    requirement: str
    verdict: Verdict
    outcomes: tuple[TestOutcome, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Share:
    """How many tests of a requirement ran, of how many that the suite has; a test counts on each filesystem.

    ``tests`` is 0 where nobody counted, as in result files of earlier versions.
    """

    ran: int
    tests: int

    def words(self, profile: str) -> str:
        """For people, such as "1 of 3 tests, profile smoke"; "" where nobody counted."""
        if not self.tests:
            return ""
        if self.ran < self.tests:
            return f"{self.ran} of {self.tests} tests, profile {profile}"
        return "1 test" if self.tests == 1 else f"{self.tests} tests"


NOT_COUNTED: Final = Share(0, 0)


def shares_of(outcomes: Iterable[TestOutcome], counts: Mapping[str, int]) -> dict[str, Share]:
    """The share of each requirement that an outcome is of; ``counts`` says how many tests each has."""
    ran: dict[str, set[tuple[str, str]]] = {}
    for one in outcomes:
        for requirement in one.requirements:
            found = ran.setdefault(requirement, set())
            if one.verdict in _RAN:
                found.add((one.test, one.backing))
    return {
        requirement: Share(len(found), max(counts[requirement], len(found)) if counts.get(requirement) else 0)
        for requirement, found in ran.items()
    }


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a requirement with several; UNTESTED if there is none."""
    found = set(verdicts)
    return next((one for one in _BY_WEIGHT if one in found), Verdict.UNTESTED)


def totals(
    verdicts: Mapping[str, Verdict], requirements: Mapping[str, Requirement]
) -> dict[str, dict[Verdict, int]]:
    """How many requirements of each level have which verdict, each once: what every report counts."""
    found = {level: dict.fromkeys(Verdict, 0) for level in LEVELS}
    for name, verdict in verdicts.items():
        found[requirements[name].level][verdict] += 1
    return {
        level: {verdict: count for verdict, count in counts.items() if count} for level, counts in found.items()
    }


def judge(requirements: Iterable[str], outcomes: Iterable[TestOutcome]) -> list[RequirementResult]:
    """One result for each requirement; without an outcome it is UNTESTED."""
    by_requirement: dict[str, list[TestOutcome]] = {requirement: [] for requirement in requirements}
    for outcome in outcomes:
        for requirement in by_requirement.keys() & set(outcome.requirements):
            by_requirement[requirement].append(outcome)
    return [_judge_one(requirement, found) for requirement, found in by_requirement.items()]


def with_cut_short(outcomes: Iterable[TestOutcome], selected: Iterable[str]) -> list[TestOutcome]:
    """The outcomes, and one for each selected requirement that only tests which failed by another were about.

    Such a test judges nothing else, unless it went on to its end: the requirement is UNTESTED, and the reason names
    the failure, or PASS.
    """
    found = list(outcomes)
    judged = {requirement for outcome in found for requirement in outcome.requirements}
    wanted = set(selected) - judged
    cut = {requirement: outcome for outcome in found for requirement in outcome.cut if requirement in wanted}
    held = {requirement: outcome for outcome in found for requirement in outcome.held if requirement in wanted}
    return [
        *found,
        *(_cut_short(requirement, outcome) for requirement, outcome in cut.items() if requirement not in held),
        *(_held(requirement, outcome) for requirement, outcome in held.items()),
    ]


def _cut_short(requirement: str, outcome: TestOutcome) -> TestOutcome:
    said = f"{outcome.test} failed on {', '.join(outcome.requirements)}, and did not test this requirement"
    return TestOutcome(outcome.test, (requirement,), Verdict.UNTESTED, said, backing=outcome.backing)


def _held(requirement: str, outcome: TestOutcome) -> TestOutcome:
    return TestOutcome(outcome.test, (requirement,), Verdict.PASS, backing=outcome.backing)


def _judge_one(requirement: str, outcomes: list[TestOutcome]) -> RequirementResult:
    # A test that did not run in one round, or was before another, did run. One that never ran is no pass.
    ran = {outcome.test for outcome in outcomes if outcome.verdict is not Verdict.UNTESTED}
    outcomes = [one for one in outcomes if one.verdict is not Verdict.UNTESTED or one.test not in ran]
    for verdict in _BY_WEIGHT:
        decisive = tuple(outcome for outcome in outcomes if outcome.verdict is verdict)
        if decisive:
            return RequirementResult(requirement, verdict, decisive)
    return RequirementResult(requirement, Verdict.UNTESTED)


def exit_code(results: Iterable[RequirementResult]) -> Literal[0, 1, 2, 3]:
    """0 conforms, 1 does not, 2 the harness failed, 3 nothing applicable ran."""
    verdicts = {result.verdict for result in results}
    if Verdict.ERROR in verdicts:
        return 2
    if verdicts & {Verdict.FAIL, Verdict.XPASS}:
        return 1
    return 0 if verdicts & {Verdict.PASS, Verdict.XFAIL} else 3


def share_in_driver(outcomes: Iterable[TestOutcome]) -> float:
    """Which part of the time of all tests the driver or the kernel took, 0 to 1; 0 if no time was taken."""
    found = list(outcomes)
    total = sum(outcome.seconds for outcome in found)
    return sum(outcome.driver_seconds for outcome in found) / total if total else 0.0
