"""How much a layer holds: the sizes of its non-directories in bytes, each inode once, whiteouts nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from refdriver.changes import Change, ChangeKind
from refdriver.errors import UnreadableLayer


def layer_size(diff: str) -> int:
    """The size of a layer's own directory; a whiteout is a device or an empty file, so it holds nothing.

    Raises UnreadableLayer.
    """
    counted = _Inodes()
    pending = [diff]
    total = 0
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += counted.size_once(entry.stat(follow_symlinks=False))
        except OSError as error:
            raise _unreadable(directory, error) from error
    return total


def changes_size(root: str, changes: Iterable[Change]) -> int:
    """The size of what changes add and modify in the tree at ``root``; raises UnreadableLayer."""
    counted = _Inodes()
    directory = os.fsencode(root)
    total = 0
    for change in changes:
        if change.kind is not ChangeKind.DELETE:
            try:
                total += counted.size_once(os.lstat(directory + change.path))
            except OSError as error:
                raise _unreadable(directory + change.path, error) from error
    return total


def _unreadable(path: str | bytes, error: OSError) -> UnreadableLayer:
    return UnreadableLayer(f"cannot read {path!r} to find the size: {error.strerror}")


class _Inodes:
    """Remembers inodes with several names until it has met them all."""

    def __init__(self) -> None:
        self._left: dict[tuple[int, int], int] = {}

    def size_once(self, status: os.stat_result) -> int:
        if stat.S_ISDIR(status.st_mode):
            return 0
        if status.st_nlink < 2:
            return status.st_size
        key = (status.st_dev, status.st_ino)
        left = self._left.pop(key, 0)
        if left != 1:
            self._left[key] = (left or status.st_nlink) - 1
        return 0 if left else status.st_size
