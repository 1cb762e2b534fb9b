"""How overlay stores what a layer deletes: whiteouts and opaque directories (overlayfs.rst), and those of AUFS.

A deleted name is a character device 0/0. A directory that hides those of the layers below has an extended
attribute. fuse-overlayfs reads both, and where it can make neither it uses the names of AUFS, which are those of
archives too (image-spec/layer.md).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from conformance.lab import namespace as namespaces

PREFIX: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
INTERNAL: Final = ("trusted.overlay.", "user.overlay.", "user.fuseoverlayfs.", "trusted.fuseoverlayfs.")
_OPAQUE: Final = tuple(f"{prefix}opaque" for prefix in INTERNAL)
_ELSEWHERE: Final = ("redirect", "metacopy")  # the content of what has such an attribute is in a lower


def is_whiteout(status: os.stat_result) -> bool:
    """Whether a file of an upper directory is a whiteout device."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: bytes) -> bool:
    """Whether a directory of an upper hides those of the layers below."""
    return any(attribute(directory, name) == b"y" for name in _OPAQUE) or os.path.lexists(
        os.path.join(directory, OPAQUE)
    )


def has_content_elsewhere(path: bytes) -> bool:
    """Whether an entry of an upper refers to a lower for its content or its entries."""
    return any(attribute(path, prefix + name) is not None for prefix in INTERNAL for name in _ELSEWHERE)


def attribute(path: bytes, name: str) -> bytes | None:
    """An extended attribute, None if there is none of this name."""
    with suppress(OSError):
        return os.getxattr(path, name, follow_symlinks=False)
    return None


def namespace() -> str:
    """That of overlay's attributes: user where this process is root of a user namespace only (``userxattr``)."""
    return "user" if namespaces.in_user_namespace() else "trusted"


def make_whiteout(path: bytes) -> None:
    """Make a whiteout device; raises OSError."""
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))


def make_opaque(directory: bytes, namespace: str) -> None:
    """Make a directory opaque; ``namespace`` is that of the attribute, trusted or user. Raises OSError."""
    os.setxattr(directory, f"{namespace}.overlay.opaque", b"y", follow_symlinks=False)


def kind_below(lowers: Iterable[Path], path: bytes) -> str:
    """What layers show at a path, ``lowers`` from the uppermost down: "directory", "other", or "" for nothing."""
    seen = [os.fsencode(one) for one in lowers]
    kind = "directory" if seen else ""
    for part in path.split(b"/") if path else ():
        if kind != "directory":
            return ""
        seen, kind = _step(seen, part)
    return kind


def _step(directories: list[bytes], name: bytes) -> tuple[list[bytes], str]:
    """The directories that are merged one step deeper, and the kind of what is there."""
    found: list[bytes] = []
    for directory in directories:
        path = os.path.join(directory, name)
        try:
            status = os.lstat(path)
        except OSError:
            if os.path.lexists(os.path.join(directory, PREFIX + name)):
                break
            continue
        if is_whiteout(status):
            break
        if not stat.S_ISDIR(status.st_mode):
            return found, "directory" if found else "other"
        found.append(path)
        if is_opaque(path):
            break
    return found, "directory" if found else ""
