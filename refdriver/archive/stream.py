"""An archive on its way out: a readable stream over chunks that are made as they are read."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

from refdriver.errors import UnreadableLayer

LARGE: Final = 1 << 20  # bytes moved at once


@dataclass(frozen=True, slots=True)
class FileData:
    """The next ``size`` bytes of an open file, to be moved; ``name`` is for errors."""

    fd: int
    size: int
    name: bytes


Chunk = bytes | FileData
Chunks = Generator[Chunk, None, None]


class ArchiveStream(io.RawIOBase):
    """A tar archive to read, once, and to close; it borrows what it reads from until then.

    Reading raises UnreadableLayer when part of the layer cannot be read: an archive is whole or an error.
    """

    def __init__(self, chunks: Chunks, on_close: Callable[[], None]) -> None:
        super().__init__()
        self._chunks = chunks
        self._on_close = on_close
        self._buffer = memoryview(b"")
        self._file: FileData | None = None
        self._file_left = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` as far as one chunk goes; 0 at the end."""
        with memoryview(buffer).cast("B") as view:
            if not len(view) or not self._advance():
                return 0
            if self._file is not None:
                count = _read_into(self._file, view[: self._file_left])
                self._file_left -= count
                return count
            count = min(len(view), len(self._buffer))
            view[:count] = self._buffer[:count]
            self._buffer = self._buffer[count:]
            return count

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, all that is left without a size; empty at the end."""
        if size is None or size < 0:
            return self.readall()
        if not self._advance():
            return b""
        if self._file is not None:
            block = bytearray(min(size, self._file_left, LARGE))
            del block[self.readinto(block) :]
            return bytes(block)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return bytes(data)

    def copy_to(self, fd: int) -> int:
        """Write all that is left to a descriptor and say how much; file data moves inside the kernel."""
        written = 0
        while self._advance():
            if self._file is not None:
                written += _send(self._file, self._file_left, fd)
                self._file_left = 0
            else:
                written += _write_all(fd, self._buffer)
                self._buffer = self._buffer[:0]
        return written

    def close(self) -> None:
        """Give back what the stream borrowed; again is no error."""
        if not self.closed:
            try:
                self._chunks.close()
                self._on_close()
            finally:
                super().close()

    def _advance(self) -> bool:
        """Make sure that there is something to give; False at the end."""
        if self.closed:
            raise ValueError("the archive stream is closed")
        while not self._buffer and not self._file_left:
            self._file = None
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            if isinstance(chunk, FileData):
                self._file, self._file_left = chunk, chunk.size
            else:
                self._buffer = memoryview(chunk)
        return True


def _read_into(file: FileData, view: memoryview) -> int:
    try:
        count = os.readv(file.fd, [view])
    except OSError as error:
        raise UnreadableLayer(f"cannot read {file.name!r}: {error.strerror}") from error
    if not count:
        raise _shrunk(file)
    return count


def _send(file: FileData, left: int, fd: int) -> int:
    """sendfile(2) takes any file to any descriptor, but for one that is open for appending."""
    sent = 0
    with contextlib.suppress(_NotSendable):
        while sent < left:
            sent += _send_some(file, left - sent, fd)
        return sent
    buffer = memoryview(bytearray(LARGE))
    while sent < left:
        count = _read_into(file, buffer[: left - sent])
        sent += _write_all(fd, buffer[:count])
    return sent


class _NotSendable(Exception):
    """This pair of descriptors needs read and write."""


def _send_some(file: FileData, left: int, fd: int) -> int:
    try:
        count = os.sendfile(fd, file.fd, None, left)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _NotSendable from error
    if not count:
        raise _shrunk(file)
    return count


def _shrunk(file: FileData) -> UnreadableLayer:
    return UnreadableLayer(f"{file.name!r} became shorter while it was read; nobody may change a layer meanwhile")


def _write_all(fd: int, data: memoryview) -> int:
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])
    return written
