"""Small files of a home, read and written whole, and questions whose errors are no answers.

Only ENOENT and ENOTDIR mean that there is no such file. Every other error is raised: a layer whose ``lower``
cannot be read is not a layer without a parent.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_LEFT_ALONE: Final = (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def is_directory(path: str) -> bool:
    """Whether a path, symlinks followed, is a directory; raises OSError when that cannot be known."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_link(path: str) -> str | None:
    """The target of a symlink, None if there is nothing of that name; raises OSError (EINVAL: no symlink)."""
    try:
        return os.readlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def names_in(directory: str) -> list[str]:
    """The names in a directory, none if it is not there; raises OSError."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove_empty(directory: str) -> None:
    """rmdir(2); a directory that is gone, or in which something is, is left as it is."""
    try:
        os.rmdir(directory)
    except OSError as error:
        # POSIX lets a filesystem answer either for a directory that is not empty.
        if error.errno not in _LEFT_ALONE:
            raise


def read_whole(path: str, limit: int) -> bytes | None:
    """All bytes of a file, at most ``limit`` + 1 of them, None if there is none; raises OSError.

    A symlink is ELOOP and a directory EISDIR.
    """
    try:
        fd = os.open(path, _READ)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = b""
        while len(data) <= limit and (block := os.read(fd, limit + 1 - len(data))):
            data += block
        return data
    finally:
        os.close(fd)


def read_text(path: str) -> str:
    """The text of a file of the kernel's; raises OSError."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def write_whole(fd: int, data: bytes) -> None:
    """Write all of ``data``, though write(2) may take less of it; raises OSError when the rest finds no room."""
    while data:
        data = data[os.write(fd, data) :]


def create_synced(path: str, data: bytes, mode: int) -> None:
    """Make a file that holds ``data`` and is on the disk (fsync(2)), or none; raises OSError."""
    fd = os.open(path, _CREATE, mode)
    try:
        write_whole(fd, data)
        os.fsync(fd)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
