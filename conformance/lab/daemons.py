"""Processes that a command leaves running when it ends, such as the server of a FUSE mount.

A command that becomes a daemon leaves no process id. This process becomes a subreaper (prctl(2)), so the kernel
makes it the parent of what the command leaves, whatever process group or session that has.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

from conformance.lab import namespace
from conformance.lab.descendants import children

_T = TypeVar("_T")
_PATIENCE: Final = 5.0  # seconds for a daemon to end by itself, and again when it was killed
_POLL: Final = 0.001
_LONGEST: Final = 0.05


def left_by(call: Callable[[], _T]) -> tuple[_T, frozenset[int]]:
    """What a call returns, and the ids of processes that it left running; it ends them itself if it raises.

    No other thread may start processes meanwhile. Where /proc is that of another PID namespace, nothing is found.
    """
    if namespace.process_id() != os.getpid():
        return call(), frozenset()
    namespace.set_subreaper(True)
    before = children()
    try:
        result = call()
    except BaseException:
        kill(children() - before)
        raise
    return result, frozenset(children() - before)


def wait(pids: Iterable[int]) -> None:
    """Wait for child processes to end, and end those that do not within five seconds."""
    if left := _waited(set(pids)):
        kill(left)


def kill(pids: Iterable[int]) -> None:
    """End child processes now."""
    left = set(pids)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _waited(left)


def _waited(left: set[int]) -> set[int]:
    """Reap what ends in time; what is left."""
    deadline, pause = time.monotonic() + _PATIENCE, _POLL
    while left:
        for pid in tuple(left):
            try:
                ended = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                ended = True
            if ended:
                left.discard(pid)
        if not left or time.monotonic() > deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
    return left
