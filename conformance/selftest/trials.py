"""The process that tries mutants: it imports everything once, and forks a child for each trial.

A mutant may replace functions of the driver, change directories or end its process, so each has a process of its
own, in mounts of its own. It reads its task from standard input and writes events to standard output, as
conformance.harness.worker does, whose tests these are.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
from dataclasses import dataclass
from pathlib import Path

from conformance import suites
from conformance.drivers.registry import connect, kind_of
from conformance.harness.channel import Channel
from conformance.harness.events import Collected, Finished, Testing
from conformance.harness.selecting import load_settings
from conformance.harness.serving import serve
from conformance.lab import namespace
from conformance.selftest import trial
from conformance.selftest.children import Children
from conformance.selftest.mutants import basis
from conformance.selftest.trial import Job
from conformance.spec.profiles import EXAMPLES


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
    kind_of("python")  # which imports its adapter
    for found in pkgutil.iter_modules(suites.__path__, f"{suites.__name__}."):
        importlib.import_module(found.name)
    package = importlib.import_module(task.basis.partition(":")[0])
    for found in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    basis.basis()
    gc.collect()
    gc.freeze()  # children need not look through what was imported, nor copy its pages


def _try_all(task: Trials, events: Channel) -> None:
    children: Children[Job] = Children(
        Path(task.scratch),
        budget=lambda job: job.budget,
        enter=events.close,
        run=lambda job, scratch: trial.run(job, task.profile, scratch),
    )
    events.tell(Collected(len(task.jobs)))
    for job, scratch, status in children.each(
        task.jobs, task.at_a_time, lambda job: events.tell(Testing(job.mutant))
    ):
        events.tell(trial.read(job, scratch, status))


if __name__ == "__main__":
    main()
