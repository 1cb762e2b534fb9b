"""A stored case, tried on a driver again: by ``replay``, and by a file of pytest that ``report`` exported."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.harness.events import Event
from conformance.harness.following import Listener, follow
from conformance.harness.interruption import Interruption
from conformance.harness.task import Task
from conformance.history.case import Case
from conformance.lab.backing import HOST
from conformance.lab.scratch import scratch_directory
from conformance.spec.verdicts import PREFLIGHT, TestOutcome, Verdict


def check(case: Mapping[str, Any], driver: str) -> None:
    """Fail while a driver deviates in a case (the object of case.json), within a test of any project.

    Raises AssertionError with the deviation and the steps, RuntimeError if the case could not be tried, and BadCase.
    """
    stored = Case.from_json(case)
    with scratch_directory(None) as directory:
        verdict, reason = tried(stored, driver, directory, _Silent())
    if verdict == "STILL":
        steps = "\n".join(f"{number:4}. {step}" for number, step in enumerate(stored.trace, 1))
        raise AssertionError(f"{', '.join(stored.requirements)}: {reason}\nSteps:\n{steps}")
    if verdict != "FIXED":
        raise RuntimeError(reason)


class _Silent:
    def hear(self, event: Event) -> None:
        """Nobody watches."""


def tried(
    stored: Case, driver: str, directory: Path, listener: Listener, interruption: Interruption | None = None
) -> tuple[str, str]:
    """Try a case once in a scratch directory: FIXED, STILL or ERROR, and why. Raises Interrupted."""
    task = _task(stored, driver, directory)
    told = follow("conformance.harness.worker", task, listener, interruption=interruption)
    return answer(told.outcomes, told.failure, stored)


def _task(stored: Case, driver: str, directory: Path) -> Task:
    backings = () if stored.backing in ("", HOST) else (stored.backing,)
    return Task(
        driver,
        str(directory),
        os.getpid(),
        stored.requirements,
        "release",  # so that no test is left out; only the case's own is run
        1,
        int(datetime.datetime.now(datetime.UTC).timestamp()),  # nothing is drawn
        backings,
        replay={stored.test: stored.as_json()["drawn"]},
        unshrunk=stored.requirements,
        replay_only=True,
    )


def answer(outcomes: Sequence[TestOutcome], failure: str, stored: Case) -> tuple[str, str]:
    """FIXED, STILL or ERROR, and why."""
    if failure:
        return "ERROR", failure
    early = [one for one in outcomes if one.test == PREFLIGHT]
    if early and not set(early[0].requirements) & set(stored.requirements):
        return "ERROR", early[0].reason
    if stored.test == PREFLIGHT and not early:
        return "FIXED", ""
    if not outcomes:
        return "ERROR", f"this version of the suite has no test {stored.test}; use the version that wrote the case"
    for outcome in outcomes:
        if outcome.verdict is Verdict.FAIL:
            return "STILL", outcome.reason
        if outcome.verdict is not Verdict.PASS:
            return "ERROR", outcome.reason
    return "FIXED", ""
