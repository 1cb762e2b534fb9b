"""The kernel's overlay (``mounter:kernel``), and commands that mount (``mounter:COMMAND``).

The harness keeps the layers as plain directories, and the mounter mounts them. What is judged is what the mounter
does. What the harness does for it is declined (``own-layers`` and others).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from conformance.drivers.connection import Connection, Key, Kind, absolute_command, declined_in, parse_arguments
from conformance.drivers.mounter import marks
from conformance.drivers.mounter.driver import OpenedMounter
from conformance.drivers.mounter.mounters import PLACEHOLDERS, Command, Kernel, Mounter
from conformance.drivers.mounter.probe import declined_by_probe
from conformance.drivers.mounter.script import MounterScript
from conformance.drivers.protocol import DriverInfo, DriverRefused, OpenRequest
from conformance.drivers.source import DriverSource
from conformance.lab.overlaymount import takes_lowers
from conformance.spec.naming import suggestion

_KERNEL: Final = "kernel"
_APIS: Final = ("classic", "new")
_HARNESS: Final = "the harness keeps the layers of a mounter, and the mounter only mounts them"
_NONE: Final = "a mounter only mounts; it has nothing for this"
_DECLINED: Final = {
    "own-layers": f"{_HARNESS}; it reads their archives, too",
    "own-diffs": f"{_HARNESS}; it writes their archives, too",
    "applied-size": _HARNESS,
    "apply-stream": _HARNESS,
    "aufs-metadata": _HARNESS,
    "nested-whiteouts": _HARNESS,
    "bare-home": _HARNESS,
    "counted-gets": f"{_HARNESS}; it counts gets, and unmounts when it closes the home",
    "home-layout": f"{_HARNESS}, in a layout of its own",
    "ids-are-paths": f"{_HARNESS}, in directories with numbers",
    "processes": f"{_HARNESS}, for one process",
    "shared-home": f"{_HARNESS}, for one caller",
    "busy-parents": "an upper directory that is a lower of another mount is undefined behaviour (overlayfs.rst)",
    "changes": _NONE,
    "create-options": _NONE,
    "diff-size": _NONE,
    "gates-backing": "the mount itself says what it does not work on; no names of filesystems are compared",
    "gates-kernel": "the mount itself says what it needs; no releases are compared",
    "gates-zfs": "the mount itself says what it does not work on; no names of filesystems are compared",
    "id-maps": _NONE,
    "image-mounts": _NONE,
    "image-stores": _NONE,
    "labels": _NONE,
    "layer-limits": _NONE,
    "layer-options": _NONE,
    "limit-128": "the harness sets no limit to a chain; the kernel's is 500 lowers (OVL_MAX_STACK)",
    "metadata": _NONE,
    "options": _NONE,
    "status": _NONE,
}
KEYS: Final = (
    Key("unmount", "a command that unmounts {merged}; umount2(2) without it"),
    Key("api", "of the kernel, the mount calls to use: classic (mount(2)) or new (fsopen(2))"),
    Key("option", "of the kernel, a mount option such as index=on", repeatable=True),
)


def source(arguments: str) -> DriverSource:
    """``kernel[?api=new&option=OPTION]`` or ``COMMAND[?unmount=COMMAND]``; raises OSError or ValueError."""
    connection = parse_arguments("mounter", arguments)
    mounter = _mounter(connection)
    declined = dict(_DECLINED)
    if isinstance(mounter, Command):
        declined["kernel-overlay"] = "a command mounts, and not the kernel's overlay by itself"
        declined["limit-128"] = "the harness sets no limit to a chain; the command has its own, or none"
        declined |= declined_by_probe(mounter.words, mounter.ending)
    info = DriverInfo(f"mounter:{arguments}", _version_of(mounter), declined | declined_in(connection))
    opener = _Opener(mounter)
    return DriverSource(info, opener.open, opener.close, dialect=_dialect(mounter), next_step=_next_step(mounter))


class _Opener:
    """Opens stores, and ends at the end what is left of those that nobody closed."""

    def __init__(self, mounter: Mounter) -> None:
        self._mounter = mounter
        self._opened: list[OpenedMounter] = []

    def open(self, request: OpenRequest) -> OpenedMounter:
        for what in (request.options, request.id_map, request.gid_map, request.image_stores):
            if what:
                raise DriverRefused(f"a mounter cannot be opened with {what}")
        mounter, namespace = self._mounter, marks.namespace()
        if isinstance(mounter, Kernel):
            if mounter.new_calls and (why := takes_lowers()):
                raise DriverRefused(why)
            if "userxattr" in mounter.options:
                namespace = "user"
        found = OpenedMounter(mounter, request, namespace, names_of_aufs=isinstance(mounter, Command))
        self._opened = [*self._opened[-8:], found]  # stores are closed long before
        return found

    def close(self) -> None:
        for one in self._opened:
            one.end()


def _mounter(connection: Connection) -> Kernel | Command:
    """The mounter that a connection string names; raises OSError for a missing command, and ValueError."""
    api, options = connection.value("api"), connection.values("option")
    ending = tuple(shlex.split(connection.value("unmount")))
    if connection.name == _KERNEL:
        return _kernel(api, options, ending)
    words = tuple(shlex.split(connection.name))
    if api or options:
        raise ValueError("api and option are for mounter:kernel; a command has its options in its words")
    if not words:
        raise ValueError("name the kernel (mounter:kernel) or a command that mounts (mounter:COMMAND)")
    missing = [one for one in PLACEHOLDERS if one not in " ".join(words)]
    if "{" not in connection.name and shutil.which(words[0]) is None:
        raise ValueError(f"there is no mounter {connection.name!r}{suggestion(connection.name, [_KERNEL])}")
    if missing:
        raise ValueError(f"the command lacks {', '.join(missing)}; it gets the directories by these words")
    if ending and "{merged}" not in " ".join(ending):
        raise ValueError("the command of unmount lacks {merged}, the directory to unmount")
    return Command(_found(words), _found(ending) if ending else ())


def _kernel(api: str, options: Sequence[str], ending: Sequence[str]) -> Kernel:
    if ending:
        raise ValueError("unmount is for a command that mounts; the kernel unmounts by umount2(2)")
    if api and api not in _APIS:
        raise ValueError(f"there is no api {api!r}{suggestion(api, _APIS)}; write {' or '.join(_APIS)}")
    for option in options:
        if option.partition("=")[0].rstrip("+") in ("lowerdir", "upperdir", "workdir", "datadir"):
            raise ValueError(f"the harness names the directories of a mount; {option!r} is no option to add")
    return Kernel(api == "new", tuple(options))


def _found(words: tuple[str, ...]) -> tuple[str, ...]:
    command = absolute_command(words[0])
    if shutil.which(command) is None:
        raise OSError(f"there is no command {command!r}; name one that is in the PATH, or by its path")
    return (command, *words[1:])


def _version_of(mounter: Kernel | Command) -> str:
    """The kernel's release, or what the command says of itself; "unknown" if it does not."""
    if isinstance(mounter, Kernel):
        return os.uname().release
    words = [mounter.words[0], "--version"]
    if os.geteuid() == 0 and shutil.which("unshare"):
        words = ["unshare", "--mount", "--", *words]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = (done.stdout + done.stderr).splitlines() if done.returncode == 0 else []
    name = os.path.basename(mounter.words[0])
    for line in sorted(lines, key=lambda line: name not in line):
        if match := re.search(r"\b[0-9]+(\.[0-9]+)+[^\s,;)]*", line):
            return match[0]
    return "unknown"


def _next_step(mounter: Kernel | Command) -> str:
    if isinstance(mounter, Kernel):
        return "the kernel's log may say more: dmesg | tail; does /proc/filesystems have overlay?"
    return f"try it by hand, with directories for the words in braces: {shlex.join(mounter.words)}"


def _dialect(mounter: Kernel | Command) -> MounterScript:
    if isinstance(mounter, Kernel):
        return MounterScript(options=mounter.options, new_calls=mounter.new_calls)
    return MounterScript(command=mounter.words, ending=mounter.ending)


def dialect_of(arguments: str) -> MounterScript:
    """How a script mounts, without an attempt to mount; raises ValueError."""
    try:
        return _dialect(_mounter(parse_arguments("mounter", arguments)))
    except OSError as error:
        raise ValueError(str(error)) from error


KIND: Final = Kind(
    "mounter",
    (
        (_KERNEL, _KERNEL),
        ("COMMAND", "fuse-overlayfs -o lowerdir={lowers},upperdir={upper},workdir={work} {merged}"),
    ),
    source,
    KEYS,
    dialect_of,
)
