"""Mounts as containerd describes them, made as its own clients make them (containerd's package core/mount)."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from conformance.drivers.containerd.formatting import Active, CannotMount, Directory, completed, is_transformed
from conformance.drivers.containerd.messages import Mount
from conformance.lab import libc, mountinfo
from conformance.lab.devices import DeviceFailed, loop_device
from conformance.lab.elsewhere import in_directory

_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_RDONLY: Final = 1
_REMOUNT: Final = 32
_BIND: Final = 4096
_HELPERS: Final = ("fuse", "fuse3")
_LOOP_OPTIONS: Final = ("loop", "direct-io")
_ID_MAPS: Final = ("uidmap=", "gidmap=")
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
    "dirsync": (128, 0),
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


@dataclass(frozen=True, slots=True)
class Mounted:
    """Mounts that were made: their targets in that order, and directories that were made for them."""

    targets: tuple[Path, ...]
    directories: tuple[Path, ...] = ()

    def unmount(self) -> None:
        """Undo all of them; raises OSError, such as EBUSY for a mount in use."""
        for target in reversed(self.targets):
            unmount(target)
        for directory in reversed(self.directories):
            directory.rmdir()


def mount_all(mounts: Sequence[Mount], point: Path) -> Mounted:
    """Make mounts, each over the one before, as mount.All and the mount manager of containerd do.

    A mount that a later one names is mounted beside, in a directory named as ``point`` with ``.0``, ``.1`` and so
    on. Raises OSError or CannotMount, with nothing left mounted: OSError is the answer of the kernel or of a mount
    helper, and CannotMount says what this host or this adapter lacks.
    """
    beside = max((number for number, mount in enumerate(mounts) if is_transformed(mount)), default=0)
    made: list[Active] = []
    targets: list[Path] = []
    directories: list[Path] = []
    try:
        for number, mount in enumerate(mounts):
            ready = completed(mount, made)
            if number < beside:
                target = point.with_name(f"{point.name}.{number}")
                target.mkdir()
                directories.append(target)
            else:
                target = _below(point, ready.mount.target)
            for directory in ready.directories:
                _make_directory(directory, point.parent)
            _mount(ready.mount, target)
            targets.append(target)
            made.append(Active(ready.mount, target))
    except (OSError, CannotMount):
        Mounted(tuple(targets), tuple(directories)).unmount()
        raise
    return Mounted(tuple(targets), tuple(directories))


def written_paths(mount: Mount) -> list[str]:
    """Paths of the host that a mount shows and that a write to its tree may change."""
    options = [option.partition("=") for option in mount.options]
    paths = [mount.source, *(value for name, _, value in options if name in ("upperdir", "workdir"))]
    return [path for path in paths if path.startswith("/")]


def is_within(path: str, store: Path) -> bool:
    """Whether a path is below a store, or a block device that holds the store or that nothing else has mounted."""
    if not os.path.exists(path) or not stat.S_ISBLK(os.stat(path).st_mode):
        return Path(path).resolve().is_relative_to(store.resolve())
    mounted = {Path(point): source for point, source in mount_points() if store.resolve().is_relative_to(point)}
    holder = mounted[max(mounted, key=lambda point: len(point.parts))]
    device = os.path.realpath(path)
    return device == holder or all(
        device != source or Path(point).is_relative_to(store.resolve()) for point, source in mount_points()
    )


def mount_points() -> list[tuple[str, str]]:
    """Where something is mounted, and its source, in the order in which it was mounted."""
    return [(one.point, one.source) for one in mountinfo.mounts()]


def _below(point: Path, target: str) -> Path:
    path = (point / target.lstrip("/")).resolve()
    if not path.is_relative_to(point.resolve()):
        raise OSError(errno.EPERM, f"containerd names a target outside of the mount point: {target!r}")
    return path


def _make_directory(directory: Directory, within: Path) -> None:
    """Make a directory for a mount, but only in the store, whose ``mnt`` is ``within``."""
    parent = directory.path.parent.resolve()
    if not parent.is_relative_to(within.parent):
        raise CannotMount(f"containerd asks for a directory outside of the store: {directory.path}")
    path = parent / directory.path.name
    if path.is_dir() and not path.is_symlink():
        return
    path.mkdir(directory.mode)
    path.chmod(directory.mode)
    os.chown(path, directory.uid, directory.gid)


def unmount(target: Path) -> None:
    """Unmount what is topmost on a path."""
    libc.umount(target, _UMOUNT_NOFOLLOW)


def detach_below(directory: Path) -> None:
    """Detach whatever is mounted below a directory, by its path without symlinks, the newest first."""
    for target, _ in reversed(mount_points()):
        if target.startswith(f"{directory}/"):
            with suppress(OSError):
                libc.umount(target, _MNT_DETACH | _UMOUNT_NOFOLLOW)


def _mount(mount: Mount, target: Path) -> None:
    helper, _, program = mount.type.partition(".")
    if helper in _HELPERS:
        _mount_by_helper(f"mount.{helper}", program, mount, target)
        return
    flags, data = flags_and_data(option for option in mount.options if option not in _LOOP_OPTIONS)
    if any(option.startswith(_ID_MAPS) for option in mount.options):
        raise CannotMount(f"an id-mapped mount, which this adapter does not make: {mount.options}")
    if "loop" in mount.options:
        _mount_by_loop_device(mount, target, flags, data)
    elif len(os.fsencode(data)) < os.sysconf("SC_PAGESIZE"):
        _mount_one(mount, target, flags, data)
    else:
        # The kernel takes one page of option data. containerd's own clients are in the same need and do the same.
        directory, shorter = with_relative_lowers(data)
        in_directory(directory, lambda: _mount_one(mount, target, flags, shorter))
    if flags & _BIND and flags & _RDONLY:
        # The first call makes the bind mount and ignores every other flag (mount(2), "Creating a bind mount").
        libc.mount("none", target, flags=_REMOUNT | _BIND | _RDONLY)


def _mount_by_helper(helper: str, program: str, mount: Mount, target: Path) -> None:
    """Mount as mount(8) does by ``mount.fuse3`` or ``mount.fuse`` (fuse3(8)), which start a program of FUSE."""
    found = shutil.which(helper, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if found is None:
        raise CannotMount(
            f"{mount.type} is mounted by the command {helper}; on Debian and Ubuntu: apt-get install fuse3"
        )
    if shutil.which(program) is None:
        raise CannotMount(f"{mount.type} is mounted by the program {program}, which is not in the PATH")
    words = [found, mount.source, str(target), *(word for option in mount.options for word in ("-o", option))]
    done = subprocess.run(
        [*words, "-t", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise OSError(errno.EIO, f"{helper} exited with {done.returncode}: {(done.stdout + done.stderr).strip()}")


def _mount_by_loop_device(mount: Mount, target: Path, flags: int, data: str) -> None:
    file = Path(mount.source)
    if not file.is_file():
        raise OSError(errno.ENOENT, f"there is no file {file} to mount by a loop device")
    with ExitStack() as stack:
        try:
            device = stack.enter_context(loop_device(file, bool(flags & _RDONLY), "direct-io" in mount.options))
        except (OSError, DeviceFailed) as error:
            raise CannotMount(f"this host has no loop device for {file}: {error}") from error
        _mount_one(replace(mount, source=device), target, flags, data)


def _mount_one(mount: Mount, target: Path, flags: int, data: str) -> None:
    try:
        libc.mount(mount.source, target, mount.type, flags, data)
    except OSError as error:
        if error.errno == errno.ENODEV:  # mount(2): the filesystem type is not configured in the kernel
            raise CannotMount(f"this kernel has no filesystem {mount.type!r}") from error
        raise


def flags_and_data(options: Iterable[str]) -> tuple[int, str]:
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
