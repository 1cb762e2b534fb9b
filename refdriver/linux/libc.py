"""mount(2), umount2(2), unshare(2), syncfs(2), access(2), statx(2) and getdents64(2) through the C library."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import Final

MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8
CLONE_FS: Final = 0x200
CLONE_NEWNS: Final = 0x20000
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
AT_FDCWD: Final = -100
DT_UNKNOWN: Final = 0
_STATX_MNT_ID: Final = 0x1000
_STATX_FIELDS: Final = struct.Struct("=I140xQ")  # which fields it has, and stx_mnt_id

_StructStatx = ctypes.c_char * 256
_StructStatfs = ctypes.c_long * 32  # the first one is f_type; the whole is 120 bytes or less everywhere
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_ACCESS: Final = _LIBC.access
_ACCESS.argtypes = (ctypes.c_char_p, ctypes.c_int)
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR)
_DIRENT: Final = struct.Struct("=QqHB")  # struct linux_dirent64: inode, offset, record length, type
_MAGIC_MASK: Final = 0xFFFFFFFF  # f_type is a signed long on some machines


def _checked(result: int, path: str | bytes | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def mount(source: str, target: str | bytes, fstype: str | None, flags: int, data: bytes | None) -> None:
    """mount(2). ``data`` is cut by the kernel at one page less one byte; callers must check before."""
    _checked(
        _LIBC.mount(
            os.fsencode(source),
            os.fsencode(target),
            None if fstype is None else os.fsencode(fstype),
            ctypes.c_ulong(flags),
            data,
        ),
        target,
    )


def umount(target: str | bytes, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_LIBC.umount2(os.fsencode(target), flags), target)


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _checked(_LIBC.unshare(flags))


def renameat2(source: str | bytes, target: str | bytes, flags: int) -> None:
    """renameat2(2) of two paths, with RENAME_NOREPLACE or RENAME_EXCHANGE."""
    _checked(
        _LIBC.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)),
        target,
    )


def exists(path: str | bytes) -> bool:
    """Whether a path, symlinks followed, names something (access(2)); raises OSError when that cannot be known.

    ``os.access`` and ``os.path.exists`` answer False for every error, EIO and EACCES among them.
    """
    if os.access(path, os.F_OK) or _ACCESS(os.fsencode(path), os.F_OK) == 0:  # the first one is four times as fast
        return True
    number = ctypes.get_errno()
    if number in _NOT_THERE:
        return False
    raise OSError(number, os.strerror(number), path)


def syncfs(fd: int) -> None:
    """syncfs(2); since Linux 5.8 EIO for what could not be written since ``fd`` was opened, whoever tried to."""
    _checked(_LIBC.syncfs(fd))


def filesystem_magic(path: str | bytes) -> int:
    """``f_type`` of statfs(2), the number that names a kind of filesystem."""
    buffer = _StructStatfs()
    _checked(_LIBC.statfs(os.fsencode(path), buffer), path)
    return int(buffer[0]) & _MAGIC_MASK


def mount_id(path: str | bytes) -> int | None:
    """The id of the mount that a path leads to, as in mountinfo (proc(5)); raises OSError.

    None before Linux 5.8, and where there is no statx(2).
    """
    buffer = _StructStatx()
    try:
        _checked(_LIBC.statx(AT_FDCWD, os.fsencode(path), 0, ctypes.c_uint(_STATX_MNT_ID), buffer), path)
    except AttributeError:  # a C library without it
        return None
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return None
    mask, found = _STATX_FIELDS.unpack_from(buffer)
    return int(found) if mask & _STATX_MNT_ID else None


def directory_entry_types(fd: int) -> Iterator[tuple[bytes, int]]:
    """Name and ``d_type`` of each entry of an open directory, as getdents64(2) gives them."""
    buffer = ctypes.create_string_buffer(32768)
    while (length := _checked(_LIBC.getdents64(fd, buffer, len(buffer)))) > 0:
        position = 0
        while position < length:
            _, _, record_length, kind = _DIRENT.unpack_from(buffer, position)
            name = buffer.raw[position + _DIRENT.size : position + record_length]
            yield name.split(b"\0", 1)[0], kind
            position += record_length
