"""Mounts as containerd describes them, made with mount(2) as its own clients do (containerd's mount package)."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from conformance.adapters.containerd.messages import Mount

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CLONE_FS: Final = 0x200
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_RDONLY: Final = 1
_REMOUNT: Final = 32
_BIND: Final = 4096
# mount(8), "filesystem-independent mount options", and what mount(2) calls them: bits to set and to clear.
_FLAGS: Final = {
    "defaults": (0, 0),
    "ro": (_RDONLY, 0),
    "rw": (0, _RDONLY),
    "nosuid": (2, 0),
    "suid": (0, 2),
    "nodev": (4, 0),
    "dev": (0, 4),
    "noexec": (8, 0),
    "exec": (0, 8),
    "sync": (16, 0),
    "async": (0, 16),
    "remount": (_REMOUNT, 0),
    "noatime": (1024, 0),
    "atime": (0, 1024),
    "nodiratime": (2048, 0),
    "diratime": (0, 2048),
    "bind": (_BIND, 0),
    "rbind": (_BIND | 16384, 0),
    "relatime": (1 << 21, 0),
    "norelatime": (0, 1 << 21),
    "strictatime": (1 << 24, 0),
    "nostrictatime": (0, 1 << 24),
}


def mount_all(mounts: list[Mount], point: Path) -> None:
    """Make mounts, each over the one before; raises OSError with nothing left mounted."""
    done: list[Path] = []
    try:
        for mount in mounts:
            target = point / mount.target.lstrip("/")
            _mount(mount, target)
            done.append(target)
    except OSError:
        for target in reversed(done):
            unmount(target)
        raise


def unmount_all(mounts: list[Mount], point: Path) -> None:
    """Undo mount_all; raises OSError, such as EBUSY for a mount in use."""
    for mount in reversed(mounts):
        unmount(point / mount.target.lstrip("/"))


def unmount(target: Path) -> None:
    """Unmount what is topmost on a path."""
    _call(_LIBC.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW))


def detach_below(directory: Path) -> None:
    """Detach whatever is mounted below a directory, the newest first."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    targets = [line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in lines]
    for target in reversed(targets):
        if target.startswith(os.fsencode(directory) + b"/"):
            _LIBC.umount2(target, _MNT_DETACH | _UMOUNT_NOFOLLOW)


def _mount(mount: Mount, target: Path) -> None:
    flags, data = flags_and_data(mount.options)
    if len(os.fsencode(data)) < os.sysconf("SC_PAGESIZE"):
        _mount_one(mount, target, flags, data)
    else:
        # The kernel takes one page of option data. containerd's own clients are in the same need and do the same.
        directory, shorter = with_relative_lowers(data)
        _in_directory(directory, lambda: _mount_one(mount, target, flags, shorter))
    if flags & _BIND and flags & _RDONLY:
        # The first call makes the bind mount and ignores every other flag (mount(2), "Creating a bind mount").
        _call(_LIBC.mount(b"none", os.fsencode(target), None, ctypes.c_ulong(_REMOUNT | _BIND | _RDONLY), None))


def _mount_one(mount: Mount, target: Path, flags: int, data: str) -> None:
    source, kind = os.fsencode(mount.source), os.fsencode(mount.type)
    _call(_LIBC.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), os.fsencode(data)))


def flags_and_data(options: list[str]) -> tuple[int, str]:
    """Options of mount(8) as the flags and the data of mount(2)."""
    flags, data = 0, []
    for option in options:
        if option in _FLAGS:
            added, cleared = _FLAGS[option]
            flags = flags & ~cleared | added
        else:
            data.append(option)
    return flags, ",".join(data)


def with_relative_lowers(data: str) -> tuple[str, str]:
    """A directory that all lowers have in common, and the data with the lowers named from there."""
    options = data.split(",")
    for number, option in enumerate(options):
        if option.startswith("lowerdir="):
            lowers = option.removeprefix("lowerdir=").split(":")
            if all(lower.startswith("/") for lower in lowers):
                common = os.path.commonpath([os.path.dirname(lower) for lower in lowers])
                options[number] = "lowerdir=" + ":".join(os.path.relpath(lower, common) for lower in lowers)
                return common, ",".join(options)
    return "/", data


def _in_directory(directory: str, call: Callable[[], None]) -> None:
    """Call in a thread that has a working directory of its own (unshare(2), CLONE_FS).

    A child process would do as well, but gRPC's threads make a fork of this one unsafe.
    """
    errors: list[OSError] = []

    def run() -> None:
        try:
            _call(_LIBC.unshare(_CLONE_FS))
            os.chdir(directory)
            call()
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def _call(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
