"""Overlay mounts of the kernel, by mount(2) and by the mount calls of Linux 5.2.

mount(2) takes the options as one text of at most a page, in which ``:`` separates lowers and ``,`` separates
options. Its last byte becomes NUL, so a page holds one byte less (fs/namespace.c, copy_mount_options).
fsconfig(2) takes one option with each call, at most 255 bytes each; ``lowerdir+`` adds a lower without any
separator (Linux 6.8, Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from conformance.lab import libc

# The same numbers on every machine (asm-generic/unistd.h).
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6  # commands of fsconfig
_CLOSE_ON_EXEC: Final = 1
_EMPTY_PATH: Final = 4  # MOVE_MOUNT_F_EMPTY_PATH: what is moved is named by its descriptor
_HERE: Final = -100  # AT_FDCWD
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_MESSAGE: Final = 4096  # bytes of one message of a context of fsopen


@dataclass(frozen=True, slots=True)
class Overlay:
    """Directories of an overlay, ``lowers`` from the uppermost down, and its other options, ``KEY[=VALUE]``."""

    lowers: Sequence[str]
    upper: str
    work: str
    options: Sequence[str] = ()

    @property
    def data(self) -> str:
        """The options as mount(2) takes them; no path may hold a comma, a colon or a backslash."""
        said = [f"lowerdir={':'.join(self.lowers)}", f"upperdir={self.upper}", f"workdir={self.work}"]
        return ",".join((*said, *self.options))


def fits(data: str) -> bool:
    """Whether mount(2) gets all of these options."""
    return len(os.fsencode(data)) < os.sysconf("SC_PAGESIZE")


def mount_classic(overlay: Overlay, target: str) -> None:
    """Mount by mount(2); raises OSError."""
    libc.mount("overlay", target, "overlay", data=overlay.data)


def mount_new(overlay: Overlay, target: str) -> None:
    """Mount by fsopen(2), fsconfig(2), fsmount(2) and move_mount(2); raises OSError, with the kernel's message."""
    with _Context(_call(_FSOPEN, b"overlay", _CLOSE_ON_EXEC)) as context:
        for lower in overlay.lowers:
            context.set("lowerdir+", lower)
        context.set("upperdir", overlay.upper)
        context.set("workdir", overlay.work)
        for option in overlay.options:
            key, equals, value = option.partition("=")
            context.set(key, value if equals else None)
        context.set("source", "overlay")
        _call(_FSCONFIG, context.descriptor, _CREATE, None, None, 0)
        with closing(_Descriptor(_call(_FSMOUNT, context.descriptor, _CLOSE_ON_EXEC, 0))) as mount:
            _call(_MOVE_MOUNT, mount.number, b"", _HERE, os.fsencode(target), _EMPTY_PATH)


def takes_lowers() -> str:
    """Why overlay takes no ``lowerdir+`` from fsconfig(2) here, "" if it does; mounts nothing."""
    try:
        with _Context(_call(_FSOPEN, b"overlay", _CLOSE_ON_EXEC)) as context:
            context.set("lowerdir+", "/")
    except OSError as error:
        return f"this kernel's overlay takes no lowerdir+ by fsconfig(2), which came with Linux 6.8: {error}"
    return ""


def _call(number: int, *arguments: object) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


@dataclass(frozen=True, slots=True)
class _Descriptor:
    number: int

    def close(self) -> None:
        os.close(self.number)


class _Context:
    """A context of fsopen(2), whose errors have what the kernel says of them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> _Context:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        said = self._messages() if isinstance(error, OSError) else ""
        os.close(self.descriptor)
        if isinstance(error, OSError) and said:
            raise OSError(error.errno, f"{error.strerror}: {said}") from error

    def set(self, key: str, value: str | None) -> None:
        """An option, or a flag without a value; raises OSError."""
        if value is None:
            _call(_FSCONFIG, self.descriptor, _SET_FLAG, os.fsencode(key), None, 0)
        else:
            _call(_FSCONFIG, self.descriptor, _SET_STRING, os.fsencode(key), os.fsencode(value), 0)

    def _messages(self) -> str:
        os.set_blocking(self.descriptor, False)
        found = []
        try:
            while message := os.read(self.descriptor, _MESSAGE):
                found.append(message.decode("utf-8", "replace").strip())
        except OSError:  # ENODATA: there are no more
            pass
        return "; ".join(found)
