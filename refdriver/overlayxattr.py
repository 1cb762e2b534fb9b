"""The marks that overlay leaves in an upper: whiteouts and opaque directories (overlayfs.rst).

Mounts made by root keep their marks in ``trusted.overlay.*``, mounts made in a user namespace with
``userxattr`` in ``user.overlay.*``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_ABSENT: Final = (errno.ENODATA, errno.ENOENT, errno.ENOTDIR, errno.EOPNOTSUPP)


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
        """Whether a directory, by path or descriptor, hides the lowers.

        Raises OSError when that cannot be told. An error taken for "no" would show what was deleted.
        """
        return _value(directory, self.opaque) == b"y"

    def is_whiteout(self, status: os.stat_result, path: str | bytes) -> bool:
        """Whether what was found at ``path`` is a whiteout, as a device or in xattr form; raises OSError."""
        if is_whiteout_device(status):
            return True
        if status.st_size or not stat.S_ISREG(status.st_mode):
            return False
        return _value(path, self.whiteout, follow_symlinks=False) is not None


def _value(target: str | bytes | int, name: str, *, follow_symlinks: bool = True) -> bytes | None:
    """An extended attribute; None without one, without the file, or on a filesystem that has none (xattr(7))."""
    try:
        if isinstance(target, int):
            return os.getxattr(target, name)
        return os.getxattr(target, name, follow_symlinks=follow_symlinks)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def is_whiteout_device(status: os.stat_result) -> bool:
    """Whether this is the character device 0/0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_directory_below(lowers: Sequence[str], parts: Sequence[bytes], overlay: OverlayXattrs) -> bool:
    """Whether the lowers, uppermost first, show a directory at a path when they are merged (overlayfs.rst).

    Raises OSError when that cannot be told.
    """
    shown = [os.fsencode(lower) for lower in lowers]
    for part in parts:
        deeper = []
        for path in (directory + b"/" + part for directory in shown):
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(status.st_mode):
                break  # a whiteout or another kind hides what is below
            deeper.append(path)
            if overlay.is_opaque(path):
                break
        shown = deeper
    return bool(shown)


def names_below(lowers: Sequence[str], overlay: OverlayXattrs) -> list[bytes]:
    """The names that the roots of the lowers, uppermost first, show when they are merged; raises OSError.

    The kernel merges the roots of all layers, an opaque one too.
    """
    shown: dict[bytes, bool] = {}
    for lower in map(os.fsencode, lowers):
        for name in os.listdir(lower):
            if name not in shown:
                path = lower + b"/" + name
                shown[name] = not overlay.is_whiteout(os.lstat(path), path)
    return sorted(name for name, is_shown in shown.items() if is_shown)


def is_carried(name: str) -> bool:
    """Whether archives carry an attribute: the user's own, and capabilities.

    Never one of overlay itself, of whichever kind of mount: another mount of the layer could take it for a mark.
    """
    return name == "security.capability" or (name.startswith("user.") and not name.startswith(USER.prefix))


TRUSTED: Final = OverlayXattrs("trusted.overlay.")
USER: Final = OverlayXattrs("user.overlay.")
