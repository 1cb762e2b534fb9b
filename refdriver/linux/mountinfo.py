"""/proc/self/mountinfo (proc(5)): what is mounted where in this mount namespace."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")  # the kernel escapes space, tab, newline and backslash


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount. ``root`` is what of the filesystem is mounted; ``device`` is ``major:minor``."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    target: str
    fstype: str


def parse_mountinfo(text: bytes) -> list[Mount]:
    """All mounts, oldest first."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(b" - ")
        mount_id, parent_id, device, root, target = before.split(b" ")[:5]
        fstype = after.split(b" ", 1)[0]
        mounts.append(
            Mount(
                int(mount_id),
                int(parent_id),
                device.decode(),
                _unescape(root),
                _unescape(target),
                fstype.decode(),
            )
        )
    return mounts


def read_mounts() -> list[Mount]:
    """The mounts of this process's namespace."""
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        return parse_mountinfo(file.readall())


def topmost_at(mounts: Iterable[Mount], target: str) -> Mount | None:
    """The mount that a lookup of ``target`` ends on, if it is a mount point."""
    found = [mount for mount in mounts if mount.target == target]
    return found[-1] if found else None


def below(mounts: Iterable[Mount], directory: str) -> list[Mount]:
    """The mounts strictly below a directory, the deepest and newest first: the order to unmount them in."""
    return [mount for mount in mounts if mount.target.startswith(directory.rstrip("/") + "/")][::-1]


def is_self_bind(mounts: Iterable[Mount], mount: Mount) -> bool:
    """Whether a mount shows the directory that it covers: a bind mount of a directory on itself."""
    covered = next((other for other in mounts if other.mount_id == mount.parent_id), None)
    if covered is None or covered.device != mount.device:
        return False
    inside = os.path.relpath(mount.target, covered.target)
    return os.path.normpath(os.path.join(covered.root, inside)) == mount.root


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))
