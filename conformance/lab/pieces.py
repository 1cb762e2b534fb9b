"""A file that arrives in pieces: a pipe that holds one piece, and gets the next one when it is empty.

A :class:`Stall` is a pipe of which both ends are here: who reads or writes it waits in the middle of a call.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import select
import struct
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

_SIZE: Final = 1 << 20  # bytes of a pipe, a page of which each packet takes


@contextmanager
def pipe_of(file: Path, sizes: Sequence[int], directory: Path) -> Iterator[Path]:
    """The path of a pipe that delivers a file, so many bytes for each read(2), in turn; raises OSError."""
    pipe = directory / f"pipe-{'-'.join(map(str, sizes))}"
    os.mkfifo(pipe)
    thread = threading.Thread(target=_write, args=(file.read_bytes(), sizes, pipe))
    thread.start()
    try:
        yield pipe
    finally:
        # A reader that never came is what the writer still waits for.
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        thread.join()
        pipe.unlink()


def _write(data: bytes, sizes: Sequence[int], pipe: Path) -> None:
    begin = 0
    with suppress(BrokenPipeError), pipe.open("wb", buffering=0) as end:
        if set(sizes) == {1}:
            _write_bytes(data, end)
            return
        for size in itertools.cycle(sizes):
            if begin >= len(data):
                return
            begin += end.write(data[begin : begin + size])
            while _unread(end.fileno()):
                os.sched_yield()
                if not _has_reader(end.fileno()):
                    return


def _write_bytes(data: bytes, end: FileIO) -> None:
    """Single bytes, each of which one read(2) takes, without a turn of both processes for each (pipe(7), O_DIRECT).

    A reader with a smaller buffer than a packet loses the rest of it, so larger pieces are not written so.
    """
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_DIRECT)
    with suppress(OSError):  # fewer fit without a privilege, above /proc/sys/fs/pipe-max-size
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _SIZE)
    for byte in range(len(data)):
        end.write(data[byte : byte + 1])


def _unread(descriptor: int) -> int:
    """Bytes in a pipe (pipe(7), FIONREAD)."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])


def _has_reader(descriptor: int) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, 0)
    return not waiting.poll(0)


@dataclass(slots=True)
class Stall:
    """A pipe with a name that this process holds open: who reads or writes it waits, and sees no end.

    A process that is forked while the pipe is held holds it too.
    """

    path: Path
    _both: int = -1

    def hold(self) -> None:
        """Open it for both, for which nobody has to be at the other end (fifo(7)); raises OSError."""
        self._both = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def give(self, data: bytes) -> None:
        """Write at most what a pipe holds (pipe(7): 64 KiB)."""
        assert os.write(self._both, data) == len(data), "a pipe holds it"

    @property
    def unread(self) -> int:
        """Bytes that nobody has read yet."""
        return _unread(self._both)

    def take(self) -> bytes:
        """Read what is there; raises OSError."""
        return os.read(self._both, self.unread)

    def end(self) -> None:
        """Let the reader see the end, when it has read all."""
        if self._both >= 0:
            os.close(self._both)
            self._both = -1


@contextmanager
def stall(path: Path) -> Iterator[Stall]:
    """Make a pipe, and remove it; raises OSError."""
    os.mkfifo(path)
    made = Stall(path)
    try:
        yield made
    finally:
        made.end()
        path.unlink()
