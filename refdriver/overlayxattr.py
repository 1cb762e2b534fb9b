"""The marks that overlay leaves in an upper: whiteouts and opaque directories (overlayfs.rst).

Mounts made by root keep their marks in ``trusted.overlay.*``, mounts made in a user namespace with
``userxattr`` in ``user.overlay.*``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class OverlayXattrs:
    """The extended attributes of one kind of mount; ``prefix`` ends with a dot."""

    prefix: str

    @property
    def opaque(self) -> str:
        """On a directory, "y": nothing of the lowers shows in it; "x": it may hold whiteouts in xattr form."""
        return self.prefix + "opaque"

    @property
    def whiteout(self) -> str:
        """On an empty regular file in a directory marked "x": a whiteout (kernel 6.7)."""
        return self.prefix + "whiteout"

    def is_opaque(self, directory: str | bytes | int) -> bool:
        """Whether a directory, by path or descriptor, hides the lowers."""
        try:
            return os.getxattr(directory, self.opaque) == b"y"
        except OSError:
            return False  # no mark, or a filesystem without such attributes

    def is_whiteout(self, status: os.stat_result, path: str | bytes) -> bool:
        """Whether what was found at ``path`` is a whiteout, as a device or in xattr form."""
        if is_whiteout_device(status):
            return True
        if status.st_size or not stat.S_ISREG(status.st_mode):
            return False
        try:
            os.getxattr(path, self.whiteout, follow_symlinks=False)
        except OSError:
            return False
        return True


def is_whiteout_device(status: os.stat_result) -> bool:
    """Whether this is the character device 0/0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_directory_below(lowers: Sequence[str], parts: Sequence[bytes], overlay: OverlayXattrs) -> bool:
    """Whether the lowers, uppermost first, show a directory at a path when they are merged (overlayfs.rst)."""
    shown = [os.fsencode(lower) for lower in lowers]
    for part in parts:
        deeper = []
        for path in (directory + b"/" + part for directory in shown):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                break  # a whiteout or another kind hides what is below
            deeper.append(path)
            if overlay.is_opaque(path):
                break
        shown = deeper
    return bool(shown)


TRUSTED: Final = OverlayXattrs("trusted.overlay.")
USER: Final = OverlayXattrs("user.overlay.")
