"""A process that can be killed with all that it started, and known to be gone."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from conformance.lab import libc, namespace


@dataclass(slots=True)
class Killable:
    """A process; ``code`` is its exit status when it has ended, negative for a signal."""

    _watcher: int
    _ended: int
    _asks: int
    code: int | None = None

    def wait(self, ready: Callable[[], bool], seconds: float = math.inf) -> bool:
        """Wait until something is so, the process has ended, or the time is up; whether it is so."""
        until = time.monotonic() + seconds
        while not (now := ready()) and not self.ends_within(0) and time.monotonic() < until:
            os.sched_yield()
        return now

    def ends_within(self, seconds: float) -> bool:
        """Whether the process ends by itself in so many seconds."""
        return bool(select.select([self._ended], [], [], seconds)[0])

    def join(self) -> int:
        """Wait until it ends by itself; its exit status."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self._watcher, 0)[1])
        return self.code

    def kill(self) -> None:
        """Kill it and all that it started. When this returns, they are gone."""
        with suppress(BrokenPipeError):  # it ended by itself
            os.write(self._asks, b"k")
        self.join()


@contextmanager
def killable(task: Callable[[], int], first: Callable[[], None] = lambda: None) -> Iterator[Killable]:
    """Do something in a process of its own, which is killed at the end at the latest.

    ``first`` is called in it and closes what it is not to share.

    It is in a PID namespace (pid_namespaces(7)), so that its init is gone only when all others are. Where there is
    none, only the process itself is killed.
    """
    hears, asks = os.pipe2(os.O_CLOEXEC)
    harness = os.getpid()
    watcher = os.fork()
    if watcher == 0:
        first()
        _run_to_the_end(lambda: _watch(task, hears, harness))
    os.close(hears)
    ended = os.pidfd_open(watcher)
    process = Killable(watcher, ended, asks)
    try:
        yield process
    finally:
        if process.code is None:
            process.kill()
        os.close(asks)
        os.close(ended)


def _watch(task: Callable[[], int], hears: int, harness: int) -> int:
    """Start the namespace, and wait until it ends or is to be killed."""
    namespace.die_with_parent(harness)
    try:
        libc.unshare(libc.CLONE_NEWPID)
        separate = True
    except OSError:
        separate = False
    init = os.fork()
    if init == 0:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        _run_to_the_end((lambda: _as_init(task)) if separate else task)
    ended = os.pidfd_open(init)
    if ended not in select.select([hears, ended], [], [])[0]:
        os.kill(init, signal.SIGKILL)
    return _code(init)


def _as_init(task: Callable[[], int]) -> int:
    """Signals that have no handler do not reach process 1 (pid_namespaces(7)), so the task is another one."""
    child = os.fork()
    if child == 0:
        _run_to_the_end(task)
    return _code(child)


def _code(process: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return 128 - code if code < 0 else code


def _run_to_the_end(task: Callable[[], int]) -> None:
    """Do it, and end this process with what it returns; 2 if it raises."""
    code = 2
    try:
        code = task()
    finally:
        os._exit(code)
