"""Processes that a worker leaves behind: the kernel makes them children of this process, which ends them.

A subreaper (prctl(2), PR_SET_CHILD_SUBREAPER) becomes the parent of every orphan among its descendants. So it finds
a daemon that a killed worker had started, whatever it is called.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from conformance.lab import namespace

_PATIENCE: Final = 10.0  # seconds for processes that were killed to end


def children() -> set[int]:
    """The ids of all child processes of this one (proc(5), PID/stat)."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                fields = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == os.getpid():
                    found.add(int(entry))
    return found


@contextmanager
def adopted() -> Iterator[None]:
    """Become the parent of orphans, and end all that came to be children meanwhile."""
    before = children()
    namespace.set_subreaper(True)
    try:
        yield
    finally:
        _end(before)
        namespace.set_subreaper(False)


def _end(but: set[int]) -> None:
    deadline = time.monotonic() + _PATIENCE
    # What one of them had started becomes ours when it ends.
    while (left := children() - but) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with suppress(ChildProcessError):
                while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                    time.sleep(0.002)  # one in an uninterruptible system call ends when that returns
