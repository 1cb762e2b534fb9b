"""Where an archive comes from: anything with ``read``, or a descriptor from which the kernel moves the data."""

from __future__ import annotations

import io
import os
import stat
from typing import Final, Protocol

from refdriver.errors import BadArchive

_FILL: Final = 1 << 18  # bytes read ahead at once
_MOVE: Final = 1 << 24  # bytes that the kernel is asked to move at once
_WORTH_MOVING: Final = 1 << 16


class Readable(Protocol):
    """A binary stream: ``read`` may give less than asked for, and nothing at the end."""

    def read(self, size: int, /) -> bytes | None:
        """Up to ``size`` bytes."""


class Source:
    """The bytes of an archive in order, read ahead in large blocks.

    Data of an unbuffered file or pipe (io.FileIO) goes to its destination inside the kernel
    (copy_file_range(2), splice(2)).
    """

    def __init__(self, archive: Readable) -> None:
        self._archive = archive
        self._buffer = b""
        self._position = 0
        self._fd = _movable_fd(archive)

    def take(self, size: int, what: str) -> bytes:
        """Exactly ``size`` bytes; raises BadArchive when the archive ends before."""
        position = self._position
        end = position + size
        if end > len(self._buffer):
            self._read_on(size, what)
            position, end = 0, size
        self._position = end
        return self._buffer[position:end]

    def _read_on(self, size: int, what: str) -> None:
        """Let ``size`` bytes from the position on be in the buffer, which then begins there."""
        parts = [self._buffer[self._position :]]
        missing = size - len(parts[0])
        self._buffer, self._position = b"", 0
        while missing > 0:
            block = self._fill(max(missing, _FILL))
            if not block:
                raise BadArchive(f"the archive is truncated: it ends in the middle of {what}")
            parts.append(block)
            missing -= len(block)
        self._buffer = b"".join(parts)

    def at_end(self) -> bool:
        """Whether nothing is left."""
        if self._position == len(self._buffer):
            self._buffer, self._position = self._fill(_FILL), 0
        return not self._buffer

    def copy_to(self, fd: int, size: int, what: str | bytes) -> None:
        """Write the next ``size`` bytes to an open file; raises BadArchive when the archive ends before.

        ``what`` is for the error; bytes are a name, and become text only for that.
        """
        ahead = self._buffer[self._position : self._position + size]
        self._position += len(ahead)
        _write_all(fd, ahead)
        left = size - len(ahead)
        if not left:
            return
        if self._fd is not None and left >= _WORTH_MOVING:
            left -= self._move(self._fd, fd, left)
        while left:
            block = self.take(min(left, _FILL), _as_text(what))
            _write_all(fd, block)
            left -= len(block)

    def skip(self, size: int, what: str | bytes) -> None:
        """Pass over the next ``size`` bytes; ``what`` is as of :meth:`copy_to`."""
        if self._position + size <= len(self._buffer):
            self._position += size
            return
        while size:
            size -= len(self.take(min(size, _FILL), _as_text(what)))

    def drain(self) -> None:
        """Read what follows, so that a writer on the other end of a pipe can finish."""
        while not self.at_end():
            self._position = len(self._buffer)

    def _fill(self, size: int) -> bytes:
        return self._archive.read(size) or b""

    def _move(self, source: int, target: int, size: int) -> int:
        """Move as much as the kernel is willing to; whatever it leaves is read and written."""
        move = os.copy_file_range if stat.S_ISREG(os.fstat(source).st_mode) else os.splice
        moved = 0
        try:
            while moved < size:
                count = move(source, target, min(size - moved, _MOVE))
                if not count:
                    break
                moved += count
        except OSError:
            return moved  # not between these two; an error of the disk shows again in reading and writing
        return moved


def _movable_fd(archive: Readable) -> int | None:
    if not isinstance(archive, io.FileIO):
        return None
    mode = os.fstat(archive.fileno()).st_mode
    return archive.fileno() if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) else None


def _as_text(what: str | bytes) -> str:
    return what if isinstance(what, str) else repr(what)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
