"""A mount namespace in which everything is read-only but what is named: a driver that errs there gets EROFS.

Each mount of the namespace is remounted read-only by itself (mount(2), MS_REMOUNT | MS_BIND), which every kernel
takes that has overlay; mount_setattr(2) with AT_RECURSIVE would also change what is to stay as it is. The flag is
the mount's and not the filesystem's, so other namespaces see no difference. It binds everybody in the namespace,
root too; whoever has CAP_SYS_ADMIN there may undo it by another remount.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from conformance.lab import libc, mountinfo
from conformance.lab.mountinfo import Mount

# Device nodes are made there (loop devices), and what is written there is no file of a disk; except below /dev/shm.
_AS_THEY_ARE: Final = ("/dev", "/proc", "/sys")
_SHARED_MEMORY: Final = "/dev/shm"
_OURS: Final = "overlay-conformance"  # the source of its mount in a namespace that has one of its own
# A remount sets all flags anew, and those that a user namespace inherited may not be cleared
# (mount_namespaces(7)); times of access are kept if no flag names them.
_KEPT: Final = {
    "nosuid": libc.MS_NOSUID,
    "nodev": libc.MS_NODEV,
    "noexec": libc.MS_NOEXEC,
    "nosymfollow": libc.MS_NOSYMFOLLOW,
}


def protect(writable: Sequence[Path]) -> list[str]:
    """Remount everything read-only in this mount namespace, which must be private, except for directories.

    ``writable`` and what is mounted below it, now or later, stay as they are. Shared memory is hidden by one of
    this namespace, unless ``writable``, the working directory or a directory of modules is in it. What was done
    before is not done again. The mounts that could not be changed, each with the reason; a path of ``writable``
    that does not exist raises OSError.
    """
    resolved = [os.path.realpath(one, strict=True) for one in writable]
    roots = [one for one in resolved if not any(one != other and _is_within(one, other) for other in resolved)]
    for root in roots:
        _mount_on_itself(root)
    mounts = mountinfo.mounts()
    shown = (*roots, *_read_from())
    if not any(_is_within(one, _SHARED_MEMORY) for one in shown) and _hide_shared_memory(mounts):
        roots.append(_SHARED_MEMORY)
    left = []
    for one in mounts:
        kept = _AS_THEY_ARE if not _is_within(one.point, _SHARED_MEMORY) else ()
        if (
            "ro" in one.options
            or one.fstype == "autofs"
            or any(_is_within(one.point, root) for root in (*kept, *roots))
        ):
            continue
        try:
            _remount(one, libc.MS_RDONLY)
        except (FileNotFoundError, PermissionError) as error:
            # No path leads there: a later mount covers it, or (EACCES) this user may not search a directory.
            if error.errno == errno.EPERM:
                left.append(f"{one.point} ({error.strerror})")
        except OSError as error:
            left.append(f"{one.point} ({error.strerror})")
    return left


def allow(paths: Iterable[Path]) -> None:
    """Make directories writable again that protect() made read-only; raises OSError."""
    for path in paths:
        root = os.path.realpath(path, strict=True)
        _mount_on_itself(root)
        over = mountinfo.covering(mountinfo.mounts(), root)
        assert over is not None, "it was mounted just now"
        _remount(over, 0)


def is_read_only(path: Path) -> bool:
    """Whether the mount that a path is on is read-only (statvfs(3))."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _read_from() -> list[str]:
    """Where this process, and what it starts, finds modules and files of relative paths."""
    try:
        return [os.path.realpath(one) for one in (os.getcwd(), *sys.path)]
    except FileNotFoundError:  # the working directory is gone
        return [os.path.realpath(one) for one in sys.path if os.path.isabs(one)]


def _hide_shared_memory(mounts: Sequence[Mount]) -> bool:
    """Mount shared memory of its own in this namespace (shm_overview(7)); whether that is there."""
    there = mountinfo.covering(mounts, _SHARED_MEMORY)
    if there is None or there.point != _SHARED_MEMORY:
        return False
    if there.source == _OURS:
        return True
    try:
        libc.mount(_OURS, _SHARED_MEMORY, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV)
    except OSError:
        return False
    return True


def _mount_on_itself(root: str) -> None:
    if any(one.point == root for one in mountinfo.mounts()):
        return
    # With what is mounted below: in a user namespace the kernel refuses to uncover it.
    libc.mount(root, root, flags=libc.MS_BIND | libc.MS_REC)


def _remount(one: Mount, flags: int) -> None:
    for name, flag in _KEPT.items():
        flags |= flag if name in one.options else 0
    libc.mount("none", one.point, flags=libc.MS_REMOUNT | libc.MS_BIND | flags)


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
