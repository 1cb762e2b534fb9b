"""A whole archive to a descriptor: the data of large files moves inside the kernel."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from refdriver.archive.stream import Chunks, FileData, read_into, whole

_LARGE: Final = 1 << 20  # bytes read and written at once


def write_out(chunks: Chunks, fd: int) -> int:
    """Write all chunks to a descriptor; the bytes written. Raises UnreadableLayer and OSError."""
    written = 0
    for chunk in chunks:
        written += _send(chunk, fd) if isinstance(chunk, FileData) else _write_all(fd, memoryview(chunk))
    return written


def _send(file: FileData, fd: int) -> int:
    """sendfile(2) takes any file to any descriptor, but for one that is open for appending."""
    sent = 0
    with contextlib.suppress(_NotSendable):
        while sent < file.size:
            sent += _send_some(file, file.size - sent, fd)
        return sent
    buffer = memoryview(bytearray(_LARGE))
    while sent < file.size:
        count = read_into(file, buffer[: file.size - sent])
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
    return whole(count, file)


def _write_all(fd: int, data: memoryview) -> int:
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])
    return written
