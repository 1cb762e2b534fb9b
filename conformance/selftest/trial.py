"""One trial: the suite on one mutant or variant, in a process of its own, and what was seen of it.

The process writes a line for each outcome and each kill to a file in its scratch directory, which the process that
started it reads when it has ended, whatever ended it.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, assert_never

import pytest
from hypothesis import settings
from hypothesis.errors import HypothesisException

from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.harness import plugin as suite
from conformance.harness.deviation import Deviation
from conformance.harness.events import TRIAL, Kill, TrialEnded, TrialEvent, Tried
from conformance.harness.plugin import ConformancePlugin
from conformance.harness.selecting import requirements_of
from conformance.harness.skips import UNTESTED
from conformance.harness.task import Task
from conformance.harness.worker import ENDED_WELL, arguments
from conformance.history.case import Case
from conformance.history.encoding import encode
from conformance.history.steps import Did, Looked, Noted, Step
from conformance.operations.standard import STANDARD
from conformance.selftest.children import LOG, failure_of, print_to_log
from conformance.selftest.kills import is_own_defect
from conformance.spec import load_requirements
from conformance.spec.profiles import EXAMPLES
from conformance.spec.verdicts import TestOutcome, Verdict

_TOLD: Final = "told"
_COUNTED: Final = "conformance_counted"
# The tree that every chain of layers begins with, as it is drawn.
_BEGINNING: Final = encode(list(STANDARD))


@dataclass(frozen=True, slots=True)
class Job:
    """One trial: the driver, what it should break or is judged by, where, and what it needs of the host.

    With ``whole`` all tests of the profile are run, otherwise those of what it breaks, until all of that failed.
    With ``and_quick`` the tests of what it is judged by are run, and all tests of the profile quick.
    It is ended after ``budget`` seconds.
    """

    mutant: str
    connection: str
    breaks: tuple[str, ...]
    backing: str
    needs: str
    seed: int
    budget: float
    whole: bool = False
    and_quick: bool = False


def run(job: Job, profile: str, scratch: Path) -> None:
    """Try one driver in this process, which may be ended at any time. ``scratch`` is empty."""
    began = time.monotonic()
    print_to_log(scratch)
    selected = tuple(load_requirements()) if job.whole or job.and_quick else job.breaks
    wanted = Task(
        job.connection,
        str(scratch),
        os.getppid(),
        selected,
        profile,
        EXAMPLES[profile],
        job.seed,
        (job.backing,),
        preflight=False,  # a mutant is killed by what it is named for
    )
    (scratch / "round").mkdir()
    with (scratch / _TOLD).open("w", encoding="utf-8", buffering=1) as told:
        witness = _Witness(told, job, began)
        code = pytest.main(arguments(wanted, 0, scratch / "round"), plugins=[witness])
        sys.stdout.flush()
        failure = (
            "" if code in ENDED_WELL else f"pytest ended with {code!r}:\n{(scratch / LOG).read_text()[-4000:]}"
        )
        seconds = round(time.monotonic() - began, 3)
        _tell(told, TrialEnded(witness.lacking, failure, seconds))


def _tell(told: IO[str], event: TrialEvent) -> None:
    told.write(json.dumps(TRIAL.plain(event)) + "\n")


class _Witness:
    """Within pytest: notes what fails, when and how small, and ends a trial that has nothing more to show."""

    def __init__(self, told: IO[str], job: Job, began: float) -> None:
        self._told = told
        self._job = job
        self._began = began
        self._alive = set(job.breaks)
        self._suite: ConformancePlugin
        self._requirements: dict[str, tuple[str, ...]] = {}
        self._quick: set[str] = set()
        self._alive_in_quick = True
        self.lacking = ""

    def pytest_configure(self, config: pytest.Config) -> None:
        """Listen to the suite's plugin."""
        found = config.pluginmanager.get_plugin(suite.NAME)
        assert isinstance(found, ConformancePlugin), "pytest_entry registers it"
        self._suite = found
        found.on_outcome = self._note
        found.exit_status = False
        session = found.session
        if self._job.needs in session.lacking:
            self.lacking = session.lacking[self._job.needs]
        elif self._job.backing not in {place.backing for place in session.places}:
            self.lacking = next(
                (one for one in session.notes if one.startswith(self._job.backing)), session.notes[0]
            )

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The tests of what the mutant is named for come first; examples are counted."""
        if self._job.and_quick:
            about = set(self._job.breaks)
            items[:] = [item for item in items if about & set(requirements_of(item)) or _is_quick(item)]
            for item in items:
                if not about & set(requirements_of(item)):
                    _draw_as_in_quick(item)
        items.sort(key=lambda item: self._job.breaks[0] not in requirements_of(item))
        self._quick = {item.name for item in items if _is_quick(item)}
        for item in items:
            self._requirements[item.name] = requirements_of(item)
            self._count_examples(item)
        if self.lacking:
            items.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out what would only fail again, unless it says whether the profile quick kills the mutant."""
        wanted = self._alive & set(requirements_of(item))
        if self._alive_in_quick and _is_quick(item):
            wanted |= {self._job.breaks[0]} & set(requirements_of(item))
        if not self._job.whole and not self._job.and_quick and not wanted:
            pytest.skip(UNTESTED + "what it checks failed already")

    def _count_examples(self, item: pytest.Item) -> None:
        held = getattr(getattr(item, "obj", None), "hypothesis", None)
        if held is None or hasattr(held.inner_test, _COUNTED):
            return
        inner: Callable[..., None] = held.inner_test

        @functools.wraps(inner)
        def counted(*arguments_: Any, **words: Any) -> None:
            self._suite.tries.begin()
            try:
                inner(*arguments_, **words)
            except HypothesisException:
                raise
            except Exception as error:
                self._suite.tries.failed(error)
                raise

        counted.__dict__[_COUNTED] = True
        held.inner_test = counted

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """What fails first in this test is reported at once: shrinking it may take longer than there is."""
        self._suite.tries.on_failure = functools.partial(self._found, nodeid.rpartition("::")[2])

    def _found(self, test: str, error: Exception) -> None:
        if isinstance(error, (Deviation, DriverRefused, DriverFailed)) and not is_own_defect(str(error)):
            named = error.requirements if isinstance(error, Deviation) else ()
            requirements = named or self._requirements[test]
            self._tell_kill(requirements, test, time.monotonic(), None, False, 0, str(error))

    def _note(self, outcome: TestOutcome) -> None:
        _tell(self._told, _short(outcome))
        if outcome.verdict is not Verdict.FAIL or is_own_defect(outcome.reason):
            return
        self._alive -= set(outcome.requirements)
        drawn = (outcome.case or {}).get("drawn")
        steps = _steps_of(outcome)
        size = _operations(drawn) if drawn else sum(isinstance(one, Did) for one in steps)
        self._tell_kill(
            outcome.requirements,
            outcome.test,
            time.monotonic(),
            size,
            bool(drawn),
            len(steps),
            outcome.reason,
        )

    def _tell_kill(
        self,
        requirements: tuple[str, ...],
        test: str,
        now: float,
        size: int | None,
        drawn: bool,
        steps: int,
        reason: str,
    ) -> None:
        tries = self._suite.tries
        examples = max(1, tries.examples)
        quick = test in self._quick and examples <= EXAMPLES["quick"]
        kill = Kill(
            requirements,
            test,
            round((tries.failed_at or now) - self._began, 3),  # a test that draws nothing has no examples
            round(now - self._began, 3),
            examples,
            size,
            drawn,
            steps,
            (reason.strip().splitlines() or [""])[0][:500],
            quick,
        )
        if quick and self._job.breaks[0] in requirements:
            self._alive_in_quick = False
        _tell(self._told, kill)


