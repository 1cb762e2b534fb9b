"""HTTP on a unix socket: the socket's file, connections, and a bounded number of threads that answer.

The socket is there with mode 0600 from its first moment. A socket that nobody listens on any more is replaced; one
that somebody answers on is left alone.

One thread waits for all connections at once and reads the heads of requests. A thread of a pool gets a connection
only when a whole head has come, and gives it back after the answer. So idle clients, and clients that send a head
byte by byte, hold no thread. Calls and transfers (bodies and answers of any length) have a pool each: slow
transfers keep no call waiting.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import queue
import selectors
import socket
import stat
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from refdriver.errors import BadOption
from refdriver.httpmessage import BadMessage, Body, Head, Incoming, end_of_head

_LOG = logging.getLogger("refdriver")
_THREADS: Final = 16  # of each pool
_CONNECTIONS_MAX: Final = 400  # open at once; with the files of the calls below the usual limit of 1024
_HEAD_TIME: Final = 10.0  # seconds from the first byte of a request to the end of its head
_CALL_TIME: Final = 30.0  # seconds for the whole body of a call
_STALL_TIME: Final = 300.0  # seconds without a byte of a transfer; registries stall too
_ANSWER_TIME: Final = 30.0  # seconds until a client takes the next bytes of an answer to a call
_LINGER: Final = 1.0  # seconds to read on after an error, so that the client gets to see it
_GRACE: Final = 10.0  # seconds that calls in progress get when the server stops
_PAUSE: Final = 0.05  # seconds until a connection is accepted when all descriptors are in use
_BACKLOG: Final = 128
Answer = Callable[["Handler", str, Body], None]


@dataclass(slots=True)
class _Connection:
    """A client, and what it sent so far of its next request."""

    socket: socket.socket
    received: bytes = b""
    began: float = field(default_factory=time.monotonic)  # to wait, or to send the head


class Handler:
    """One request; what is answered is the business of ``Server.answer``."""

    def __init__(self, connection: socket.socket, head: Head) -> None:
        self._connection = connection
        self._head = head
        self.close_connection = not head.keeps_open
        self.headers_sent = False  # of the answer

    def reply(self, status: int, content: bytes, content_type: str = "application/json") -> None:
        """A whole answer; raises ConnectionError."""
        self._send(self._headers(status, content_type, f"Content-Length: {len(content)}") + content)

    def begin_stream(self, content_type: str) -> None:
        """An answer in chunks: :meth:`send_chunk`, and :meth:`end_stream` once it is whole.

        Raises BadMessage for a client of HTTP/1.0, which could not tell a part from the whole.
        """
        if not self._head.is_chunkable:
            raise BadMessage("an archive is sent in chunks, which needs HTTP/1.1", 505)
        self._send(self._headers(200, content_type, "Transfer-Encoding: chunked"))

    def send_chunk(self, block: bytes) -> None:
        """One chunk, at once; raises ConnectionError."""
        self._send(b"%x\r\n%b\r\n" % (len(block), block))

    def end_stream(self) -> None:
        """The mark by which a client knows that it has all; raises ConnectionError."""
        self._send(b"0\r\n\r\n")

    def _headers(self, status: int, content_type: str, framing: str) -> bytes:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {content_type}", framing]
        if self.close_connection:
            lines.append("Connection: close")
        self.headers_sent = True
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except TimeoutError as error:
            raise ConnectionAbortedError("the client does not read its answer") from error


class _Pool:
    """At most so many daemon threads, started as they are needed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._count = threading.Condition()
        self._threads = 0
        self._unfinished = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Do this in one of the threads; it must not raise."""
        with self._count:
            self._unfinished += 1
            if self._threads < min(self._unfinished, self._most):
                self._threads += 1
                threading.Thread(target=self._run, daemon=True).start()
        self._waiting.put(work)

    def wait(self, seconds: float) -> None:
        """Return when all is done, or after so many seconds."""
        with self._count:
            self._count.wait_for(lambda: not self._unfinished, max(0.0, seconds))

    def _run(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            finally:
                with self._count:
                    self._unfinished -= 1
                    self._count.notify_all()


class Server:
    """Listens from its making on; ``answer(handler, path, body)`` is called in a thread for each POST.

    ``is_transfer(path)`` tells whether the body or the answer may be of any length. Raises BadOption for a path
    that is taken, OSError for one that cannot be made.
    """

    def __init__(self, path: str, answer: Answer, is_transfer: Callable[[str], bool]) -> None:
        self._answer = answer
        self._is_transfer = is_transfer
        self._path = path
        self._calls, self._transfers = _Pool(_THREADS), _Pool(_THREADS)
        self._waiting: OrderedDict[int, _Connection] = OrderedDict()  # by descriptor; the longest idle is first
        self._returned: deque[_Connection] = deque()
        self._open = 0  # connections
        self._guard = threading.Lock()
        self._stopping = False
        _make_way(path)
        self._listener = _listener(path)
        self._identity = _identity(path)
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def run(self) -> None:
        """Answer until :meth:`stop`, then let what is in progress end, for ten seconds at most."""
        try:
            while not self._stopping:
                for key, _ in self._selector.select(self._time_left()):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fd == self._woken:
                        self._take_back()
                    elif key.fd in self._waiting:
                        self._receive(self._waiting[key.fd])
                self._end_slow_heads()
        finally:
            self._end()

    def stop(self) -> None:
        """Make :meth:`run` return at once; from any thread and from a signal handler."""
        self._stopping = True
        self._wake()

    @property
    def waker(self) -> int:
        """For signal.set_wakeup_fd(): a signal that comes just before the wait for connections ends that wait."""
        return self._waker

    def _end(self) -> None:
        # No new caller may come to a socket that is not answered; and nobody else's may be removed.
        if _identity(self._path) == self._identity:
            os.unlink(self._path)
        self._listener.close()
        for connection in list(self._waiting.values()):
            self._close(connection)
        until = time.monotonic() + _GRACE
        for pool in (self._calls, self._transfers):
            pool.wait(until - time.monotonic())
        self._selector.close()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._waker, b"x")

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                return  # the client went away again
            if not self._close_longest_idle():
                time.sleep(
                    _PAUSE
                )  # the listener stays readable, and to ask it again at once would take a whole CPU
            return
        with self._guard:
            self._open += 1
        connection = _Connection(accepted)
        if self._open > _CONNECTIONS_MAX and not self._close_longest_idle():
            self._refuse(connection, BadMessage("too many clients; try again later", 503))
            return
        self._wait_for(connection)

    def _close_longest_idle(self) -> bool:
        """Make room for another client; whether there is one now."""
        for connection in list(self._waiting.values()):
            if not connection.received:
                self._close(connection)
                return True
        return False

    def _wait_for(self, connection: _Connection) -> None:
        connection.socket.setblocking(False)
        connection.began = time.monotonic()
        self._waiting[connection.socket.fileno()] = connection
        self._selector.register(connection.socket, selectors.EVENT_READ)

    def _take_back(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        while self._returned:
            connection = self._returned.popleft()
            self._wait_for(connection)
            if connection.received:  # the next request came with the one before
                self._go_on(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            block = connection.socket.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            block = b""
        if not connection.received:
            connection.began = time.monotonic()
        connection.received += block
        if block:
            self._go_on(connection)
        elif connection.received.strip():
            self._refuse(connection, BadMessage("the request ends in the middle of its head"))
        else:
            self._close(connection)

    def _go_on(self, connection: _Connection) -> None:
        """Hand the connection on once its next head is whole."""
        connection.received = connection.received.lstrip(b"\r\n")  # RFC 9112, 2.2
        try:
            end = end_of_head(connection.received)
            if not end:
                return
            head = Head.parse(connection.received[:end])
        except BadMessage as error:
            self._refuse(connection, error)
            return
        self._forget(connection)
        rest = connection.received[end:]
        pool = self._transfers if self._is_transfer(head.target) else self._calls
        pool.submit(lambda: self._serve(connection, head, rest))

    def _serve(self, connection: _Connection, head: Head, rest: bytes) -> None:
        """Answer one request, in a thread of a pool."""
        is_transfer = self._is_transfer(head.target)
        source = Incoming(connection.socket, rest, _STALL_TIME, None if is_transfer else _CALL_TIME)
        handler = Handler(connection.socket, head)
        try:
            self._answer_one(connection.socket, head, handler, source, is_transfer=is_transfer)
        except ConnectionError:
            handler.close_connection = True  # whoever called is gone; what was done for them is undone by its owner
        except BaseException as error:  # of a driver of somebody else, or a defect: the server goes on
            handler.close_connection = True
            _LOG.warning("%s was not answered: %s: %s", head.target, type(error).__name__, error)
        if handler.close_connection:
            self._close(connection, linger=True)
        else:
            connection.received = source.left()
            self._returned.append(connection)
            self._wake()

    def _answer_one(
        self, connection: socket.socket, head: Head, handler: Handler, source: Incoming, *, is_transfer: bool
    ) -> None:
        connection.settimeout(_STALL_TIME if is_transfer else _ANSWER_TIME)
        body = Body(source, head.length)
        try:
            if head.method != "POST":
                raise BadMessage("every call of this protocol is a POST", 405)
            if head.expects_continue:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._answer(handler, head.target, body)
            if not handler.close_connection:
                body.drain()
        except BadMessage as error:
            handler.close_connection = True
            if not handler.headers_sent:
                connection.settimeout(_ANSWER_TIME)
                handler.reply(error.status, _error(error))

    def _end_slow_heads(self) -> None:
        now = time.monotonic()
        for connection in list(self._waiting.values()):
            if connection.received and now - connection.began > _HEAD_TIME:
                self._refuse(connection, BadMessage(f"the head did not come within {_HEAD_TIME:g} s", 408))

    def _time_left(self) -> float | None:
        began = [connection.began for connection in self._waiting.values() if connection.received]
        return max(0.0, min(began) + _HEAD_TIME - time.monotonic()) + 0.01 if began else None

    def _refuse(self, connection: _Connection, error: BadMessage) -> None:
        """Answer what is no request. Never waits: the answer fits into the buffer of an empty socket."""
        self._forget(connection)
        head = Head("", "", 0, keeps_open=False, expects_continue=False, is_chunkable=False)
        with contextlib.suppress(OSError):
            connection.socket.setblocking(False)
            Handler(connection.socket, head).reply(error.status, _error(error))
        self._close(connection)

    def _forget(self, connection: _Connection) -> None:
        if self._waiting.pop(connection.socket.fileno(), None) is not None:
            self._selector.unregister(connection.socket)

    def _close(self, connection: _Connection, *, linger: bool = False) -> None:
        if linger:
            _read_on(connection.socket)
        else:
            self._forget(connection)
        connection.socket.close()
        with self._guard:
            self._open -= 1


def _error(error: BadMessage) -> bytes:
    return json.dumps({"Err": str(error)}).encode("ascii")


def _read_on(connection: socket.socket) -> None:
    """To close with bytes unread resets the connection, and a client that sends would not see its answer."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        until = time.monotonic() + _LINGER
        while (left := until - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(1 << 16):
                return


def _listener(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    # The mode holds from the socket's making; a chmod after it would leave a moment for others.
    before = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _make_way(path: str) -> None:
    """Remove a socket that nobody listens on; raises BadOption for anything else that is there."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), 0o700, exist_ok=True)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadOption(f"{path!r} is there and no socket; choose another path, or move it away")
    with socket.socket(socket.AF_UNIX) as probe:
        # A server that is stopped (SIGSTOP) accepts nothing, and connect(2) would wait for room in its backlog.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError as error:
            raise BadOption(
                f"{path!r} is in use: somebody listens there and accepts no connections; end that server, or choose"
                " another path"
            ) from error
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise BadOption(f"cannot tell whether {path!r} is in use: {error.strerror}") from error
        else:
            raise BadOption(f"{path!r} is in use: somebody answers there; stop that server, or choose another path")
    os.unlink(path)
