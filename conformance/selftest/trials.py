"""The process that tries mutants: it imports everything once, and forks a child for each trial.

A mutant may replace functions of the driver, change directories or end its process, so each has a process of its
own, in mounts of its own. It reads its task from standard input and writes events to standard output, as
conformance.harness.worker does, whose tests these are.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
import shutil
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, assert_never

import pytest
from hypothesis.errors import HypothesisException

from conformance import suites
from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.drivers.registry import connect
from conformance.harness import plugin as suite
from conformance.harness.channel import Channel
from conformance.harness.deviation import Deviation
from conformance.harness.events import TRIAL, Collected, Finished, Kill, Testing, TrialEnded, TrialEvent, Tried
from conformance.harness.plugin import ConformancePlugin
from conformance.harness.selecting import load_settings, requirements_of
from conformance.harness.serving import serve
from conformance.harness.skips import UNTESTED
from conformance.harness.task import Task
from conformance.harness.worker import ENDED_WELL, arguments
from conformance.history.case import Case
from conformance.history.encoding import encode
from conformance.history.steps import Did, Looked, Noted, Step
from conformance.lab import namespace
from conformance.operations.standard import STANDARD
from conformance.selftest.kills import is_own_defect
from conformance.selftest.mutants import basis
from conformance.spec import load_requirements
from conformance.spec.profiles import EXAMPLES
from conformance.spec.verdicts import TestOutcome, Verdict

_TOLD: Final = "told"
_LOG: Final = "log"
_COUNTED: Final = "conformance_counted"
# The tree that every chain of layers begins with, as it is drawn.
_BEGINNING: Final = encode(list(STANDARD))


@dataclass(frozen=True, slots=True)
class Job:
    """One trial: the driver, what it should break or is judged by, where, and what it needs of the host.

    With ``whole`` all tests of the profile are run, otherwise those of what it breaks, until all of that failed.
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


@dataclass(frozen=True, slots=True)
class Trials:
    """What the controller asks for; ``basis`` is the correct driver, MODULE:CLASS."""

    scratch: str
    parent: int
    basis: str
    jobs: tuple[Job, ...]
    profile: str
    at_a_time: int


def main() -> None:
    """Try all; exits with 0 when all events are reported, whatever they say."""
    serve(Trials, _run)


def _run(task: Trials, events: Channel) -> None:
    namespace.enter_pid_namespace()  # so that nothing outlives it
    os.environ[basis.BASIS] = task.basis
    _import_everything(task)
    _try_all(task, events)
    source = connect(f"python:{task.basis}")
    events.tell(Finished(version=source.info.version))
    source.close()


def _import_everything(task: Trials) -> None:
    """What each child would import otherwise: the tests, the correct driver and the mutants."""
    load_settings(EXAMPLES[task.profile])  # before the tests, which take them when they are imported
    for found in pkgutil.iter_modules(suites.__path__, f"{suites.__name__}."):
        importlib.import_module(found.name)
    package = importlib.import_module(task.basis.partition(":")[0])
    for found in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    basis.basis()


def _try_all(task: Trials, events: Channel) -> None:
    waiting, running = deque(enumerate(task.jobs)), dict[int, tuple[Job, Path]]()
    events.tell(Collected(len(task.jobs)))
    while waiting or running:
        while waiting and len(running) < task.at_a_time:
            number, job = waiting.popleft()
            scratch = Path(task.scratch) / f"trial-{number}"
            scratch.mkdir()
            events.tell(Testing(job.mutant))
            running[_started(task, job, scratch, events)] = job, scratch
        child, said = _ended()
        job, scratch = running.pop(child)
        events.tell(_read(job, scratch, said))
        shutil.rmtree(scratch)


def _started(task: Trials, job: Job, scratch: Path, events: Channel) -> int:
    """A child for one trial, the first of a process group, which the kernel ends when its time is up."""
    server = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        events.close()
        os.setsid()
        signal.setitimer(signal.ITIMER_REAL, job.budget)  # SIGALRM is not handled: the process ends
        namespace.die_with_parent(server)
        _try(task, job, scratch)
        os._exit(0)
    except BaseException:
        with suppress(OSError), (scratch / _LOG).open("a") as log:
            traceback.print_exc(file=log)
        os._exit(1)


def _ended() -> tuple[int, int]:
    """Wait for a child; its process id and status. What it started and left is ended with it."""
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    assert found is not None, "a child runs"
    with suppress(ProcessLookupError):
        os.killpg(found.si_pid, signal.SIGKILL)
    return os.waitpid(found.si_pid, 0)


def _read(job: Job, scratch: Path, status: int) -> Tried:
    """What a child left, with the reason if it did not end by itself."""
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
    failure = ended.failure
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        failure = f"it was ended after {job.budget:.0f} s (--budget)"
    elif status and not failure:
        failure = f"its process ended with status {status}:\n{(scratch / _LOG).read_text()[-4000:]}"
    return Tried(
        job.mutant, job.seed, tuple(outcomes), tuple(kills.values()), ended.lacking, failure, ended.seconds
    )


def _tell(told: IO[str], event: TrialEvent) -> None:
    told.write(json.dumps(TRIAL.plain(event)) + "\n")


def _try(task: Trials, job: Job, scratch: Path) -> None:
    began = time.monotonic()
    log = os.open(scratch / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    selected = tuple(load_requirements()) if job.whole else job.breaks
    wanted = Task(
        job.connection,
        str(scratch),
        os.getppid(),
        selected,
        task.profile,
        EXAMPLES[task.profile],
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
            "" if code in ENDED_WELL else f"pytest ended with {code!r}:\n{(scratch / _LOG).read_text()[-4000:]}"
        )
        seconds = round(time.monotonic() - began, 3)
        _tell(told, TrialEnded(witness.lacking, failure, seconds))


class _Witness:
    """Within pytest: notes what fails, when and how small, and ends a trial that has nothing more to show."""

    def __init__(self, told: IO[str], job: Job, began: float) -> None:
        self._told = told
        self._job = job
        self._began = began
        self._alive = set(job.breaks)
        self._suite: ConformancePlugin
        self._requirements: dict[str, tuple[str, ...]] = {}
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
        items.sort(key=lambda item: self._job.breaks[0] not in requirements_of(item))
        for item in items:
            self._requirements[item.name] = requirements_of(item)
            self._count_examples(item)
        if self.lacking:
            items.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out what would only fail again."""
        if not self._job.whole and not self._alive & set(requirements_of(item)):
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
        kill = Kill(
            requirements,
            test,
            round((tries.failed_at or now) - self._began, 3),  # a test that draws nothing has no examples
            round(now - self._began, 3),
            max(1, tries.examples),
            size,
            drawn,
            steps,
            (reason.strip().splitlines() or [""])[0][:500],
        )
        _tell(self._told, kill)


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


if __name__ == "__main__":
    main()
