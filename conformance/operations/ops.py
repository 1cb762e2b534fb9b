"""The operations on a mounted layer: one small value each, read by the model and by the real interpreter.

Paths are bytes, relative to the layer's root. No path is ever followed through a symlink.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Final

CHARACTER: Final = "c"
BLOCK: Final = "b"
_PATHS: Final = ("path", "to", "existing")


@dataclass(frozen=True, slots=True)
class CreateFile:
    """Make a regular file."""

    path: bytes
    content: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make an empty directory."""

    path: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class MakeSymlink:
    """Make a symlink; the target is never followed."""

    path: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class MakeHardLink:
    """Give an inode a second name; a symlink is linked itself."""

    path: bytes
    existing: bytes


@dataclass(frozen=True, slots=True)
class MakeFifo:
    """Make a named pipe."""

    path: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class MakeDevice:
    """Make a device node; it is never opened."""

    path: bytes
    kind: str
    major: int
    minor: int
    mode: int


@dataclass(frozen=True, slots=True)
class Rename:
    """Move an entry, replacing what rename(2) replaces."""

    path: bytes
    to: bytes


@dataclass(frozen=True, slots=True)
class Unlink:
    """Remove a name that is no directory."""

    path: bytes


@dataclass(frozen=True, slots=True)
class RemoveDirectory:
    """Remove an empty directory."""

    path: bytes


@dataclass(frozen=True, slots=True)
class RemoveTree:
    """Remove whatever lies under a name, with all that it holds; nothing there is ENOENT."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Chmod:
    """Set the permission bits, setuid, setgid and sticky included."""

    path: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Chown:
    """Set the owner."""

    path: bytes
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class SetTimes:
    """Set the modification time, in nanoseconds since the epoch, and the access time to the same."""

    path: bytes
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SetXattr:
    """Set an extended attribute."""

    path: bytes
    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """Cut a file, or make it longer by a hole."""

    path: bytes
    size: int


@dataclass(frozen=True, slots=True)
class WriteAt:
    """Write into a file; beyond its end, after a hole."""

    path: bytes
    offset: int
    data: bytes


# Operations on directories: they add or remove a name.
Naming = (
    CreateFile
    | MakeDirectory
    | MakeSymlink
    | MakeHardLink
    | MakeFifo
    | MakeDevice
    | Rename
    | Unlink
    | RemoveDirectory
    | RemoveTree
)
# Operations on inodes: they change what a name leads to.
Changing = Chmod | Chown | SetTimes | SetXattr | Truncate | WriteAt
# Every interpreter ends its match with assert_never, so that mypy names those that a new operation has to reach.
Operation = Naming | Changing


def paths_of(operation: Operation) -> dict[str, bytes]:
    """The paths in the tree that an operation names, by field: a field of such a name is a path in each of them."""
    return {one.name: getattr(operation, one.name) for one in fields(operation) if one.name in _PATHS}


def describe(operation: Operation) -> str:
    """One readable line, such as ``CreateFile d/a content=b'x' mode=0644``."""
    words = [type(operation).__name__, os.fsdecode(operation.path).encode("unicode_escape").decode()]
    for one in fields(operation):
        if one.name != "path":
            value = getattr(operation, one.name)
            words.append(f"{one.name}={value:04o}" if one.name == "mode" else f"{one.name}={_brief(value)}")
    return " ".join(words)


def _brief(value: object) -> str:
    if isinstance(value, bytes) and len(value) > 60:
        return f"{value[:40]!r}...({len(value)} bytes)"
    return repr(value)
