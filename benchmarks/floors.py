"""The floor of get and put in Python: the system calls that the driver makes for them, and nothing else.

They are those that strace(1) shows for a layer with a parent, in their order. A driver in Python that gives up no
check and no lock cannot take less.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from refdriver.linux import libc
from refdriver.mounts import MountPlan, MountRequest

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux: type, whence, start, length, pid
_READ: Final = 1 << 16  # bytes that are asked for


def get_and_put(request: MountRequest, plan: MountPlan, home: str, links: Sequence[str]) -> Callable[[int], None]:
    """What makes the calls of so many pairs of a get and a put, from the directory that ``plan`` names."""
    layer = os.path.dirname(request.target)
    lower, diff, count = f"{layer}/lower", f"{layer}/diff", f"{home}/.no-count"
    held, left = (_FLOCK.pack(kind, os.SEEK_SET, 1, 1, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK))

    def look(lock: int) -> None:
        """What both begin with."""
        os.access(diff, os.F_OK)
        os.access(lower, os.F_OK)
        os.access(layer, os.F_OK)
        os.access(lower, os.F_OK)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLKW, held)
        os.access(layer, os.F_OK)
        libc.filesystem_magic(request.target)
        libc.filesystem_magic(request.target)

    def get(lock: int) -> None:
        look(lock)
        os.stat(request.target)
        os.stat(request.work)
        fd = os.open(lower, os.O_RDONLY)
        os.read(fd, _READ)
        os.read(fd, _READ)
        os.close(fd)
        for link in links:
            os.readlink(link)
        with suppress(FileNotFoundError):
            os.open(count, os.O_RDONLY)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLKW, held)
        libc.mount_id(home)
        libc.mount("overlay", request.target, "overlay", 0, plan.data)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, left)
        os.chown(f"{request.work}/work", 0, 0)
        with suppress(FileNotFoundError):
            os.unlink(count)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, left)

    def put(lock: int) -> None:
        look(lock)
        with suppress(FileNotFoundError):
            os.open(count, os.O_RDONLY)
        fcntl.fcntl(lock, fcntl.F_OFD_GETLK, held)
        libc.umount(request.target, libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
        with suppress(FileNotFoundError):
            os.unlink(count)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, left)

    def both(repeats: int) -> None:
        file = Path(home, ".floor")
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(repeats):
            get(lock)
            put(lock)
        os.close(lock)
        file.unlink()

    return both
