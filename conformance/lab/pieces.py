"""A file that arrives in pieces: a pipe that holds one piece, and gets the next one when it is empty."""

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
