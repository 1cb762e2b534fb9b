"""A way down a tree of any depth with a bounded number of descriptors.

Each directory is opened relative to the one above it and never through a symlink. Only the deepest few stay open.
On the way back a directory that was closed is opened again as ``..`` of the one below, and must be the same
directory (device and inode): a rename that moved a directory meanwhile is an error and never a way out.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Final, Self

READ: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
SEARCH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_MAX: Final = 16  # directories; a deeper way costs one open more for each step back


class Descent:
    """From ``top``, a descriptor that now belongs to this object; ``flags`` are of open(2), READ or SEARCH."""

    def __init__(self, top: int, flags: int = READ) -> None:
        self._flags = flags
        self._open = deque([top])  # the deepest is last
        self._closed: list[tuple[int, int]] = []  # device and inode of the directories above those

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def here(self) -> int:
        """The descriptor of the directory that was reached; it may close with the next step."""
        return self._open[-1]

    @property
    def depth(self) -> int:
        """Steps below the top."""
        return len(self._closed) + len(self._open) - 1

    def down(self, name: str | bytes) -> None:
        """Go into a directory; raises OSError and stays where it was."""
        self._open.append(os.open(name, self._flags, dir_fd=self._open[-1]))
        if len(self._open) > _OPEN_MAX:
            above = self._open.popleft()
            status = os.fstat(above)
            self._closed.append((status.st_dev, status.st_ino))
            os.close(above)

    def up(self) -> None:
        """Go back one step; raises OSError, ESTALE when the directory above is another one now."""
        left = self._open.pop()
        try:
            if not self._open and self._closed:
                self._reopen(left)
        finally:
            os.close(left)

    def _reopen(self, below: int) -> None:
        self._open.append(os.open("..", self._flags, dir_fd=below))
        status = os.fstat(self._open[-1])
        if (status.st_dev, status.st_ino) != self._closed.pop():
            raise OSError(errno.ESTALE, "a directory was moved while it was walked")

    def take(self) -> int:
        """The descriptor that was reached; it belongs to the caller, and the rest is closed."""
        taken = self._open.pop()
        self.close()
        return taken

    def close(self) -> None:
        """Close what is open; again is no error."""
        while self._open:
            os.close(self._open.pop())