def _draw_as_in_quick(item: pytest.Item) -> None:
    """With as few examples as that profile has; this process runs the test once."""
    test = getattr(item, "obj", None)
    if getattr(test, "is_hypothesis_test", False) and not hasattr(test, _COUNTED):
        settings(settings.get_profile("conformance"), max_examples=EXAMPLES["quick"])(test)
        setattr(test, _COUNTED, True)


def _is_quick(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(one) for one in ("smoke", "quick"))


def _steps_of(outcome: TestOutcome) -> list[Step]:
    """The steps of a failure, without those of the tree that every chain of layers begins with."""
    steps = Case.from_json(outcome.case).steps if outcome.case else ()
    return [
        one
        for one in steps
        if not isinstance(one, (Looked, Noted)) and not (isinstance(one, Did) and one.operation in STANDARD)
    ]


def _short(outcome: TestOutcome) -> TestOutcome:
    return replace(outcome, case=None, steps=(), kernel=(), reason=outcome.reason[-2000:])


def _operations(drawn: Any) -> int:
    """How many operations, entries and steps of a machine there are in what was drawn, as a case has it.

    The tree that every chain begins with is not counted.
    """
    if isinstance(drawn, Mapping):
        inner = sum(_operations(one) for one in drawn.values())
        return inner + 1 if "is" in drawn else inner
    if isinstance(drawn, Sequence) and not isinstance(drawn, str):
        if drawn == _BEGINNING:
            return 0
        return sum(_operations(one) for one in drawn)
    return 0


def read(job: Job, scratch: Path, status: int) -> Tried:
    """What a child left, with the reason if it did not end by itself; ``status`` is its wait status."""
    told = scratch / _TOLD
    outcomes: list[TestOutcome] = []
    kills: dict[str, Kill] = {}  # of each test the last word
    ended = TrialEnded("", "", job.budget)
    for line in told.read_text().splitlines() if told.exists() else ():
        try:
            event = TRIAL.value(json.loads(line))
        except json.JSONDecodeError:  # the last one, where the child was ended
            break
        match event:
            case TestOutcome():
                outcomes.append(event)
                if event.verdict is not Verdict.FAIL:
                    kills.pop(event.test, None)
            case Kill():
                kills[event.test] = event
            case TrialEnded():
                ended = event
            case None:
                raise ValueError(f"this is no event of a trial: {line}")
            case _:
                assert_never(event)
    failure = ended.failure or failure_of(scratch, status, job.budget)
    return Tried(
        job.mutant, job.seed, tuple(outcomes), tuple(kills.values()), ended.lacking, failure, ended.seconds
    )
