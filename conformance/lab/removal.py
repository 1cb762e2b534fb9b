"""Removal of directory trees, with the read-only subvolumes of btrfs that may be in them.

A driver of btrfs keeps a layer as a subvolume and may leave it read-only: then not even root removes a name in it
(EROFS), and an unmount does not help. The flag is a property of the subvolume, cleared by an ioctl
(btrfs-subvolume(8), btrfs-property(8); linux/btrfs.h). An empty subvolume is removed by rmdir(2) since Linux 4.18.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

from conformance.lab import namespace

_BTRFS: Final = 0x9123683E  # BTRFS_SUPER_MAGIC
_SUBVOLUME_INODE: Final = 256  # BTRFS_FIRST_FREE_OBJECTID: the root directory of each subvolume
_GETFLAGS: Final = 0x80089419  # BTRFS_IOC_SUBVOL_GETFLAGS
_SETFLAGS: Final = 0x4008941A  # BTRFS_IOC_SUBVOL_SETFLAGS
_READ_ONLY: Final = 2  # BTRFS_SUBVOL_RDONLY
_FLAGS: Final = struct.Struct("Q")


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it; raises OSError."""
    try:
        shutil.rmtree(directory)
    except RecursionError:  # an archive made directories deeper than a call of Python may nest
        subprocess.run(["rm", "-rf", "--one-file-system", "--", directory], check=False)
        if os.path.lexists(directory):
            raise
    except OSError as error:
        if error.errno != errno.EROFS or not make_subvolumes_writable(directory):
            raise
        shutil.rmtree(directory)


def make_subvolumes_writable(directory: Path) -> list[Path]:
    """Make each read-only subvolume of btrfs at or below a directory writable; those that were read-only."""
    found = []
    for path, _, _ in os.walk(directory):
        if _is_subvolume(path) and _make_writable(path):
            found.append(Path(path))
    return found


def _is_subvolume(path: str) -> bool:
    return os.lstat(path).st_ino == _SUBVOLUME_INODE and namespace.filesystem_magic(Path(path)) == _BTRFS


def _make_writable(subvolume: str) -> bool:
    fd = os.open(subvolume, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        (flags,) = _FLAGS.unpack(fcntl.ioctl(fd, _GETFLAGS, bytes(_FLAGS.size)))
        if flags & _READ_ONLY:
            fcntl.ioctl(fd, _SETFLAGS, _FLAGS.pack(flags & ~_READ_ONLY))
    finally:
        os.close(fd)
    return bool(flags & _READ_ONLY)
