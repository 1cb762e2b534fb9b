"""Modification times of the directories that an archive brings, set when nothing is made in them any more."""

from __future__ import annotations

import os
import struct
from typing import IO, Final

from refdriver.archive.roots import Root

_ENTRY: Final = struct.Struct("=qII")  # seconds, nanoseconds, length of the path that follows
_SECOND: Final = 10**9


class DirectoryTimes:
    """Times by real path below one root, in the order of the archive; the last one of a path holds.

    They are in a file, so that memory does not grow with them.
    """

    def __init__(self, root: Root, file: IO[bytes]) -> None:
        self._root = root
        self._file = file
        self._removed: dict[bytes, int] = {}  # real path of a directory that went: what was noted before is void

    def note(self, path: bytes, mtime: int) -> None:
        """The directory at a real path is to have this time, in nanoseconds."""
        self._file.write(_ENTRY.pack(*divmod(mtime, _SECOND), len(path)) + path)

    def removed(self, path: bytes) -> None:
        """The directory at a real path was removed, and all in it: another at that path is not the archive's."""
        self._removed[path] = self._file.tell()

    def set(self) -> None:
        """Set all times. No symlink is followed, and a directory that another entry replaced has no time to set.

        Raises OSError.
        """
        self._file.seek(0)
        position = 0
        while header := self._file.read(_ENTRY.size):
            seconds, fraction, length = _ENTRY.unpack(header)
            path = self._file.read(length)
            if not self._is_removed(path, position):
                with self._root.plain_directory(path, None, make_missing=False) as fd:
                    assert fd is not None, "whatever removes a directory of the archive says so"
                    nanoseconds = seconds * _SECOND + fraction
                    os.utime(f"/proc/self/fd/{fd}", ns=(nanoseconds, nanoseconds))
            position += _ENTRY.size + length

    def _is_removed(self, path: bytes, position: int) -> bool:
        """Whether the directory that was noted there, or one above it, was removed later."""
        if not self._removed:
            return False
        while path:
            if self._removed.get(path, -1) > position:
                return True
            path = path.rpartition(b"/")[0]
        return False
