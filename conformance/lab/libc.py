"""System calls that Python's os module does not have in every version, by the C library.

Each raises OSError with the errno of the call. supervisor.py has calls of its own, as it runs without this package.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

CLONE_FS: Final = 0x200
CLONE_NEWNS: Final = 0x20000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_NOSYMFOLLOW: Final = 256
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SHARED: Final = 1 << 20
MNT_DETACH: Final = 2
PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
_STATFS: Final = 120  # bytes of struct statfs on 64-bit machines (asm-generic/statfs.h)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    kind: str | None = None,
    flags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """mount(2)."""
    words = [None if one is None else os.fsencode(one) for one in (source, target, kind, data)]
    _check(_LIBC.mount(*words[:3], ctypes.c_ulong(flags), words[3]))


def umount(target: str | os.PathLike[str], flags: int = 0) -> None:
    """umount2(2)."""
    _check(_LIBC.umount2(os.fsencode(target), flags))


def detach(target: str | os.PathLike[str]) -> None:
    """umount2(2) with MNT_DETACH."""
    umount(target, MNT_DETACH)


def unshare(flags: int) -> None:
    """unshare(2); os.unshare came with Python 3.12."""
    _check(_LIBC.unshare(flags))


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _check(_LIBC.prctl(option, value, 0, 0, 0))


def syncfs(descriptor: int) -> None:
    """syncfs(2)."""
    _check(_LIBC.syncfs(descriptor))


def statfs(path: str | os.PathLike[str]) -> bytes:
    """statfs(2): the bytes of struct statfs, of which the first eight are ``f_type``."""
    buffer = ctypes.create_string_buffer(2 * _STATFS)
    _check(_LIBC.statfs(os.fsencode(path), buffer))
    return buffer.raw[:_STATFS]


def seccomp(number: int, operation: int, flags: int, program: bytes) -> int:
    """seccomp(2), call ``number`` of this machine, with a BPF program; what it answers, such as a descriptor."""
    code = ctypes.create_string_buffer(program, len(program))
    header = _sock_fprog(len(program) // 8, ctypes.addressof(code))
    return _check(int(_LIBC.syscall(number, operation, ctypes.c_ulong(flags), header)))


def _sock_fprog(length: int, address: int) -> ctypes.Array[ctypes.c_char]:
    """A struct sock_fprog (linux/filter.h): the number of instructions, and where they are."""
    packed = length.to_bytes(2, "little").ljust(8, b"\0") + address.to_bytes(8, "little")
    return ctypes.create_string_buffer(packed, len(packed))
