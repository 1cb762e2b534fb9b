"""The worker, from the side that started it: its events become outcomes, and its failure a text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from conformance.cli.events import Listener
from conformance.results import TestOutcome


@dataclass(slots=True)
class Followed:
    """What a worker told until it ended; ``failure`` is empty if it ended well.

    The failure is the driver's, and not the harness's, with ``of_driver``: it cannot be reached or used.
    """

    outcomes: list[TestOutcome] = field(default_factory=list)
    opened: dict[str, Any] = field(default_factory=dict)
    failure: str = "the worker ended without a word"
    events: list[dict[str, Any]] = field(default_factory=list)
    of_driver: bool = False

    @property
    def complaint(self) -> str:
        """The failure, in the words of a command."""
        return f"overlay-conformance: {'' if self.of_driver else 'the harness failed: '}{self.failure}"


def follow(
    module: str,
    task: Mapping[str, Any],
    progress: Listener,
    prefix: Sequence[str] = (),
    heard: Callable[[], None] = lambda: None,
) -> Followed:
    """Start ``python -m MODULE`` with a task, behind a command prefix, and follow its events to the end.

    ``heard`` is called for each event that is none of a run's own, when it comes.
    """
    told = Followed()
    with _started(module, prefix) as worker:
        for event in _events(worker, task):
            match event.pop("event"):
                case "opened":
                    told.opened = event
                case "test":
                    progress.testing(event["name"])
                case "collected":
                    progress.expect(event["tests"])
                case "outcome":
                    told.outcomes.append(TestOutcome.from_json(event))
                    progress.ended(told.outcomes[-1])
                case "finished":
                    told.failure = ""
                    told.opened |= event
                case "failed":
                    told.failure = event["message"]
                    told.of_driver = event.get("of_driver", False)
                    break
                case _:
                    told.events.append(event)
                    heard()
    return told


@contextmanager
def _started(module: str, prefix: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*prefix, sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        yield worker


def _events(worker: subprocess.Popen[str], task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    assert worker.stdin is not None, "it was opened with a pipe"
    assert worker.stdout is not None, "it was opened with a pipe"
    try:
        # One that could not even start reads nothing; its end is what is told of it.
        with suppress(BrokenPipeError):
            worker.stdin.write(json.dumps(task))
        with suppress(BrokenPipeError):
            worker.stdin.close()
        for line in worker.stdout:
            yield json.loads(line)
    except BaseException:
        worker.kill()
        raise
