"""The messages of HTTP/1.1 as a server reads them (RFC 9112): the head of a request, and its body as a stream."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from typing import Final, Self

HEAD_MAX: Final = 1 << 16  # bytes of a request line with its fields
_LINE_MAX: Final = 1024  # of a chunk's size and of a trailer
_TRAILERS_MAX: Final = 64
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERSION: Final = re.compile(rb"HTTP/1\.[0-9]")
_BLOCK: Final = 1 << 16


class BadMessage(Exception):
    """What came is no request that can be answered otherwise than with an error; ``status`` is of the answer."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def end_of_head(received: bytes) -> int:
    """Where the head ends in what was received, 0 as long as it does not; raises BadMessage when it is too long."""
    found = _END_OF_HEAD.search(received)
    if (found.end() if found else len(received)) > HEAD_MAX:
        raise BadMessage(f"the head of the request is longer than {HEAD_MAX} bytes", 431)
    return found.end() if found else 0


@dataclass(frozen=True, slots=True)
class Head:
    """The request line and what its fields say about the body; ``length`` is None for one in chunks."""

    method: str
    target: str
    length: int | None
    keeps_open: bool
    expects_continue: bool
    is_chunkable: bool

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Raises BadMessage."""
        first, *lines = text.replace(b"\r\n", b"\n").strip(b"\n").split(b"\n")
        words = first.split(b" ")
        if len(words) != 3 or not all(words) or not _TOKEN.fullmatch(words[0]):
            raise BadMessage("the request does not begin with METHOD PATH HTTP/1.1")
        method, target, version = words
        if not _VERSION.fullmatch(version):
            raise BadMessage("the request is of another version than HTTP/1.1", 505)
        if not target.isascii() or any(byte <= 32 or byte == 127 for byte in target):
            raise BadMessage("the path of the request has bytes that must be percent-encoded")
        fields = _fields(lines)
        is_new = version != b"HTTP/1.0"
        connection = fields.get(b"connection", b"").lower()
        return cls(
            method.decode("ascii"),
            target.decode("ascii"),
            _length(fields),
            b"close" not in connection and (is_new or b"keep-alive" in connection),
            is_new and fields.get(b"expect", b"").lower() == b"100-continue",
            is_new,
        )


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if not colon or not _TOKEN.fullmatch(name):
            raise BadMessage(f"the request has a field that is no NAME: VALUE: {line[:80]!r}")
        # Two fields say the same as one with both values (RFC 9110, 5.3).
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def _length(fields: dict[bytes, bytes]) -> int | None:
    encoding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if encoding is not None:
        if length is not None:
            raise BadMessage("the request has a Content-Length and a Transfer-Encoding; only one can be true")
        if encoding.lower() != b"chunked":
            raise BadMessage("the request has another Transfer-Encoding than chunked", 501)
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 18:
        raise BadMessage("the request's Content-Length is no number of bytes")
    return int(length)


class Incoming:
    """What comes from a client: first what was received already, then the socket, within its time."""

    def __init__(self, connection: socket.socket, received: bytes, stall: float, total: float | None) -> None:
        """``stall`` seconds may pass without a byte, ``total`` seconds in all."""
        self._connection = connection
        self._buffer = received
        self._stall = stall
        self._deadline = None if total is None else time.monotonic() + total

    def left(self) -> bytes:
        """What was received and not read."""
        return self._buffer

    def read(self, size: int) -> bytes:
        """At least one byte and at most ``size``; raises BadMessage at the end and when the client is too slow."""
        if not self._buffer:
            self._fill()
        block, self._buffer = self._buffer[:size], self._buffer[size:]
        return block

    def line(self) -> bytes:
        """Up to the next newline, without it; raises BadMessage as :meth:`read` does, and for a long line."""
        while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) <= _LINE_MAX:
            self._fill()
        if not 0 <= end <= _LINE_MAX:
            raise BadMessage(f"a line between the chunks of the request is longer than {_LINE_MAX} bytes")
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.removesuffix(b"\r")

    def _fill(self) -> None:
        left = self._stall if self._deadline is None else self._deadline - time.monotonic()
        try:
            self._connection.settimeout(max(left, 0.001))
            block = self._connection.recv(_BLOCK)
        except TimeoutError:
            raise BadMessage("the request did not come in time", 408) from None
        except OSError as error:
            raise BadMessage(f"the client went away in the middle of a request: {error.strerror}") from error
        if not block:
            raise BadMessage("the request ends in the middle of its body")
        self._buffer += block


class Body:
    """The body of a request as a binary stream, by its length or in chunks (RFC 9112, 6 and 7.1).

    ``read`` raises BadMessage when the body is cut or malformed, so that nobody takes a part for the whole.
    """

    def __init__(self, source: Incoming, length: int | None) -> None:
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
        block = self._source.read(min(size, self._left))
        self._left -= len(block)
        if not self._left:
            self._end_of_part()
        return block

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
        elif self._source.line():
            raise BadMessage("a chunk of the request is longer than it says")

    def _next_chunk(self) -> int:
        size = self._source.line().split(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
            raise BadMessage(f"{size[:40]!r} is no size of a chunk")
        number = int(size, 16)
        if not number:
            for _ in range(_TRAILERS_MAX):
                if not self._source.line():
                    return 0
            raise BadMessage(f"the request has more than {_TRAILERS_MAX} trailers")
        return number
