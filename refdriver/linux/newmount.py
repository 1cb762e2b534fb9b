"""The mount calls of Linux 5.2: fsopen(2), fsconfig(2), fsmount(2) and move_mount(2).

The driver mounts by mount(2), which every kernel has; a variant of it mounts by these.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# The same numbers on every machine (asm-generic/unistd.h).
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6  # commands of fsconfig
_CLOSE_ON_EXEC: Final = 1
_NO_PATH: Final = 4  # MOVE_MOUNT_F_EMPTY_PATH: what is moved is named by its descriptor
_HERE: Final = -100  # AT_FDCWD


def _call(number: int, *arguments: Any) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def fsopen(fstype: str) -> int:
    """A context for a filesystem, as a descriptor that is closed on exec; raises OSError."""
    return _call(_FSOPEN, os.fsencode(fstype), _CLOSE_ON_EXEC)


def configure(context: int, key: str, value: str | None = None) -> None:
    """Set an option of a context, or a flag without a value; raises OSError. A value has at most 255 bytes."""
    if value is None:
        _call(_FSCONFIG, context, _SET_FLAG, os.fsencode(key), None, 0)
    else:
        _call(_FSCONFIG, context, _SET_STRING, os.fsencode(key), os.fsencode(value), 0)


def create(context: int) -> int:
    """Make the filesystem of a context; its mount, as a descriptor that is closed on exec. Raises OSError."""
    _call(_FSCONFIG, context, _CREATE, None, None, 0)
    return _call(_FSMOUNT, context, _CLOSE_ON_EXEC, 0)


def move_mount(mount: int, target: str) -> None:
    """Mount what a descriptor stands for on a directory; raises OSError."""
    _call(_MOVE_MOUNT, mount, b"", _HERE, os.fsencode(target), _NO_PATH)
