"""HTTP on a unix socket: the socket's file, a thread for each connection, and bodies as streams.

The socket is there with mode 0600 from its first moment. A socket that nobody listens on any more is replaced;
one that somebody answers on is left alone.
"""

from __future__ import annotations

import errno
import http.server
import os
import socket
import socketserver
import stat
import sys
import threading
from collections.abc import Callable
from io import BufferedIOBase
from typing import Any, Final

from refdriver.errors import BadOption

_LINE_MAX: Final = 1024  # of a chunk's size and of a trailer
_GRACE: Final = 10.0  # seconds that calls in progress get when the server stops
_IDLE_POLL: Final = 0.5  # seconds between two looks at whether the server stops


class BodyEnded(Exception):
    """The client went away, or sent something else than HTTP, in the middle of a body."""


class Body:
    """The body of a request as a binary stream, by its length or in chunks (RFC 9112, 6 and 7.1).

    ``read`` raises BodyEnded when the body is cut, so that nobody takes a part for the whole.
    """

    def __init__(self, source: BufferedIOBase, length: int | None) -> None:
        self._source = source
        self._chunked = length is None
        self._left = length or 0
        self._ended = length == 0

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, all that is left without a size; nothing at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 16), b""))
        if self._ended or not size:
            return b""
        if self._chunked and not self._left:
            self._left = self._next_chunk()
            if not self._left:
                self._ended = True
                return b""
        block = self._source.read1(min(size, self._left))
        if not block:
            raise BodyEnded("the client went away in the middle of a request")
        self._left -= len(block)
        if not self._left:
            self._end_of_part()
        return bytes(block)

    def drain(self) -> None:
        """Read what is left, so that the connection can be used again."""
        while self.read(1 << 16):
            pass

    @property
    def ended(self) -> bool:
        """Whether all of it was read."""
        return self._ended

    def _end_of_part(self) -> None:
        if not self._chunked:
            self._ended = True
        elif self._line():
            raise BodyEnded("a chunk of the request is longer than it says")

    def _next_chunk(self) -> int:
        size = self._line().split(b";")[0].strip()
        try:
            number = int(size, 16)
        except ValueError as error:
            raise BodyEnded(f"{size!r} is no size of a chunk") from error
        if number < 0:
            raise BodyEnded(f"{size!r} is no size of a chunk")
        if number == 0:
            while self._line():  # trailers
                pass
        return number

    def _line(self) -> bytes:
        line = self._source.readline(_LINE_MAX)
        if not line.endswith(b"\n"):
            raise BodyEnded("the client went away in the middle of a request")
        return line.rstrip(b"\r\n")


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection; what is answered is the business of ``server.answer``."""

    protocol_version = "HTTP/1.1"
    server: Server
    headers_sent = False  # of the answer to the call in progress

    def do_POST(self) -> None:
        """Answer a call, and be ready for the next."""
        body = self._body()
        if body is None:
            self.close_connection = True
            self.send_error(400, "a body needs a Content-Length, or Transfer-Encoding: chunked")
            return
        self.headers_sent = False
        self.server.enter()
        try:
            self.server.answer(self, self.path, body)
            if not self.close_connection and not body.ended:
                body.drain()
        except (BodyEnded, ConnectionError):
            self.close_connection = True  # whoever called is gone; what was done for them is undone by its owner
        finally:
            self.server.leave()

    def refuse_method(self) -> None:
        """Every call is a POST."""
        self.close_connection = True
        self.reply(405, b'{"Err": "every call of this protocol is a POST"}')

    do_GET = do_PUT = do_DELETE = do_HEAD = refuse_method  # noqa: N815 - names that http.server looks for

    def reply(self, status: int, content: bytes, content_type: str = "application/json") -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def begin_stream(self, content_type: str) -> None:
        """An answer in chunks: :meth:`send_chunk`, and :meth:`end_stream` once it is whole."""
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_chunk(self, block: bytes) -> None:
        """One chunk, at once."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
        self.wfile.flush()

    def end_stream(self) -> None:
        """The mark by which a client knows that it has all."""
        self.wfile.write(b"0\r\n\r\n")

    def end_headers(self) -> None:
        """From here on an answer cannot be another one."""
        super().end_headers()
        self.headers_sent = True

    def address_string(self) -> str:
        """Unix sockets have no address of the client."""
        return "client"

    def log_message(self, *_: Any) -> None:
        """Nothing for each request: errors go to the client, and warnings to the log of the driver."""

    def _body(self) -> Body | None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return Body(self.rfile, None)
        length = self.headers.get("Content-Length", "0")
        return Body(self.rfile, int(length)) if length.isascii() and length.isdigit() else None


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens from its making on; ``answer(handler, path, body)`` is called in a thread for each request."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: str, answer: Callable[[Handler, str, Body], None]) -> None:
        self.answer = answer
        self._path = path
        self._running = 0
        self._idle = threading.Condition()
        _make_way(path)
        # The mode holds from the socket's making; a chmod after it would leave a moment for others.
        before = os.umask(0o177)
        try:
            super().__init__(path, Handler)
        finally:
            os.umask(before)
        self._identity = _identity(path)

    def enter(self) -> None:
        """A call begins."""
        with self._idle:
            self._running += 1

    def leave(self) -> None:
        """A call ended."""
        with self._idle:
            self._running -= 1
            self._idle.notify_all()

    def run(self) -> None:
        """Answer until :meth:`stop`, then let what is in progress end, for ten seconds at most."""
        try:
            self.serve_forever(_IDLE_POLL)
        finally:
            # No new caller may come to a socket that is not answered; and nobody else's may be removed.
            if _identity(self._path) == self._identity:
                os.unlink(self._path)
            self.server_close()
            with self._idle:
                self._idle.wait_for(lambda: self._running == 0, _GRACE)

    def stop(self) -> None:
        """Make :meth:`run` return soon; from any thread and from a signal handler."""
        threading.Thread(target=self.shutdown, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; anything else is a defect to be seen."""
        del request, client_address
        if not isinstance(sys.exc_info()[1], ConnectionError):
            sys.excepthook(*sys.exc_info())


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
        try:
            probe.connect(path)
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise BadOption(f"cannot tell whether {path!r} is in use: {error.strerror}") from error
        else:
            raise BadOption(f"{path!r} is in use: somebody answers there; stop that server, or choose another path")
    os.unlink(path)
