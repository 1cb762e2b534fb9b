"""Concurrent tests: after pytest has collected, it forks processes, and each takes one test after another.

A fork has everything that was imported and collected, so it begins at once. Tests that draw examples take the
longest and are handed out first, so that no process works alone on a long test at the end.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Final, NoReturn, TypeVar

import pytest

from conformance.lab import namespace

_Item = TypeVar("_Item")
_GRACE: Final = 10.0  # seconds for a process to tear down what its test set up

Enter = Callable[[str], Callable[[], None]]  # given a process's name, makes it ready; the answer undoes that


@dataclass(frozen=True, slots=True)
class _Started:
    """A process began a test."""

    nodeid: str
    location: tuple[str, int | None, str]


@dataclass(frozen=True, slots=True)
class _Reported:
    """A phase of a test ended: a report as pytest_report_to_serializable gives it."""

    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A process can take the next test."""


@dataclass(slots=True)
class _Process:
    """A forked process and the test that it was given, by its place in the session, None before the first one."""

    pid: int
    connection: Connection
    test: int | None = None


class _Telling:
    """In a forked process: sends what happens in its tests to the process that hands them out."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """A test begins."""
        self._connection.send(_Started(nodeid, location))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a test ended."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._connection.send(_Reported(data))


def longest_first(items: Iterable[_Item], draws: Callable[[_Item], bool]) -> list[int]:
    """The places of tests in the order in which they are handed out: those that draw examples come first."""
    return sorted((number for number, _ in enumerate(items)), key=[not draws(one) for one in items].__getitem__)


def run_shared(session: pytest.Session, jobs: int, order: Iterable[int], enter: Enter) -> None:
    """Run the tests of a session in ``jobs`` processes; pytest hears of each report as if it were its own.

    A test whose process ends within it has a failed report, and another process goes on. Raises what pytest's own
    loop raises when a limit of failures ends the run.
    """
    waiting, numbers = deque(order), itertools.count()
    processes: dict[Connection, _Process] = {}
    gc.freeze()  # a collection in a fork would copy every page that it looks at
    try:
        while True:
            while len(processes) < min(jobs, len(processes) + len(waiting)) and not _stops(session):
                started = _forked(session, f"job{next(numbers)}", processes, enter)
                processes[started.connection] = started
            if not processes:
                break
            for ready in wait(list(processes)):
                assert isinstance(ready, Connection), "nothing else is waited for"
                if not _heard(session, processes[ready], waiting):
                    _buried(session, processes.pop(ready))
    except BaseException:
        for one in processes.values():
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGTERM)
        raise
    finally:
        for one in processes.values():
            _reaped(one)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def _stops(session: pytest.Session) -> bool:
    return bool(session.shouldfail or session.shouldstop)


def _heard(session: pytest.Session, process: _Process, waiting: deque[int]) -> bool:
    """Take one message of a process; False if it has ended."""
    config = session.config
    try:
        message = process.connection.recv()
        match message:
            case _Started(nodeid, location):
                config.hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
            case _Reported(data):
                report = config.hook.pytest_report_from_serializable(config=config, data=data)
                config.hook.pytest_runtest_logreport(report=report)
            case _Ready():
                process.test = waiting.popleft() if waiting and not _stops(session) else None
                process.connection.send(process.test)
    except (EOFError, ConnectionError):
        return False
    return True


def _buried(session: pytest.Session, process: _Process) -> None:
    """Reap a process that ended. If it was in a test, that test failed by it."""
    status = _reaped(process)
    if process.test is None:
        return
    item = session.items[process.test]
    how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
    said = f"the process that ran {item.nodeid} {how}"
    session.config.hook.pytest_runtest_logreport(
        report=pytest.TestReport(item.nodeid, item.location, {}, "failed", said, "call")
    )


def _reaped(process: _Process) -> int:
    """The exit status of a process that ends, negative for a signal; kills it if it takes too long.

    Its end of the connection closes when it ends. Whatever it still says is of no test that counts.
    """
    deadline = time.monotonic() + _GRACE
    try:
        while process.connection.poll(max(0.0, deadline - time.monotonic())):
            process.connection.recv_bytes()
        os.kill(process.pid, signal.SIGKILL)
    except (EOFError, OSError):
        pass
    process.connection.close()
    _, status = os.waitpid(process.pid, 0)
    return os.waitstatus_to_exitcode(status)


def _forked(session: pytest.Session, name: str, others: Iterable[Connection], enter: Enter) -> _Process:
    ours, theirs = Pipe()
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return _Process(pid, ours)
    status = 1
    try:
        namespace.die_with_parent(parent)
        for one in (ours, *others):
            one.close()
        _work(session, name, theirs, enter)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _end(status)


def _end(status: int) -> NoReturn:
    """End a fork, and do nothing that its parent does at its own end."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _work(session: pytest.Session, name: str, connection: Connection, enter: Enter) -> None:
    config = session.config
    leave = enter(name)
    try:
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(_Telling(config, connection))
        while True:
            connection.send(_Ready())
            number = connection.recv()
            if number is None:
                return
            # Nobody knows which test comes after it, so everything is torn down.
            config.hook.pytest_runtest_protocol(item=session.items[number], nextitem=None)
    finally:
        leave()
