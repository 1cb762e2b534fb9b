"""An archive on its way out: a readable stream over chunks that are made as they are read."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from refdriver.errors import UnreadableLayer


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
                count = read_into(self._file, view[: self._file_left])
                self._file_left -= count
                return count
            count = min(len(view), len(self._buffer))
            view[:count] = self._buffer[:count]
            self._buffer = self._buffer[count:]
            return count

    def chunks(self) -> Chunks:
        """All chunks of a stream of which nothing was read, for whoever moves the data of files by itself."""
        return self._chunks

    def close(self) -> None:
        """Give back what the stream borrowed; again is no error."""
        try:
            self._chunks.close()
            self._on_close()
        finally:
            super().close()

    def _advance(self) -> bool:
        """Make sure that there is something to give; False at the end. Raises ValueError when it is closed."""
        self._checkClosed()
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


def read_into(file: FileData, view: memoryview) -> int:
    """Read some of the data of a file; raises UnreadableLayer, also where the file ends before."""
    try:
        count = os.readv(file.fd, [view])
    except OSError as error:
        raise UnreadableLayer(f"cannot read {file.name!r}: {error.strerror}") from error
    return whole(count, file)


def whole(count: int, file: FileData) -> int:
    """How much was read of a file that has more; raises UnreadableLayer if that is nothing."""
    if not count:
        raise UnreadableLayer(
            f"{file.name!r} became shorter while it was read; nobody may change a layer meanwhile"
        )
    return count
