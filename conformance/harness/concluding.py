"""What follows from how pytest ended: outcomes of tests that reported none, the exit status, and the last line."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

import pytest

from conformance.harness.collected import Collected, Inventory, without_outcome
from conformance.harness.skips import UNTESTED
from conformance.spec.verdicts import RequirementResult, TestOutcome, exit_code

_TO_THE_END: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


@dataclass(frozen=True, slots=True)
class Ended:
    """How pytest ended. ``stopped`` is by an option of pytest, such as -x; ``said`` is why, "" if nobody said."""

    status: int
    interrupted: bool
    stopped: bool = False
    said: str = ""


def unaccounted(
    inventory: Inventory, begun: Set[str], outcomes: Iterable[TestOutcome], ended: Ended
) -> list[TestOutcome]:
    """Outcomes of the tests that reported none; ``begun`` has the node ids of those that began."""
    names = {test: nodeid for nodeid, test in inventory.tests.items()}

    def lost(test: Collected) -> str:
        if ended.stopped or ended.interrupted:
            return ""
        if names[test] in begun:
            return "the test began and reported no outcome"
        as_usual = ended.status in _TO_THE_END
        return "the test never began, although pytest ended as if all tests had run" if as_usual else ""

    why = "the run was interrupted" if ended.interrupted else ended.said or "pytest ended before the test began"
    return without_outcome(inventory.tests.values(), outcomes, lost, UNTESTED + why)


def exit_status(
    inventory: Inventory | None, results: Iterable[RequirementResult], status: int, collected: int
) -> int:
    """That of ``overlay-conformance run``, which hides none of pytest's own (docs/exit-codes.md).

    ``collected`` counts all tests of the session.
    """
    code = exit_code(results)
    if inventory is None:
        return 2
    if code == 3:
        others = len(inventory.tests) != collected  # of another project, in the same session
        return status if others or status != pytest.ExitCode.OK else code
    return max(code, int(status))


def concluded(inventory: Inventory | None, results: Iterable[RequirementResult], ended: Ended) -> str:
    """What can be said of the driver."""
    if ended.interrupted:
        return "interrupted: no conclusion"
    code = exit_code(results)
    if inventory is None or (ended.status not in (*_TO_THE_END, 2, 3) and code != 1):
        return "the harness failed"
    # A claim needs the statement of a result file (conformance.report.statement), which pytest does not write.
    said = {0: "no deviation in the tested requirements", 1: "does not conform", 2: "the harness failed"}
    return said.get(code, "nothing applicable ran")
