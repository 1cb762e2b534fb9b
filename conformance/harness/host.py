"""What this host can show, found out once, by the process that comes first.

That process moves into mounts of its own before it starts others (pytest-xdist), so all of them share one mount
namespace, and the filesystems that were mounted in it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from conformance.harness.place import Place
from conformance.harness.session import Session, Wish
from conformance.lab import backing, devices, kernellog, namespace, pretend, readonly, supervised
from conformance.lab.backing import BACKINGS, HOST, Backing, NoBacking

_NO_UPPER: Final = {0x794C7630: "overlayfs", 0x61756673: "aufs", 0xF15F: "ecryptfs", 0x2FC12FC1: "zfs"}
RESET: Final = "OVERLAY_CONFORMANCE_RESET"  # the directory that a machine was reset over (machines/churn.py)
_USER_NAMESPACE_LACKS: Final = (
    "user namespace: device nodes, foreign owners, file capabilities, quota, id maps and loop devices are not"
    " tested; run as root (sudo) to test them"
)
_UNPROTECTED: Final = (
    "the driver can write outside of the scratch directory, as the run could not make it read-only"
)
_ROOT_LACKS: Final = (
    "root: only this kernel is tested; 'overlay-conformance matrix' tests others in virtual machines"
)


def confine(writable: Sequence[Path]) -> tuple[str, list[str]]:
    """Move this process into its own mounts, read-only but for directories; its privilege level, and exceptions.

    The first of ``writable`` is the scratch directory of the run, which gets the temporary files of this process
    and of all that it starts. Raises NoNamespace; to do it again changes nothing.
    """
    lane = namespace.enter_private_mounts()
    reset = [Path(os.environ[RESET])] if RESET in os.environ else []
    try:
        left = readonly.protect([*writable, *reset])
    except OSError as error:
        return lane, [f"{_UNPROTECTED}: {error.strerror}"]
    _keep_files_in(writable[0])
    return lane, [f"{_UNPROTECTED} on {', '.join(left)}"] if left else []


def _keep_files_in(scratch: Path) -> None:
    """What Python, hypothesis and drivers write by the way has to be written where that can be done."""
    temporary = scratch / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None  # which was the place before
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(temporary / "hypothesis")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True


def prepare(wish: Wish, scratch: Path) -> Session:
    """Move this process into mounts of its own and make what the run needs, below ``scratch``."""
    notes: list[str] = []
    lacking: dict[str, str] = {}
    lane = "none"
    try:
        lane, unprotected = confine([*wish.writable, scratch])
        notes.append(_ROOT_LACKS if lane == "root" else _USER_NAMESPACE_LACKS)
        notes += unprotected
    except namespace.NoNamespace as error:
        notes.append(f"{_UNPROTECTED}: {error}")
        lacking["mounts"] = str(error)
    if "mounts" not in lacking and (reason := supervised.why_not()):
        notes.append(
            f"{reason}: what a driver starts and leaves may outlive it, and a driver can signal the harness"
        )
    if lane != "root":
        lacking["root"] = "not real root; run as root (sudo)"
        lacking["loop"] = "loop devices need real root; run as root (sudo)"
    stores = _usable(scratch / "stores", notes)
    if "mounts" not in lacking:
        lacking |= _probe_mounts(stores)
    lacking |= _probe_kernel()
    unfit = _cannot_mark(_no_user_xattrs(HOST, stores), lane)
    places: tuple[Place, ...] = (Place(HOST, str(stores), unfit),)
    if "mounts" not in lacking:
        places = tuple(_places(wish.backings, stores, lane, notes))
    if not any(backing.has_project_quota(Path(place.directory)) for place in places):
        lacking["xfs-quota"] = (
            "no xfs with project quota here; choose --backing xfs on a kernel with CONFIG_XFS_QUOTA"
        )
    notes += lacking.values()
    return Session(
        wish.driver,
        wish.profile,
        wish.examples,
        wish.selected,
        lane,
        places,
        lacking,
        tuple(dict.fromkeys(notes)),
        wish.deadline,
        wish.replay,
        wish.call_timeout,
        str(stores),
        unfit,
        wish.shrinks,
    )


def _usable(stores: Path, notes: list[str]) -> Path:
    stores.mkdir()
    name = _NO_UPPER.get(namespace.filesystem_magic(stores))
    if name:
        namespace.mount_tmpfs(stores)
        notes.append(f"the temporary directory is on {name}, which cannot hold layers: the run used a tmpfs")
    return stores


def _probe_mounts(stores: Path) -> dict[str, str]:
    """What this host cannot do, so that no driver is blamed for it."""
    directory = stores / "probe"
    for name in ("lower", "upper", "work", "merged"):
        (directory / name).mkdir(parents=True)
    try:
        namespace.mount_overlay_at(directory, directory / "merged")
    except OSError as error:
        return {
            "mounts": f"this host mounts no overlays: {error.strerror}; run as root (sudo) on kernel 4.0 or later"
        }
    namespace.unmount(directory / "merged")
    shutil.rmtree(directory)
    return {}


def _probe_kernel() -> dict[str, str]:
    lacking = {}
    if not os.path.exists("/sys/fs/selinux/enforce"):
        lacking["selinux"] = "no SELinux in this kernel, or it is off"
    refusal = pretend.why_not()
    if refusal:
        lacking["pretend"] = refusal
    refusal = kernellog.why_not()
    if refusal:
        lacking["kernel-log"] = refusal
    refusal = devices.why_not()
    if refusal:
        lacking["device-mapper"] = refusal
    if RESET not in os.environ:
        lacking["reset"] = "this needs a machine that is reset during the run: use 'overlay-conformance matrix run'"
    return lacking


def _places(names: Sequence[str], stores: Path, lane: str, notes: list[str]) -> list[Place]:
    found, missing = [], []
    for name in _expanded(names):
        directory = stores / name
        if name == HOST:
            directory.mkdir()
            found.append(_probed(HOST, directory, lane))
            continue
        kind = backing.backing_named(name)
        try:
            found.append(_place(kind, directory, lane))
            if found[-1].renews_times:
                notes.append(f"{name} gives a directory that is moved another time, so these are not compared")
        except NoBacking as error:
            notes.append(str(error))
            missing.append(Place(name, str(stores), missing=str(error)))
    # Elsewhere than where it was asked for, nothing would be said of what was asked.
    return found or missing[:1]


def _expanded(names: Sequence[str]) -> list[str]:
    wanted = [one.name for one in BACKINGS] if "all" in names else list(names) or [HOST]
    return list(dict.fromkeys(wanted))


def _place(kind: Backing, directory: Path, lane: str) -> Place:
    if kind.make and lane != "root":
        if not backing.is_on(kind, directory.parent):
            raise NoBacking(
                f"{kind.name}: loop devices need real root; run as root (sudo), or with --scratch on {kind.name}"
            )
        directory.mkdir()
        return _probed(kind.name, directory, lane, kind.unfit)
    directory.mkdir()
    mounted = backing.mount_backing(kind, directory)
    return _probed(kind.name, mounted, lane, kind.unfit)


def _probed(name: str, directory: Path, lane: str, unfit: str = "") -> Place:
    no_user_xattrs = _no_user_xattrs(name, directory)
    unfit = unfit or _cannot_mark(no_user_xattrs, lane)
    return Place(name, str(directory), unfit, no_user_xattrs, renews_times=_renews_times(directory))


def _cannot_mark(no_user_xattrs: str, lane: str) -> str:
    """Why overlay cannot work on a filesystem in a user namespace, where it keeps its marks in user.overlay.*."""
    if not no_user_xattrs or lane == "root":
        return ""
    return (
        f"{no_user_xattrs}, by which overlay marks opaque directories in a user namespace (overlayfs.rst,"
        " userxattr); run as root (sudo), or with --scratch on another filesystem"
    )


def _renews_times(directory: Path) -> bool:
    """Whether a directory that is moved into another one gets another time, as on f2fs (f2fs_set_link)."""
    with tempfile.TemporaryDirectory(dir=directory) as probe:
        moved, other = Path(probe, "moved"), Path(probe, "other")
        for one in (moved, other):
            one.mkdir()
        os.utime(moved, (1, 1))
        return moved.rename(other / "moved").stat().st_mtime != 1


def _no_user_xattrs(name: str, directory: Path) -> str:
    """Why a filesystem takes no attributes user.*, "" if it does; tmpfs does since Linux 6.6."""
    probe = directory / "attributes"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", b"")
    except OSError as error:
        of = "the filesystem of the scratch directory" if name == HOST else name
        return f"{of} has no extended attributes user.* on this kernel ({error.strerror})"
    finally:
        probe.unlink()
    return ""
