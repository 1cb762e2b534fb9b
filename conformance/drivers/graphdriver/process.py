"""The process of a graph-driver plugin, started here or by somebody else, and calls to it within a limit."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from conformance.drivers.processes import state_of
from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused, ProcessState
from conformance.lab.namespace import process_id
from conformance.lab.supervised import NotStarted, Supervised, how_it_ended
from conformance.lab.supervisor import Options

_STOP_LIMIT: Final = 60.0  # seconds for a plugin to end when it is asked to
_REPORT_LIMIT: Final = 1.0  # seconds to hear that it ended, after its connection did
_POLL: Final = 0.01
_SOCKET_LIMIT: Final = 107  # bytes of the path of a socket (unix(7))


class Running:
    """A plugin that somebody else started."""

    def __init__(self, path: str) -> None:
        self.socket = path

    @property
    def process(self) -> None:
        """Nobody knows."""

    def said(self) -> str:
        """Nothing that we could hear."""
        return ""

    def how_it_ended(self) -> str:
        """Nobody knows."""
        return ""

    def stack(self) -> str:
        """Nobody knows."""
        return ""

    def end(self) -> None:
        """It goes on."""

    def kill(self) -> None:
        """It goes on."""

    def again(self) -> Running:
        """The same."""
        return self


class Started:
    """A plugin of ours, in a PID namespace of its own, that ends with us."""

    def __init__(
        self,
        command: Sequence[str],
        limit: CallLimit,
        *,
        umask: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self._command = command
        self._limit = limit
        self._umask = umask
        self._directory = tempfile.mkdtemp(prefix="plugin-")
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.socket = f"{self._directory}/sock"
        if len(os.fsencode(self.socket)) > _SOCKET_LIMIT:
            self.socket = f"/proc/{process_id()}/fd/{self._fd}/sock"
        words = tuple(word.replace("{socket}", self.socket) for word in command)
        try:
            self._process = Supervised(Options(0, words, umask), prefix=prefix)
        except NotStarted as error:
            self._forget()
            raise DriverFailed(f"no process for the plugin: {error}") from error
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        shutil.rmtree(self._directory, ignore_errors=True)

    def _wait(self) -> None:
        """Until somebody answers on the socket; raises DriverRefused if its process ends before."""
        deadline = time.monotonic() + self._limit.left()
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), _connected(self.socket, 1.0):
                return
            # The end of the process is waited for, so that its birth is looked for a hundred times a second.
            status = self._process.wait(_POLL)
            if status is not None and status < 0:
                raise DriverFailed(f"the plugin {how_it_ended(status)} before it listened", self.said())
            if status is not None:
                raise DriverRefused(
                    f"the plugin {how_it_ended(status)} and does not listen on its socket:"
                    f" {self.said() or 'it said nothing'}"
                )
            if time.monotonic() > deadline:
                raise self._limit.exceeded("on its socket", f"{self._process.stack()}\n{self.said()}")

    @property
    def process(self) -> Started:
        """It, to be looked at."""
        return self

    def state(self) -> ProcessState:
        """What its process has just now, sockets apart; raises DriverFailed."""
        return state_of(self._process.pid, serves=True)

    def said(self) -> str:
        """The last that the plugin wrote to its standard output and error."""
        return self._process.output()

    def how_it_ended(self) -> str:
        """In words; "" while it runs."""
        status = self._process.wait(_REPORT_LIMIT)
        return "" if status is None else how_it_ended(status)

    def stack(self) -> str:
        """Where it stands."""
        return f"{self._process.command_line}\n{self._process.stack()}\n{self.said()}".strip()

    def end(self) -> None:
        """Ask it to end, and see to it that it does."""
        self._process.end(min(_STOP_LIMIT, self._limit.seconds))
        self._forget()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._forget()

    def again(self) -> Started:
        """A new process, which knows nothing but what is on disk."""
        self.end()
        return Started(self._command, self._limit, umask=self._umask)


Server = Running | Started


def _connected(path: str, limit: float) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(limit)
    try:
        found.connect(path)
    except BaseException:
        found.close()
        raise
    return found


class Connection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: str, limit: float) -> None:
        super().__init__("localhost", timeout=limit)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a host."""
        self.sock = _connected(self._path, self.timeout or 0)


@contextmanager
def calling(server: Server, limit: CallLimit, call: str) -> Iterator[Connection]:
    """A connection for one call; what is no answer raises DriverFailed, and TimeUp at the end of the run.

    Where the limit is exceeded, or the plugin died, its process is ended, and so is this opening.
    """
    seconds = limit.left()
    connection = Connection(server.socket, seconds)
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        if connection.sock:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    # A timeout of the socket is for each of its reads, of which an answer may take any number.
    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        with contextlib.closing(connection):
            yield connection
    except (OSError, http.client.HTTPException) as error:
        if expired.is_set() or isinstance(error, TimeoutError):
            stack = server.stack()
            server.kill()
            raise limit.exceeded(call, stack) from error
        how = server.how_it_ended()
        if how:
            raise DriverFailed(f"the plugin's process {how} in {call}", server.said()) from error
        raise DriverFailed(
            f"the plugin gave no answer to {call}: {type(error).__name__}: {error}", server.said()
        ) from error
    finally:
        timer.cancel()
