"""How a process that runs tests ends before they are done: SIGTERM, as Ctrl-C in pytest."""

from __future__ import annotations

import signal
from types import FrameType


def end_on_sigterm() -> None:
    """Raise KeyboardInterrupt on SIGTERM, once, so that pytest tears down what it set up."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
