"""The process of a Python driver, from the side of the harness; host.py is the other side.

What comes back is not trusted: it is parsed as JSON, bounded, and its types are checked. A process that died or
does not answer is ended, with all that it started, and the next opening has a new one.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from conformance.drivers.processes import state_of
from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused, ProcessState
from conformance.drivers.python.host import LOST, MOST, STACK
from conformance.lab.namespace import process_id
from conformance.lab.supervised import NotStarted, Supervised, how_it_ended
from conformance.lab.supervisor import Options

_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1));"
    " from conformance.drivers.python.host import main; main()"
)
_MOST_MEMORY: Final = 8 << 30  # bytes
_MOST_FILE: Final = 8 << 30
_BLOCK: Final = 1 << 16
_REPORT_LIMIT: Final = 5.0  # seconds to hear how a process ended that closed its end of the socket


def _text(answer: dict[str, Any], key: str) -> str:
    """A text of an answer; "" for whatever else a driver may have sent."""
    found = answer.get(key)
    return found if isinstance(found, str) else ""


def _limits() -> tuple[tuple[int, int], ...]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        (resource.RLIMIT_AS, min(memory // 2, _MOST_MEMORY)),
        (resource.RLIMIT_FSIZE, _MOST_FILE),
        (resource.RLIMIT_CORE, 0),
    )


class Host:
    """One process. Calls of several threads are concurrent in it: each has a connection for as long as it takes."""

    def __init__(self, module: str, name: str, prefix: Sequence[str] = ()) -> None:
        main, theirs = socket.socketpair()
        self._control, control = socket.socketpair()
        self._main = main
        self._main_thread = threading.main_thread()
        self._free: list[socket.socket] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._ended = False
        self._environment: tuple[str, ...] = ()  # the variables that its last answer named as changed
        self._failure: DriverFailed | None = None

        def start(options: Options) -> list[str]:
            descriptors = [str(theirs.fileno()), str(control.fileno())]
            words = [sys.executable, "-c", _BOOT, json.dumps(sys.path), options.as_json()]
            return [*words, *descriptors, module, name]

        with theirs, control:
            try:
                self.process = Supervised(
                    Options(0, limits=_limits()),
                    start=start,
                    prefix=prefix,
                    pass_fds=[theirs.fileno(), control.fileno()],
                )
            except NotStarted as error:
                self._close()
                raise DriverFailed(f"no process for the driver: {error}") from error

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._ended

    def ask(self, limit: CallLimit, do: str, **arguments: Any) -> Any:
        """The answer to a call; raises DriverRefused, DriverFailed and TimeUp."""
        seconds = limit.left()
        number = next(self._numbers)
        content = json.dumps({"number": number, "do": do, **arguments}).encode("ascii")
        if self._ended:
            raise self._before()
        deadline = time.monotonic() + seconds
        with self._connection() as connection:
            try:
                connection.settimeout(seconds)
                connection.sendall(len(content).to_bytes(4, "little") + content)
                answer = _frame(connection, deadline)
            except TimeoutError:
                raise self._hangs(limit, do) from None
            except KeyboardInterrupt:
                self._end()  # teardown would wait behind this call, and take its answer for that of another
                raise
            except OSError:
                raise self._died(do) from None
            except ValueError as error:
                raise self._babbles(do, error) from None
        if answer.get("number") != number:
            raise self._babbles(do, "the answer to another call")
        changed = answer.get("environment", [])
        self._environment = tuple(map(str, changed)) if isinstance(changed, list) else ()
        return self._taken(do, answer)

    def _taken(self, do: str, answer: dict[str, Any]) -> Any:
        match answer:
            case {"done": done}:
                return done
            case {"refused": str(text)}:
                raise DriverRefused(text, _text(answer, "kind"), _text(answer, "error"))
            case {"failed": str(text)}:
                raise DriverFailed(
                    text, _text(answer, "detail"), defect=_text(answer, "defect") if "defect" in answer else None
                )
            case {"broken": str(text)}:
                raise OSError(text)
        raise self._babbles(do, "an object without an answer")

    @contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        if threading.current_thread() is self._main_thread:
            yield self._main
            return
        with self._lock:
            connection = self._free.pop() if self._free else None
        connection = connection or self._another()
        yield connection  # one on which something went wrong is used no more
        with self._lock:
            self._free.append(connection)

    def _another(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, self._lock, suppress(OSError):  # if it has ended, the call will say so
            socket.send_fds(self._control, [b"x"], [theirs.fileno()])
        return ours

    def ready(self, callers: int) -> None:
        """Make connections for as many threads, so that their first calls are concurrent already."""
        while len(self._free) < callers:
            self._free.append(self._another())

    def _before(self) -> DriverFailed:
        """For a call to a process that has ended: the failure that ended it, which is still what failed."""
        if self._failure is None:
            return DriverFailed("the driver's process was ended before")
        return DriverFailed(str(self._failure), self._failure.detail, hangs=self._failure.hangs)

    def _hangs(self, limit: CallLimit, do: str) -> DriverFailed:
        stack = self.process.stack(STACK)
        self._end()
        return self._failed(limit.exceeded(do, stack))

    def _died(self, do: str) -> DriverFailed:
        status = self.process.wait(_REPORT_LIMIT)
        output = self.process.output()
        if self._ended:  # by another thread, whose call says why
            return self._before()
        if status in (None, LOST):
            return self._failed(DriverFailed(f"the driver closed descriptors of its process in {do}", output))
        assert status is not None, "it has ended"
        return self._failed(DriverFailed(f"the driver's process {how_it_ended(status)} in {do}", output))

    def _babbles(self, do: str, what: object) -> DriverFailed:
        return self._failed(DriverFailed(f"the driver's process sent no answer to {do}: {what}"))

    def _failed(self, failure: DriverFailed) -> DriverFailed:
        """End the process; the failure, or the one of another thread that came before it."""
        with self._lock:
            self._failure = self._failure or failure
        self._end()
        return self._before()

    def _end(self) -> None:
        self._ended = True
        self.process.kill()
        self._close()

    def _close(self) -> None:
        for one in (self._main, self._control, *self._free):
            one.close()
        self._free.clear()

    def end(self) -> None:
        """End it, with all that it started."""
        self._end()

    def forget(self) -> None:
        """In a forked child of the harness: leave it to the parent."""
        self._ended = True
        self.process.forget()
        self._close()

    def state(self) -> ProcessState:
        """What the process has just now; raises DriverFailed."""
        return replace(state_of(self.process.pid), environment=self._environment)


def _frame(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """The object that is all that comes; raises TimeoutError, OSError, or ValueError for something else.

    The socket's timeout is for the first piece of it, which mostly is the whole.
    """
    found = bytearray(_piece(connection))
    while len(found) < 4 or len(found) < 4 + int.from_bytes(found[:4], "little"):
        if int.from_bytes(found[:4], "little") > MOST:
            raise ValueError(f"more than {MOST} bytes")
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        found += _piece(connection)
    if len(found) > 4 + int.from_bytes(found[:4], "little"):
        raise ValueError("more than one answer")
    answer = json.loads(found[4:])
    if not isinstance(answer, dict):
        raise ValueError("no object of JSON")
    return answer


def _piece(connection: socket.socket) -> bytes:
    data = connection.recv(_BLOCK)
    if not data:
        raise ConnectionError("closed")
    return data


class Hosts:
    """The process that a source has just now.

    There is another one after it died, in another mount namespace, whose mounts it would not see, and in a forked
    process.
    """

    def __init__(self, start: Callable[[], Host]) -> None:
        self._start = start
        self._host: Host | None = None
        self._whose: tuple[int, int] = (0, 0)
        self._lock = threading.Lock()

    def current(self) -> Host:
        """It, started if there is none; raises DriverFailed."""
        # Another process may have the same number in another PID namespace, and not in /proc.
        whose = (process_id(), os.stat("/proc/thread-self/ns/mnt").st_ino)
        with self._lock:
            if self._host and (self._host.ended or whose != self._whose):
                self._drop(self._host)
            if self._host is None:
                self._host, self._whose = self._start(), whose
            return self._host

    def _drop(self, host: Host) -> None:
        self._host = None
        if process_id() == self._whose[0]:
            host.end()
        else:
            host.forget()

    def close(self) -> None:
        """End it."""
        with self._lock:
            if self._host:
                self._drop(self._host)
