"""Verdicts: what a run found out about each requirement."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Verdict(enum.Enum):
    """In the order in which one hides another: a failure is never covered up by a pass."""

    ERROR = "ERROR"
    FAIL = "FAIL"
    PASS = "PASS"
    DECLINED = "DECLINED"
    NOT_APPLICABLE = "NOT-APPLICABLE"
    UNTESTED = "UNTESTED"


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """One test: its requirements, what came out, why, and the steps that show it."""

    __test__ = False  # pytest would take it for a test class

    test: str
    requirements: tuple[str, ...]
    verdict: Verdict
    reason: str = ""
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """The verdict on one requirement, with the outcomes that decided it."""

    requirement: str
    verdict: Verdict
    outcomes: tuple[TestOutcome, ...] = field(default=())


def judge(requirements: Iterable[str], outcomes: Iterable[TestOutcome]) -> list[RequirementResult]:
    """One result for each requirement; without an outcome it is UNTESTED."""
    by_requirement: dict[str, list[TestOutcome]] = {requirement: [] for requirement in requirements}
    for outcome in outcomes:
        for requirement in by_requirement.keys() & set(outcome.requirements):
            by_requirement[requirement].append(outcome)
    return [_judge_one(requirement, found) for requirement, found in by_requirement.items()]


def _judge_one(requirement: str, outcomes: list[TestOutcome]) -> RequirementResult:
    for verdict in Verdict:
        decisive = tuple(outcome for outcome in outcomes if outcome.verdict is verdict)
        if decisive:
            return RequirementResult(requirement, verdict, decisive)
    return RequirementResult(requirement, Verdict.UNTESTED)


def exit_code(results: Iterable[RequirementResult]) -> int:
    """0 conforms, 1 does not, 2 the harness failed, 3 nothing applicable ran."""
    verdicts = {result.verdict for result in results}
    if Verdict.ERROR in verdicts:
        return 2
    if Verdict.FAIL in verdicts:
        return 1
    return 0 if Verdict.PASS in verdicts else 3
