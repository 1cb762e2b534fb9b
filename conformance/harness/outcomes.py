"""What a test came to: its verdict, why, and what the failure can be repeated from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis.errors import FlakyFailure, FlakyStrategyDefinition

from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.harness.deviation import Deviation
from conformance.harness.selecting import name_of, place_of, requirements_of
from conformance.harness.skips import DECLINED, NOT_APPLICABLE, UNTESTED
from conformance.history.case import Case
from conformance.history.findings import Finding, InWords, NotDone
from conformance.history.printable import cut
from conformance.history.steps import History
from conformance.history.trace import example_heading
from conformance.spec.verdicts import TestOutcome, Verdict


def case_of(
    item: pytest.Item, driver: str, history: History, error: BaseException | None, reason: str
) -> dict[str, Any] | None:
    """What the failure of a test can be repeated from, as JSON; None if something in it has no form there."""
    case = Case(
        test=name_of(item),
        requirements=requirements_of(item),
        backing=place_of(item).backing,
        driver=driver,
        reason=cut(reason),
        drawn=tuple(history.drawn),
        steps=tuple(history.steps),
        finding=_finding(error),
        directory=place_of(item).directory,
    )
    try:
        return case.as_json()
    except TypeError:
        return None


def _finding(error: BaseException | None) -> Finding:
    if isinstance(error, Deviation):
        return error.finding
    return NotDone(str(error)) if isinstance(error, DriverRefused) else InWords()


def deviation_of(error: BaseException | None, first: Exception | None) -> Deviation | None:
    """The deviation that failed a test; of a flaky one, how it failed once (``first``, of a state machine)."""
    match error:
        case FlakyFailure():
            found = next((one for one in error.exceptions if isinstance(one, Deviation)), first)
        case FlakyStrategyDefinition():
            found = first
        case _:
            return error if isinstance(error, Deviation) else None
    return found if isinstance(found, Deviation) else None


def explained(
    error: BaseException | None, report: pytest.TestReport, first: Exception | None
) -> tuple[Verdict, str]:
    """A failure of the driver, or an error of the harness, in words; ``first`` is how the first example failed."""
    if isinstance(error, pytest.xfail.Exception):
        return Verdict.ERROR, f"pytest.xfail was called during the test, which the suite never does: {error}"
    if hasattr(report, "wasxfail"):
        return (Verdict.XFAIL if report.skipped else Verdict.XPASS), str(report.wasxfail)
    if report.outcome == "passed":
        return Verdict.PASS, ""
    if report.outcome == "skipped":
        return _skipped(report, error)
    match error:
        case Deviation():
            return Verdict.FAIL, str(error)
        case DriverFailed():
            return Verdict.FAIL, f"{error}\n{error.detail}".rstrip()
        case DriverRefused():
            return Verdict.FAIL, f"the driver refused a step that it must do: {error}"
        case FlakyFailure():
            said = "flaky: failed, and passed when the same steps were repeated"
            return Verdict.FAIL, f"{said}: {deviation_of(error, first) or error}\n{report.longreprtext}"
        case FlakyStrategyDefinition() if isinstance(first, (Deviation, DriverRefused, DriverFailed)):
            # Whatever the harness draws for a history follows from what it drew before, and how far that came.
            said = "flaky: failed, and failed differently when the same steps were repeated in a new store"
            return Verdict.FAIL, f"{said}: {first}\n{report.longreprtext}"
    return Verdict.ERROR, report.longreprtext


def _skipped(report: pytest.TestReport, error: BaseException | None) -> tuple[Verdict, str]:
    """What a skip means. A driver that runs in this process can raise one, too, and that is no verdict."""
    text = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    reason = text.removeprefix("Skipped: ")
    raised_in = _raised_in(error)
    if not raised_in and not {"skip", "skipif"} & set(report.keywords):
        return Verdict.ERROR, f"the test was skipped, and not by the suite: {reason}"
    if raised_in and not raised_in.startswith("conformance."):
        return Verdict.ERROR, f"the test was skipped by {raised_in}, and not by the suite: {reason}"
    if reason.startswith(DECLINED):
        return Verdict.DECLINED, reason
    if reason.startswith(NOT_APPLICABLE):
        return Verdict.NOT_APPLICABLE, reason
    if reason.startswith(UNTESTED):
        return Verdict.UNTESTED, reason
    if raised_in:
        return Verdict.ERROR, f"the test was skipped for a reason that is not one of the suite's: {reason}"
    return Verdict.UNTESTED, UNTESTED + reason  # a mark of whoever runs pytest


def _raised_in(error: BaseException | None) -> str:
    """The module that raised an error, but for pytest's own; "" if it is pytest's, as for a test with a mark."""
    frame, found = error.__traceback__ if error else None, ""
    while frame:
        known = frame.tb_frame.f_globals
        # A module that is run by "python -m" is called __main__, and has its own name in __spec__.
        name = str(getattr(known.get("__spec__"), "name", None) or known.get("__name__", "?"))
        if name.partition(".")[0] not in ("_pytest", "pytest", "pluggy", "unittest", "hypothesis"):
            found = name
        frame = frame.tb_next
    return found


def for_people(outcome: TestOutcome, *, minimal: bool = True) -> str:
    """The failure as pytest prints it: requirements, reason and trace, which is ``minimal`` if it was shrunk."""
    steps = [f"{number:5}. {step}" for number, step in enumerate(outcome.steps, 1)]
    lines = [f"{', '.join(outcome.requirements)} on {outcome.backing}", outcome.reason]
    return "\n".join([*lines, example_heading(minimal=minimal), *steps] if steps else lines)
