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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import click

from conformance.cli.base import say_error
from conformance.cli.events import Listener
from conformance.cli.interruption import Interruption
from conformance.harness.channel import event_of, new_token
from conformance.harness.collected import Collected, Inventory, without_outcome
from conformance.history.printable import cut, printable
from conformance.lab import descendants
from conformance.spec.verdicts import TestOutcome

_GRACE: Final = 10.0  # seconds for a worker to tear down what it set up
_LOOK: Final = 0.5  # seconds after which a worker that ended is seen, where another process holds its pipe
_CHUNK: Final = 1 << 16
_SHOWN: Final = 500  # characters of a line that is no event


@dataclass(slots=True)
class Followed:
    """What a worker told until it ended; ``failure`` is empty if it ended well.

    The failure is the driver's, and not the harness's, with ``of_driver``: it cannot be reached or used.

    ``interrupted`` is the signal that ended it, for people, "" if none did.
    """

    outcomes: list[TestOutcome] = field(default_factory=list)
    opened: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    interrupted: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    inventory: Inventory = field(default_factory=Inventory)
    begun: set[str] = field(default_factory=set)
    ended: bool = False
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

        def lost(one: Collected) -> str:
            return f"the run ended in this test: {self.failure}" if one.test in self.begun else ""

        if self.interrupted:
            self.begun.clear()
        tests = self.inventory.tests.values()
        self.outcomes += without_outcome(tests, self.outcomes, lost, f"untested: {why}")


def follow(
    module: str,
    task: Mapping[str, Any],
    progress: Listener,
    prefix: Sequence[str] = (),
    heard: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Followed:
    """Start ``python -m MODULE`` with a task, behind a command prefix, and follow its events to the end.

    ``heard`` is called with each event that is none of a run's own, when it comes. Nothing that the worker started
    runs afterwards. A signal ends the worker; raises Interrupted then, unless the verb deferred signals.
    """
    told, token = Followed(), new_token()
    context = click.get_current_context(silent=True)
    interruption = context.find_object(Interruption) if context else None
    noting = interruption.deferred() if interruption else nullcontext()
    with noting, descendants.adopted(), _started(module, prefix) as worker:
        for line in _lines(worker, f"{token}\n{json.dumps(task)}", told, interruption):
            try:
                _take(event_of(line, token), told, progress, heard)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                shown = cut(line.decode("utf-8", "backslashreplace"), _SHOWN)
                told.failure = f"the worker wrote a line that is not an event ({error}): {printable(shown)}"
                break
    if told.interrupted:
        told.failure = f"interrupted by {told.interrupted}"
        if interruption:
            interruption.end_if_at_once()
    elif not told.failure and not told.ended:
        told.failure = f"the worker {_ended_how(worker.returncode)} before it reported the end of the run"
    return told


def _take(
    event: dict[str, Any], told: Followed, progress: Listener, heard: Callable[[Mapping[str, Any]], None]
) -> None:
    match event.pop("event"):
        case "opened":
            told.opened = event
        case "test":
            told.begun.add(event["name"])
            progress.testing(event["name"])
        case "collected":
            told.begun.clear()
            if "inventory" in event:
                told.inventory = Inventory.from_json(event["inventory"])
            progress.expect(event["tests"])
        case "outcome":
            outcome = TestOutcome.from_json(event)
            told.outcomes.append(outcome)
            told.begun.discard(outcome.test)
            progress.ended(outcome)
        case "finished":
            told.ended = True
            told.opened |= event
        case "failed":
            told.failure = told.failure or str(event["message"]) or "the worker failed and gave no reason"
            told.of_driver = bool(event.get("of_driver", False))
        case _:
            told.events.append(event)
            heard(event)


def _ended_how(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"


@contextmanager
def _started(module: str, prefix: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*prefix, sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as worker:
        try:
            yield worker
        finally:
            if worker.poll() is None:  # it is not to write below the scratch directory while that is removed
                with suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)


def _lines(
    worker: subprocess.Popen[bytes], task: str, told: Followed, interruption: Interruption | None
) -> Iterator[bytes]:
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


def _end(worker: subprocess.Popen[bytes], told: Followed, interruption: Interruption) -> float:
    """Ask the worker to end on the first signal, and make it end on the second; until when to wait for it."""
    if interruption.insisted:
        return 0.0
    told.interrupted = interruption.words
    say_error(f"interrupted by {told.interrupted}; stopping the driver (interrupt again to kill it)")
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGTERM)
    return time.monotonic() + _GRACE
