"""Removing what an opaque whiteout hides, in time that grows with the tree and not with the number of whiteouts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from refdriver.descent import READ, Descent
from refdriver.overlayxattr import is_whiteout_device


class Clearing:
    """Removes from directories what was in them before one archive.

    ``brought`` says whether the archive brought what is at a real path below the layer's root. ``forget`` closes
    descriptors that are kept of directories, but for one: a directory that goes may be among them.
    """

    def __init__(self, brought: Callable[[bytes], bool], forget: Callable[[int], None]) -> None:
        self._brought = brought
        self._forget = forget
        self._cleared: set[bytes] = set()  # real paths, with a slash at their end

    def clear(self, directory: int, path: bytes) -> None:
        """Remove what was in a directory before this archive; ``path`` is its real one, with a slash at its end.

        What comes into it later is of this archive, so neither it nor what is below it is ever cleared again.
        """
        if path in self._cleared:
            return
        self._forget(directory)
        with Descent(_opened_again(directory)) as way:
            # (real path with a slash, name, whether the archive brought it, names in it still to come)
            levels = [(path, b"", True, iter(_names(way.here)))]
            while levels:
                prefix, here, brought, names = levels[-1]
                name = next(names, None)
                if name is None:
                    levels.pop()
                    if levels:
                        way.up()
                    if not brought:
                        remove_if_empty(way.here, here)
                elif self._is_to_be_cleared(way.here, name, prefix + name):
                    brought = self._brought(prefix + name)
                    way.down(name)
                    levels.append((prefix + name + b"/", name, brought, iter(_names(way.here))))
        self._cleared.add(path)

    def _is_to_be_cleared(self, directory: int, name: bytes, path: bytes) -> bool:
        """Whether an entry is a directory to enter; another is removed if it is older than this archive."""
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(status.st_mode):
            if not self._brought(path):
                os.unlink(name, dir_fd=directory)
            return False
        if path + b"/" in self._cleared:
            if not self._brought(path):
                remove_if_empty(directory, name)
            return False
        return True


def remove_if_empty(directory: int, name: bytes) -> None:
    """rmdir(2); a directory that holds something stays."""
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # rmdir(2)
            raise


def remove_whiteouts(directory: str) -> None:
    """Remove every whiteout device below a directory."""
    with Descent(os.open(directory, READ & ~os.O_NOFOLLOW)) as way:
        levels = [iter(_names(way.here))]
        while levels:
            name = next(levels[-1], None)
            if name is None:
                levels.pop()
                if levels:
                    way.up()
                continue
            status = os.stat(name, dir_fd=way.here, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                way.down(name)
                levels.append(iter(_names(way.here)))
            elif is_whiteout_device(status):
                os.unlink(name, dir_fd=way.here)


def _opened_again(directory: int) -> int:
    """The same directory for reading, however it was opened."""
    return os.open(f"/proc/self/fd/{directory}", READ & ~os.O_NOFOLLOW)


def _names(directory: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(directory)]
