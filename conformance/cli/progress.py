"""How far a run is: a line that changes, on a terminal; in a pipe a line now and then, on standard error."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from conformance.harness.events import Collected, Event, Judged, Testing, Tried
from conformance.history.printable import one_line
from conformance.spec.verdicts import TestOutcome, Verdict

_TOLD = (Verdict.PASS, Verdict.FAIL, Verdict.XFAIL, Verdict.ERROR)
_BAD: Final = (Verdict.FAIL, Verdict.ERROR)
_EVERY: Final = 30.0  # seconds
PULSE: Final = 10.0  # seconds, of a run in a pipe


class Progress:
    """Follows a worker: how many tests there are, which is run, and what came of those that ended."""

    def __init__(
        self,
        console: Console,
        doing: str,
        pulse: Callable[[str], None] | None = None,
        every: float = PULSE,
        counted: str = "tests",
    ) -> None:
        """``pulse`` takes a line ``every`` so many seconds, where the console is no terminal."""
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
        self._ended: dict[tuple[str, str], Verdict] = {}  # by test and backing filesystem, over all rounds
        self._doing = doing
        self._tests = self._trials = 0
        self._every, self._counted = every, counted
        self._over = threading.Event()
        self._pulse = None if console.is_terminal else pulse
        # A thread, as a test may take longer than that, and tells nothing meanwhile.
        self._thread = threading.Thread(target=self._pulses, daemon=True)

    def __enter__(self) -> Self:
        self._bar.start()
        if self._pulse:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._over.set()
        if self._pulse:
            self._thread.join()

    def _pulses(self) -> None:
        began = time.monotonic()
        while self._pulse and not self._over.wait(self._every):
            done = len(self._ended) + self._trials
            ended = f"{done} of {self._tests} {self._counted}, " if self._tests else ""
            with suppress(OSError, ValueError):  # whoever read went away
                self._pulse(f"{time.monotonic() - began:.0f} s, {ended}{self._doing}")

    def say(self, text: str) -> None:
        """What is done now."""
        self._doing = one_line(text)
        self._bar.update(self._task, description=self._doing)

    def hear(self, event: Event) -> None:
        """Show how many tests there are, which one runs, and what came of those that ended."""
        match event:
            case Collected():
                self._bar.update(self._task, total=event.tests, completed=0)
                self._tests = event.tests
                self._ended.clear()
                self._trials = 0
            case TestOutcome():
                # With a budget a test is run in several rounds, and is one test; a later round cures no failure.
                key = (event.test, event.backing)
                if self._ended.get(key) not in _BAD:
                    self._ended[key] = event.verdict
                self._bar.update(self._task, completed=len(self._ended))
            case Tried() | Judged():
                self._trials += 1
                self._bar.advance(self._task)
            case Testing():
                found = Counter(self._ended.values())
                counts = ", ".join(f"{found[one]} {one.value}" for one in _TOLD if found[one])
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
