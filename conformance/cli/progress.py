"""How far a run is: a line that changes, on a terminal; in a pipe nothing, or a line every half minute."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from conformance.harness.events import Collected, Event, Judged, Testing, Tried
from conformance.history.printable import one_line
from conformance.spec.verdicts import TestOutcome, Verdict

_TOLD = (Verdict.PASS, Verdict.FAIL, Verdict.XFAIL, Verdict.ERROR)
_EVERY: Final = 30.0  # seconds


class Progress:
    """Follows a worker: how many tests there are, which is run, and what came of those that ended."""

    def __init__(self, console: Console, doing: str) -> None:
        self._bar = Bar(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(doing, total=None)
        self._counts: Counter[Verdict] = Counter()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """What is done now."""
        self._bar.update(self._task, description=one_line(text))

    def hear(self, event: Event) -> None:
        """Show how many tests there are, which one runs, and what came of those that ended."""
        match event:
            case Collected():
                self._bar.update(self._task, total=event.tests, completed=0)
            case TestOutcome():
                self._counts[event.verdict] += 1
                self._bar.advance(self._task)
            case Tried() | Judged():
                self._bar.advance(self._task)
            case Testing():
                counts = ", ".join(f"{self._counts[one]} {one.value}" for one in _TOLD if self._counts[one])
                self.say(f"{counts}  {event.test}" if counts else event.test)


class Milestones:
    """How far a selftest is, for a log: a line when a trial ends, but at most one every half minute."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._began = self._last = clock()
        self._total = self._ended = 0

    def hear(self, event: Event) -> None:
        """Count the trials that ended."""
        match event:
            case Collected():
                self._total = event.tests
            case Tried():
                self._ended += 1
                if (now := self._clock()) - self._last >= _EVERY:
                    self._last = now
                    self._say(f"{self._ended} of {self._total} trials in {now - self._began:.0f} s")
