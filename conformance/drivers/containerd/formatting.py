"""Mounts that containerd's mount manager completes before they are made (containerd 2.2, core/mount/manager).

The type of such a mount has transformations before the type proper, as ``format/mkdir/overlay``. ``format``
replaces templates in source, target and options by the earlier mounts of the list, and ``mkdir`` makes directories
that options name. Everything here is pure; conformance.drivers.containerd.mounting carries it out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from conformance.drivers.containerd.messages import Mount

_TEMPLATE: Final = re.compile(r"\{\{\s*(?:(source|target|mount)\s+(\d+)|overlay\s+(\d+)\s+(\d+))\s*\}\}")
_OWN: Final = "X-containerd."  # options for containerd and not for the kernel
_MKDIR: Final = "X-containerd.mkdir.path="


class CannotMount(Exception):
    """This adapter, or this host, cannot make a mount that containerd describes; no fault of the driver."""


@dataclass(frozen=True, slots=True)
class Active:
    """A mount that was made: its description, and where."""

    mount: Mount
    point: Path


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that has to be there before a mount; an owner of -1 is left as it is."""

    path: Path
    mode: int = 0o700
    uid: int = -1
    gid: int = -1


@dataclass(frozen=True, slots=True)
class Completed:
    """A mount as the kernel takes it, and the directories to make before."""

    mount: Mount
    directories: tuple[Directory, ...] = ()


def is_transformed(mount: Mount) -> bool:
    """Whether the mount manager has to complete a mount."""
    return "/" in mount.type


def completed(mount: Mount, made: Sequence[Active]) -> Completed:
    """A mount without its transformations, after those that were ``made``; raises CannotMount."""
    *transformations, kind = mount.type.split("/")
    result = Completed(replace(mount, type=kind))
    for name in transformations:
        match name:
            case "format":
                result = replace(result, mount=_formatted(result.mount, made))
            case "mkdir":
                result = _without_directories(result)
            case _:
                raise CannotMount(
                    f"containerd's mount manager is asked for {name!r} ({mount.type}), which is not here"
                )
    left = [option for option in result.mount.options if option.startswith(_OWN)]
    if left:
        raise CannotMount(f"options for containerd's mount manager that are not here: {', '.join(left)}")
    return result


def _formatted(mount: Mount, made: Sequence[Active]) -> Mount:
    def expanded(text: str) -> str:
        result = _TEMPLATE.sub(lambda match: _value(match, made), text)
        if "{{" in result:
            raise CannotMount(f"a template of containerd's mount manager that is not here: {text}")
        return result

    options = [expanded(option) for option in mount.options]
    return Mount(mount.type, expanded(mount.source), expanded(mount.target), options)


def _value(match: re.Match[str], made: Sequence[Active]) -> str:
    numbers = [int(one) for one in match.groups()[1:] if one is not None]
    if any(number >= len(made) for number in numbers):
        raise CannotMount(f"{match[0]} names a mount that is not among the {len(made)} before it")
    chosen = [made[number] for number in numbers]
    match match[1]:
        case "source":
            return chosen[0].mount.source
        case "target":
            return chosen[0].mount.target
        case "mount":
            return str(chosen[0].point)
    first, last = numbers  # overlay FIRST LAST: lower directories in this order, also downwards
    way = range(first, last + 1) if first <= last else range(first, last - 1, -1)
    return ":".join(str(made[number].point) for number in way)


def _without_directories(before: Completed) -> Completed:
    wanted = [option for option in before.mount.options if option.startswith(_MKDIR)]
    rest = [option for option in before.mount.options if not option.startswith(_MKDIR)]
    made = (*before.directories, *map(_directory, wanted))
    return Completed(replace(before.mount, options=rest), made)


def _directory(option: str) -> Directory:
    """``X-containerd.mkdir.path=PATH[:MODE[:UID:GID]]``, the mode in octal."""
    path, *rest = option.removeprefix(_MKDIR).split(":")
    try:
        mode = int(rest[0], 8) if rest else 0o700
        uid, gid = (int(rest[1]), int(rest[2])) if len(rest) == 3 else (-1, -1)
    except ValueError as error:
        raise CannotMount(f"no option of containerd's mount manager: {option}") from error
    if len(rest) not in (0, 1, 3) or not path.startswith("/"):
        raise CannotMount(f"no option of containerd's mount manager: {option}")
    return Directory(Path(path), mode, uid, gid)
