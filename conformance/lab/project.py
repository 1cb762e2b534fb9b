"""Projects of xfs, as anybody sees and sets them (ioctl_xfs_fsgetxattr(2), quotactl(2)), and what a tree takes."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from typing import Final

_FSXATTR: Final = struct.Struct("=IIIII8x")  # xflags, extsize, nextents, projid, cowextsize, padding
_GET: Final = 0x801C581F  # FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR of linux/fs.h, on machines that suites run on
_SET: Final = 0x401C5820
_INHERIT: Final = 0x200  # FS_XFLAG_PROJINHERIT
_UNIT: Final = 512  # bytes, of st_blocks and of limits
_SET_LIMIT: Final = (((ord("X") << 8) + 4) << 8) | 2  # Q_XSETQLIM of linux/dqblk_xfs.h, for projects
# struct fs_disk_quota: version, flags, which fields, id, hard and soft limits of blocks and inodes, and the rest.
_LIMIT: Final = struct.Struct("=bbHI4Q72x")
_OF_PROJECT: Final = 2
_HARD_BLOCKS: Final = 8


def project_of(path: str) -> int:
    """The project id of a directory."""
    return _asked(path)[3]


def put_into_project(path: str, number: int, *, inherit: bool) -> None:
    """Set the project id of a directory, and whether what is made in it gets the same."""
    xflags, extsize, nextents, _, cowextsize = _asked(path)
    xflags = xflags | _INHERIT if inherit else xflags & ~_INHERIT
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _SET, _FSXATTR.pack(xflags, extsize, nextents, number, cowextsize))
    finally:
        os.close(fd)


def limit_project(path: str, number: int, size: int) -> None:
    """Let a project have ``size`` bytes at most on the filesystem of a directory; raises OSError."""
    device = f"{path}.device"  # quotactl(2) takes the filesystem by a block device
    os.mknod(device, 0o600 | stat.S_IFBLK, os.stat(path).st_dev)
    try:
        said = _LIMIT.pack(1, _OF_PROJECT, _HARD_BLOCKS, number, size // _UNIT, 0, 0, 0)
        if ctypes.CDLL(None, use_errno=True).quotactl(_SET_LIMIT, os.fsencode(device), number, said) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.unlink(device)


def limit_of(path: str) -> int:
    """The bytes that a directory, whose project is passed on, may hold (statfs(2))."""
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def taken_below(directory: str) -> int:
    """The bytes of all blocks that a directory and what is in it take, each inode once, mounts left out."""
    device = os.lstat(directory).st_dev
    found: dict[int, int] = {}
    for root, below, files in os.walk(directory):
        for path in (root, *(os.path.join(root, name) for name in (*below, *files))):
            status = os.lstat(path)
            if status.st_dev == device:
                found[status.st_ino] = status.st_blocks * _UNIT
        below[:] = [name for name in below if os.lstat(os.path.join(root, name)).st_dev == device]
    return sum(found.values())


def _asked(path: str) -> tuple[int, int, int, int, int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        xflags, extsize, nextents, number, cowextsize = _FSXATTR.unpack(fcntl.ioctl(fd, _GET, bytes(_FSXATTR.size)))
    finally:
        os.close(fd)
    return xflags, extsize, nextents, number, cowextsize
