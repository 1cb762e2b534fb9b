"""Project ids of files (FS_IOC_FSGETXATTR, linux/fs.h) and xfs project limits (quotactl(2), linux/dqblk_xfs.h).

Numbers are derived the way the headers do, not written down for one machine.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from dataclasses import dataclass
from typing import Final

_FSXATTR: Final = struct.Struct("=IIIII8x")  # xflags, extsize, nextents, projid, cowextsize, padding
_XFLAG_PROJINHERIT: Final = 0x200
_PROJECT_QUOTA: Final = 2  # PRJQUOTA, the type in a quotactl command
_Q_XGETQUOTA: Final = (ord("X") << 8) + 3
_Q_XSETQLIM: Final = (ord("X") << 8) + 4
# struct fs_disk_quota: version, flags, fieldmask, id, six 64-bit numbers, then timers and realtime limits.
_DISK_QUOTA: Final = struct.Struct("=bbHI6Q56x")
_VERSION: Final = 1
_FLAG_PROJECT: Final = 2  # FS_PROJ_QUOTA
_MASK_BLOCK_LIMITS: Final = 4 | 8  # FS_DQ_BSOFT, FS_DQ_BHARD
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
BLOCK: Final = 512  # bytes; the unit of limits ("basic blocks")


@dataclass(frozen=True, slots=True)
class ProjectId:
    """The project of a file, and whether what is made below it inherits that."""

    number: int
    inherit: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What the filesystem has noted of a project: its hard limit in bytes (0: none), and what it holds."""

    hard_limit: int = 0
    used: int = 0  # bytes
    inodes: int = 0


def ioctl_number(direction: int, number: int, machine: str) -> int:
    """_IOR ('X', number, struct fsxattr) for direction 2 and _IOW for direction 1 (asm-generic/ioctl.h).

    powerpc, mips, sparc and alpha number the directions the other way and have a bit less for the size.
    """
    if machine.startswith(("ppc", "mips", "sparc", "alpha")):
        return ({1: 4, 2: 2}[direction] << 29) | (_FSXATTR.size << 16) | (ord("X") << 8) | number
    return (direction << 30) | (_FSXATTR.size << 16) | (ord("X") << 8) | number


def get_project(fd: int) -> ProjectId:
    """The project of an open file or directory."""
    xflags, _, _, number, _ = _read(fd)
    return ProjectId(number, bool(xflags & _XFLAG_PROJINHERIT))


def set_project(fd: int, project: ProjectId) -> None:
    """Put a directory into a project; its other attributes stay."""
    xflags, extsize, nextents, _, cowextsize = _read(fd)
    xflags = xflags | _XFLAG_PROJINHERIT if project.inherit else xflags & ~_XFLAG_PROJINHERIT
    data = _FSXATTR.pack(xflags, extsize, nextents, project.number, cowextsize)
    fcntl.ioctl(fd, ioctl_number(1, 32, platform.machine()), data)


def pack_limit(project: int, limit: int) -> bytes:
    """A struct fs_disk_quota that sets hard and soft block limits, ``limit`` in bytes, 0 for none."""
    blocks = limit // BLOCK
    return _DISK_QUOTA.pack(_VERSION, _FLAG_PROJECT, _MASK_BLOCK_LIMITS, project, blocks, blocks, 0, 0, 0, 0)


def unpack_record(data: bytes) -> Record:
    """The hard block limit, the blocks and the inodes of a struct fs_disk_quota."""
    *_, hard, _, _, _, blocks, inodes = _DISK_QUOTA.unpack(data)
    return Record(hard * BLOCK, blocks * BLOCK, inodes)


def set_limit(device: str, project: int, limit: int) -> None:
    """Q_XSETQLIM of a project on a block device."""
    _quotactl(
        _Q_XSETQLIM,
        device,
        project,
        ctypes.create_string_buffer(pack_limit(project, limit), _DISK_QUOTA.size),
    )


def get_record(device: str, project: int) -> Record:
    """Q_XGETQUOTA; a project of which nothing is noted has an empty record."""
    buffer = ctypes.create_string_buffer(_DISK_QUOTA.size)
    try:
        _quotactl(_Q_XGETQUOTA, device, project, buffer)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return Record()
    return unpack_record(buffer.raw)


def _read(fd: int) -> tuple[int, int, int, int, int]:
    data = fcntl.ioctl(fd, ioctl_number(2, 31, platform.machine()), bytes(_FSXATTR.size))
    xflags, extsize, nextents, number, cowextsize = _FSXATTR.unpack(data)
    return xflags, extsize, nextents, number, cowextsize


def _quotactl(command: int, device: str, project: int, data: ctypes.Array[ctypes.c_char]) -> None:
    number = (command << 8) | _PROJECT_QUOTA
    if _LIBC.quotactl(number, os.fsencode(device), project, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), device)
