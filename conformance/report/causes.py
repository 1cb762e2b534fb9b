"""Failures that have the same cause: one block on a terminal, one row of a page.

The cause is a value of the outcome (conformance.spec.causes); here it becomes words, so that a run and a report
group alike. It never decides on a verdict. Two failures have one cause if the same call was answered in the same
wrong way, or trees differ in the same way. Failures that are like no other have the cause that their requirement is
violated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, assert_never

from conformance.report import earlier
from conformance.spec import LEVELS, Requirement
from conformance.spec.causes import Cause, CauseKind, TreeDifference
from conformance.spec.verdicts import TestOutcome, Verdict

EXPLAINED: Final = (Verdict.ERROR, Verdict.FAIL, Verdict.XPASS)
_OF_TREES: Final = {
    TreeDifference.UNEXPECTED: "deleted or hidden entries are visible",
    TreeDifference.MISSING: "entries are missing",
    TreeDifference.GHOST: "readdir lists names that lstat does not find",
    TreeDifference.UNLISTED: "lstat finds names that readdir does not list",
    TreeDifference.CONTENT: "content differs",
    TreeDifference.TARGET: "targets of symlinks differ",
    TreeDifference.DEVICE: "device numbers differ",
    TreeDifference.XATTRS: "extended attributes are lost or changed",
    TreeDifference.OWNER: "owners differ",
    TreeDifference.MODE: "modes differ",
    TreeDifference.LINKED: "hard links are separate files",
    TreeDifference.APART: "separate files are hard links",
    TreeDifference.ROUNDED: "times are rounded to whole seconds",
    TreeDifference.MTIME: "modification times differ",
}


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures of one cause; ``words`` name it, and ``outcomes`` are in the order in which they came."""

    number: int
    words: str
    outcomes: tuple[TestOutcome, ...] = field(default=())

    @property
    def requirements(self) -> tuple[str, ...]:
        """All requirements that they are charged to."""
        return tuple(dict.fromkeys(one for outcome in self.outcomes for one in outcome.requirements))

    def level(self, requirements: dict[str, Requirement]) -> str:
        """The highest level of its requirements."""
        found = {requirements[one].level for one in self.requirements if one in requirements}
        return next((level for level in LEVELS if level in found), "")


def causes_of(outcomes: Iterable[TestOutcome]) -> list[Failures]:
    """The causes of all failures, numbered in the order of their first; other outcomes are left out."""
    found: dict[str, list[TestOutcome]] = {}
    for outcome in outcomes:
        if outcome.verdict in EXPLAINED:
            found.setdefault(cause_of(outcome), []).append(outcome)
    return [Failures(number, words, tuple(same)) for number, (words, same) in enumerate(found.items(), 1)]


def cause_of(outcome: TestOutcome) -> str:
    """The cause of a failure in words, which are the same for the same cause."""
    match outcome.verdict:
        case Verdict.ERROR:
            return f"the harness failed in {outcome.test.partition('[')[0]}"
        case Verdict.XPASS:
            return f"{', '.join(outcome.requirements)}: the known failure did not occur"
    return _in_words(value_of(outcome), outcome.requirements)


def where_it_stood(outcome: TestOutcome) -> tuple[str, ...]:
    """Of a call that is not answered, the frames of the driver; what the kernel knows where there are none."""
    cause = value_of(outcome)
    return cause.where if cause.kind is CauseKind.UNANSWERED else ()


def value_of(outcome: TestOutcome) -> Cause:
    """The cause of a failure as a value, of earlier versions, too."""
    return outcome.cause or earlier.cause_of(outcome)


def _in_words(cause: Cause, requirements: tuple[str, ...]) -> str:
    call = cause.call or "a call"
    match cause.kind:
        case CauseKind.REQUIREMENT:
            return f"{', '.join(requirements)} is violated"
        case CauseKind.TREE:
            if cause.difference is None or cause.difference is TreeDifference.KIND:
                return f"a {cause.shown} is shown instead of a {cause.wanted}"
            return _OF_TREES[cause.difference]
        case CauseKind.REFUSED:
            return f"{call} is refused with {cause.error}"
        case CauseKind.ACCEPTED:
            family = requirements[0].split("-")[1].lower()
            return f"{call} is accepted where it must be refused ({family})"
        case CauseKind.DEFECT:
            return " in ".join([cause.error, *cause.where])
        case CauseKind.UNANSWERED:
            return cause.error
        case CauseKind.HOST_CHANGED:
            return "the host outside of the layer is changed"
        case CauseKind.LAYOUT:
            return "the home lacks files of its layout"
        case CauseKind.DIFF_NAMES:
            return "a diff names other entries than it should"
        case CauseKind.DIFF_SIZE:
            return "the size of a diff is wrong"
        case _:
            assert_never(cause.kind)
