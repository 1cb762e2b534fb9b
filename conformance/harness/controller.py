"""A run, from the side that started it: the worker process is followed, and the kernel's log is read beside it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from conformance.harness.following import Followed, Listener, follow
from conformance.harness.interruption import Interruption
from conformance.harness.task import Task
from conformance.lab import kernellog
from conformance.spec import health
from conformance.spec.verdicts import TestOutcome, Verdict, with_cut_short


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run came to. Every test that was to run has an outcome, whatever became of the worker."""

    told: Followed
    outcomes: tuple[TestOutcome, ...]
    started: datetime.datetime
    seconds: float


def judge(task: Task, listener: Listener, interruption: Interruption | None) -> Judged:
    """Run the suite as a task says. Raises Interrupted, unless the verb deferred signals."""
    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    with _health(task.selected) as fared:
        told = follow("conformance.harness.worker", task, listener, interruption=interruption)
        told.account()
        told.outcomes += [one for one in fared(told) if not told.of_driver or one.verdict is Verdict.FAIL]
    outcomes = with_cut_short(told.outcomes, task.selected)
    return Judged(told, tuple(outcomes), started, round(time.monotonic() - began, 3))


@contextmanager
def _health(requirements: Iterable[str]) -> Iterator[Callable[[Followed], list[TestOutcome]]]:
    """What tells, of a run, how the kernel has fared since: a failure always, else if it was asked for."""
    wanted = health.REQUIREMENT in requirements
    why_not = kernellog.why_not()
    if why_not:
        yield lambda _: [health.unknown(why_not)] if wanted else []
        return
    log = kernellog.KernelLog()

    def fared(told: Followed) -> list[TestOutcome]:
        backings = told.opened.backings if told.opened else ()
        outcome = health.judged(
            log.of_the_kernel(), log.newly_tainted(), told.outcomes, backings[0] if len(backings) == 1 else ""
        )
        return [outcome] if wanted or outcome.verdict is Verdict.FAIL else []

    try:
        yield fared
    finally:
        log.close()
