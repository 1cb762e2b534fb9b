"""The mounts of this process's mount namespace, as proc(5) lists them in mountinfo."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_UNESCAPED: Final = re.compile(r"[\w./-]*", re.ASCII)  # what stands in mountinfo as it is
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: ``root`` is the directory of the filesystem that is seen at ``point``.

    ``device`` is MAJOR:MINOR of the filesystem; ``options`` are those of the mount, ``super_options`` those of the
    filesystem. ``propagation`` has its tags, such as ``shared:7``. An upper directory in the options is as it was
    given to the kernel, so it may be relative.
    """

    device: str
    root: str
    point: str
    options: tuple[str, ...]
    fstype: str
    source: str = ""
    super_options: tuple[str, ...] = ()
    propagation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a path lies on its filesystem, however it is mounted."""

    device: str
    path: str


def mounts() -> list[Mount]:
    """All mounts, the oldest first."""
    return [_parsed(line) for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]


@functools.lru_cache(maxsize=1024)  # most lines are those of the last look
def _parsed(line: bytes) -> Mount:
    before, _, after = line.partition(b" - ")
    _, _, device, root, point, options, *tags = before.split(b" ")
    fstype, source, *rest = after.split(b" ")
    return Mount(
        device.decode(),
        _plain(root),
        _plain(point),
        tuple(options.decode().split(",")),
        fstype.decode(),
        _plain(source),
        tuple(_plain(one) for one in b" ".join(rest).split(b",")),  # commas of a value are escaped
        tuple(tag.decode() for tag in tags),
    )


def below(directory: str | os.PathLike[str]) -> list[Mount]:
    """The mounts strictly below a directory, the oldest first."""
    prefix = os.fspath(directory) + "/"
    # It is asked before and after each call of a driver. A line with no such path in it need not be parsed.
    within = os.fsencode(prefix) if _UNESCAPED.fullmatch(prefix) else b""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [one for one in map(_parsed, [line for line in lines if within in line]) if one.point.startswith(prefix)]


def _plain(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), field))


def covering(found: Sequence[Mount], path: str) -> Mount | None:
    """The mount that a resolved path is on: the last of those with the longest mount point."""
    best: Mount | None = None
    for one in found:
        within = path == one.point or path.startswith(one.point.rstrip("/") + "/")
        if within and (best is None or len(one.point) >= len(best.point)):
            best = one
    return best


def origin(found: Sequence[Mount], path: str) -> Origin:
    """Where a resolved path lies on its filesystem; an empty device if no mount covers it."""
    over = covering(found, path)
    if over is None:
        return Origin("", path)
    return Origin(over.device, os.path.normpath(os.path.join(over.root, os.path.relpath(path, over.point))))
