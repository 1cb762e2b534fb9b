"""Which tests a run collected, and what it has to say of those that reported no outcome.

A test that was begun and said nothing is no pass: its process died, or something ended pytest. Each such test is an
ERROR. What was never begun as the run was stopped on purpose is UNTESTED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from conformance.spec.verdicts import TestOutcome, Verdict


@dataclass(frozen=True, slots=True)
class Collected:
    """A test on a backing filesystem, and the requirements that it checks."""

    test: str
    requirements: tuple[str, ...]
    backing: str = ""

    def without_outcome(self, verdict: Verdict, reason: str) -> TestOutcome:
        """The outcome of a test that did not report one."""
        return TestOutcome(self.test, self.requirements, verdict, reason, backing=self.backing)


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one process of pytest collected.

    ``tests`` are those of this run by their node id. ``of_suite`` counts the tests that the suite has, selected or
    not, by backing filesystem and requirement.
    """

    tests: Mapping[str, Collected] = field(default_factory=dict)
    of_suite: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def without_outcome(
    tests: Iterable[Collected],
    outcomes: Iterable[TestOutcome],
    lost: Callable[[Collected], str],
    otherwise: str,
) -> list[TestOutcome]:
    """An outcome for each test that has none.

    ``lost`` says why a test is an ERROR, "" where it is not; what is no error is UNTESTED, for the reason
    ``otherwise``.
    """
    heard = {(one.test, one.backing) for one in outcomes}
    found = []
    for one in tests:
        if (one.test, one.backing) not in heard:
            reason = lost(one)
            found.append(one.without_outcome(Verdict.ERROR if reason else Verdict.UNTESTED, reason or otherwise))
    return found
