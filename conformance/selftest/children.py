"""Forked children, each of which does one piece of work in a process group of its own, with a time limit.

The parent has imported everything once, so that a child starts at once. A driver under test may end its process,
change directories or leave processes behind; the child takes all of that with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Generic, TypeVar

from conformance.lab import namespace

LOG: Final = "log"  # in the scratch directory of a child: what it printed, and its traceback

_Work = TypeVar("_Work")


class Children(Generic[_Work]):
    """What the children do: ``run`` gets the work and a scratch directory of its own, which is removed afterwards.

    ``budget`` says after how many seconds a child is ended; ``enter`` is called in each child first.
    """

    def __init__(
        self,
        scratch: Path,
        *,
        budget: Callable[[_Work], float],
        enter: Callable[[], None],
        run: Callable[[_Work, Path], None],
    ) -> None:
        self._scratch = scratch
        self._budget = budget
        self._enter = enter
        self._run = run

    def each(
        self, work: Sequence[_Work], jobs: int, begun: Callable[[_Work], None] = lambda _: None
    ) -> Iterator[tuple[_Work, Path, int]]:
        """Do all of it, ``jobs`` concurrently; work, scratch directory and wait status, as children end."""
        waiting, running = deque(enumerate(work)), dict[int, tuple[_Work, Path]]()
        while waiting or running:
            while waiting and len(running) < jobs:
                number, one = waiting.popleft()
                directory = self._scratch / f"trial-{number}"
                directory.mkdir()
                begun(one)
                running[self._started(one, directory)] = one, directory
            child, status = _ended()
            one, directory = running.pop(child)
            yield one, directory, status
            shutil.rmtree(directory)

    def _started(self, work: _Work, scratch: Path) -> int:
        parent = os.getpid()
        child = os.fork()
        if child:
            return child
        try:
            self._enter()
            os.setsid()
            signal.setitimer(signal.ITIMER_REAL, self._budget(work))  # SIGALRM is not handled: the process ends
            namespace.die_with_parent(parent)
            self._run(work, scratch)
            os._exit(0)
        except BaseException:
            with suppress(OSError), (scratch / LOG).open("a") as log:
                traceback.print_exc(file=log)
            os._exit(1)


def _ended() -> tuple[int, int]:
    """Wait for a child; its process id and status. What it started and left is ended with it."""
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    assert found is not None, "a child runs"
    with suppress(ProcessLookupError):
        os.killpg(found.si_pid, signal.SIGKILL)
    return os.waitpid(found.si_pid, 0)


def print_to_log(scratch: Path) -> None:
    """Let what this process and its children print go to the log of a scratch directory."""
    log = os.open(scratch / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)


def failure_of(scratch: Path, status: int, budget: float) -> str:
    """Why a child did not end by itself, from its wait status; "" if it did."""
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return f"it was ended after {budget:.0f} s (--budget)"
    if status:
        log = scratch / LOG
        said = log.read_text(errors="backslashreplace")[-4000:] if log.exists() else ""
        return f"its process ended with status {status}:\n{said}"
    return ""
