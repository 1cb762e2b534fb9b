"""Ctrl-C, SIGTERM and SIGHUP, which end a command with the exit status 128 and their number, and leave nothing.

Most verbs have nothing to report of half of their work. They end at once: :class:`Interrupted` is raised where the
signal arrives, and the verb cleans up on the way out. ``run`` reports what it judged: within
:meth:`Interruption.deferred` the first signal is only noted, and the loop that waits for the worker sees it. The
second signal kills the worker. The third has its default action.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMES: Final = {signal.SIGINT: "SIGINT (Ctrl-C)", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Interrupted(SystemExit):
    """The command ends with the exit status of a signal; SystemExit, so that nothing takes it for a failure."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(128 + number)
        self.number = number


class Interruption:
    """Which signal came, if one did, and a descriptor that can be read from then on."""

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        self.say = say  # to people
        self.signal: signal.Signals | None = None
        self.insisted = False  # a second one came
        self._deferred = False
        self._read, self._written = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def words(self) -> str:
        """The signal for people, "" if none came."""
        return _NAMES[self.signal] if self.signal else ""

    def fileno(self) -> int:
        """For select(2): readable when a signal came, until :meth:`seen`."""
        return self._read

    def seen(self) -> None:
        """Wait for the next signal from now on."""
        while True:
            try:
                os.read(self._read, 64)
            except BlockingIOError:
                return

    def end_if_at_once(self) -> None:
        """Raise Interrupted if a signal came and is not deferred by a verb."""
        if self.signal is not None and not self._deferred:
            raise Interrupted(self.signal)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note signals."""
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Interrupted where the first signal arrives, although signals are deferred around this."""
        before, self._deferred = self._deferred, False
        try:
            yield
        finally:
            self._deferred = before

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals, but for those that whoever started us told us to ignore, as nohup does."""
        before = {one: signal.getsignal(one) for one in SIGNALS}
        for one, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(one, self._handle)
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
            os.close(self._read)
            os.close(self._written)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        os.write(self._written, b"!")
        if self.signal is not None:
            self.insisted = True
            for one in SIGNALS:
                signal.signal(one, signal.SIG_DFL)
            return
        self.signal = signal.Signals(number)
        if not self._deferred:
            raise Interrupted(self.signal)
