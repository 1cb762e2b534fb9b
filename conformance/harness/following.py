"""The worker, from the side that started it: its events become outcomes, and its failure a text.

The worker is the first process of a session of its own, so that Ctrl-C at a terminal reaches this process only, and
one signal to its process group reaches everything that it started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import IO, Any, Final, Protocol, assert_never

from conformance.harness.channel import event_of, new_token
from conformance.harness.collected import Collected as CollectedTest
from conformance.harness.collected import Inventory, without_outcome
from conformance.harness.events import (
    Collected,
    Compared,
    Event,
    Examined,
    Failed,
    Finished,
    Judged,
    Opened,
    Testing,
    Tried,
)
from conformance.harness.interruption import Interruption
from conformance.harness.observation import Observation
from conformance.harness.validating.values import Check, Timing
from conformance.history.printable import cut, printable
from conformance.lab import descendants
from conformance.spec.values import BadValue, as_plain
from conformance.spec.verdicts import TestOutcome

_GRACE: Final = 10.0  # seconds for a worker to tear down what it set up
_LOOK: Final = 0.5  # seconds after which a worker that ended is seen, where another process holds its pipe
_CHUNK: Final = 1 << 16
_SHOWN: Final = 500  # characters of a line that is no event
# What else is installed beside the suite neither changes a verdict nor takes time.
_NO_OTHER_PLUGINS: Final = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HYPOTHESIS_NO_PLUGINS": "1"}


class Listener(Protocol):
    """Who hears of a run as it goes."""

    def hear(self, event: Event) -> None:
        """One event of the worker."""


@dataclass(slots=True)
class Followed:
    """What a worker told until it ended; ``failure`` is empty if it ended well.

    The failure is the driver's, and not the harness's, with ``of_driver``: it cannot be reached or used.

    ``interrupted`` is the signal that ended it, for people, "" if none did. ``tried``, ``examined``, ``compared``,
    ``checks``, ``timings`` and ``observations`` are the answers of the workers of single verbs.
    """

    outcomes: list[TestOutcome] = field(default_factory=list)
    opened: Opened | None = None
    failure: str = ""
    interrupted: str = ""
    tried: list[Tried] = field(default_factory=list)
    examined: Examined | None = None
    compared: Compared | None = None
    checks: list[Check] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    inventory: Inventory = field(default_factory=Inventory)
    begun: set[str] = field(default_factory=set)
    finished: Finished | None = None
    of_driver: bool = False  # the failure is the driver's, and not the harness's

    @property
    def complaint(self) -> str:
        """The failure, in the words of a command."""
        return f"{'' if self.of_driver else 'the harness failed: '}{self.failure}"

    def account(self) -> None:
        """Give an outcome to each test that reported none, where the worker did not come to an end."""
        if not self.failure:
            return
        why = "the run was interrupted" if self.interrupted else "the run ended before the test began"

        def lost(one: CollectedTest) -> str:
            return f"the run ended in this test: {self.failure}" if one.test in self.begun else ""

        if self.interrupted:
            self.begun.clear()
        tests = self.inventory.tests.values()
        self.outcomes += without_outcome(tests, self.outcomes, lost, f"untested: {why}")


def follow(
    module: str,
    task: object,
    progress: Listener,
    prefix: Sequence[str] = (),
    interruption: Interruption | None = None,
) -> Followed:
    """Start ``python -m MODULE`` with a task, behind a command prefix, and follow its events to the end.

    It starts by conformance.harness.starting. ``progress`` hears each event when it comes. Nothing that the
    worker started runs afterwards. A signal ends the worker; raises Interrupted then, unless the verb deferred
    signals.
    """
    told, token = Followed(), new_token()
    noting = interruption.deferred() if interruption else nullcontext()
    with noting, descendants.adopted(), _started(module, prefix) as worker:
        for line in _lines(worker, f"{token}\n{json.dumps(as_plain(task))}", told, interruption):
            try:
                event = event_of(line, token)
            except (ValueError, BadValue) as error:
                shown = cut(line.decode("utf-8", "backslashreplace"), _SHOWN)
                told.failure = f"the worker wrote a line that is not an event ({error}): {printable(shown)}"
                break
            if event is not None:  # None is of no type that this version knows
                _take(event, told, progress)
    if told.interrupted:
        told.failure = f"interrupted by {told.interrupted}"
        if interruption:
            interruption.end_if_at_once()
    elif not told.failure and not told.finished:
        told.failure = f"the worker {_ended_how(worker.returncode)} before it reported the end of the run"
    return told


def _take(event: Event, told: Followed, progress: Listener) -> None:
    match event:
        case Opened():
            told.opened = event
        case Testing():
            told.begun.add(event.test)
        case Collected():
            told.begun.clear()
            told.inventory = event.inventory or told.inventory
        case TestOutcome():
            told.outcomes.append(event)
            told.begun.discard(event.test)
        case Tried():
            told.tried.append(event)
        case Judged():
            pass  # the listener keeps it
        case Examined():
            told.examined = event
        case Compared():
            told.compared = event
        case Check():
            told.checks.append(event)
        case Timing():
            told.timings.append(event)
        case Observation():
            told.observations.append(event)
        case Finished():
            told.finished = event
        case Failed():
            told.failure = told.failure or event.message or "the worker failed and gave no reason"
            told.of_driver = event.of_driver
        case _:
            assert_never(event)
    progress.hear(event)


def _ended_how(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"


class Worker(Protocol):
    """A worker process, as of ``subprocess.Popen``: the first of its session, with pipes that have no buffer."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """Where it reads its task."""

    @property
    def stdout(self) -> IO[bytes] | None:
        """Where it writes its events."""

    @property
    def returncode(self) -> int | Any:
        """Its exit status, or minus the signal that ended it; None as long as it was not waited for."""

    def poll(self) -> int | None:
        """Its returncode, None if it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Its returncode; raises subprocess.TimeoutExpired after ``timeout`` seconds."""


def start(module: str, prefix: Sequence[str]) -> AbstractContextManager[Worker]:
    """The process of ``python -m MODULE``, behind a command prefix; waited for at the end of the context."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "conformance.harness.starting", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """The environment of a worker."""
    return {**os.environ, **_NO_OTHER_PLUGINS}


@contextmanager
def _started(module: str, prefix: Sequence[str]) -> Iterator[Worker]:
    with start(module, prefix) as worker:
        try:
            yield worker
        finally:
            if worker.poll() is None:  # it is not to write below the scratch directory while that is removed
                with suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)


def _lines(worker: Worker, task: str, told: Followed, interruption: Interruption | None) -> Iterator[bytes]:
    """The lines that a worker writes, until it ended or closed its pipe; ends it when a signal came."""
    assert worker.stdin is not None, "it was opened with a pipe"
    assert worker.stdout is not None, "it was opened with a pipe"
    # One that could not even start reads nothing; how it ended is reported then.
    with suppress(BrokenPipeError):
        worker.stdin.write(task.encode())
    with suppress(BrokenPipeError):
        worker.stdin.close()
    waited: list[Any] = [worker.stdout, *([interruption] if interruption else [])]
    begun, deadline = b"", float("inf")
    while True:
        ready, _, _ = select.select(waited, [], [], _LOOK)
        if interruption in ready and interruption:
            interruption.seen()
            deadline = _end(worker, told, interruption)
        if time.monotonic() > deadline:
            return
        if worker.stdout in ready:
            said = os.read(worker.stdout.fileno(), _CHUNK)
            if not said:
                break
            *whole, begun = (begun + said).split(b"\n")
            yield from whole
        elif worker.poll() is not None:
            break
    if begun:
        yield begun  # cut: not an event, and not silence
    with suppress(subprocess.TimeoutExpired):
        worker.wait(_GRACE)


def _end(worker: Worker, told: Followed, interruption: Interruption) -> float:
    """Ask the worker to end on the first signal, and make it end on the second; until when to wait for it."""
    if interruption.insisted:
        return 0.0
    told.interrupted = interruption.words
    interruption.say(f"interrupted by {told.interrupted}; stopping the driver (interrupt again to kill it)")
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGTERM)
    return time.monotonic() + _GRACE
