"""Backing filesystems, made in files and mounted by loop devices, or without a device; gone with the mount.

Everything is mounted in the mount namespace of the run, so the kernel unmounts it and frees the loop device
when the last process of the run ends, however it ends (loop(4), LO_FLAGS_AUTOCLEAR, which mount(8) sets).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.lab import mountinfo, namespace
from conformance.spec.errors import HarnessError

HOST: Final = "host"
_IMAGE_SIZE: Final = 3 << 30  # bytes of a sparse file; xfs wants 300 MB, and quota tests some room
_NO_D_TYPE: Final = (
    "xfs without ftype has no d_type in directory entries, so overlay shows whiteouts as files"
    " (overlayfs.rst: the upper filesystem must provide d_type)"
)
_NO_UPPER: Final = "an overlay cannot be the upper of another (overlayfs.rst: it lacks what an upper needs)"


class NoBacking(HarnessError):
    """This host cannot make such a filesystem; the text says what is missing, and what would help."""


@dataclass(frozen=True, slots=True)
class Backing:
    """A kind of filesystem: its type, the command that makes it (none: mounted without a device), its options.

    ``unfit`` says why overlay cannot work on it; then only what a driver says about it is judged.
    """

    name: str
    fstype: str
    make: tuple[str, ...] = ()
    options: str = ""
    unfit: str = ""
    package: str = ""


BACKINGS: Final[tuple[Backing, ...]] = (
    Backing("ext4", "ext4", ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1"), package="e2fsprogs"),
    Backing(
        "ext4-prjquota",
        "ext4",
        ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", "-O", "quota,project"),
        "prjquota",
        package="e2fsprogs",
    ),
    Backing("xfs", "xfs", ("mkfs.xfs", "-q", "-f"), "pquota", package="xfsprogs"),
    Backing("xfs-noquota", "xfs", ("mkfs.xfs", "-q", "-f"), "noquota", package="xfsprogs"),
    Backing(
        "xfs-noftype",
        "xfs",
        ("mkfs.xfs", "-q", "-f", "-m", "crc=0", "-n", "ftype=0"),
        unfit=_NO_D_TYPE,
        package="xfsprogs",
    ),
    Backing("btrfs", "btrfs", ("mkfs.btrfs", "-q", "-f"), package="btrfs-progs"),
    Backing("f2fs", "f2fs", ("mkfs.f2fs", "-q", "-f"), package="f2fs-tools"),
    Backing("tmpfs", "tmpfs"),
    Backing("overlay", "overlay", unfit=_NO_UPPER),
)


def backing_named(name: str) -> Backing:
    """The kind of that name; raises KeyError."""
    return {one.name: one for one in BACKINGS}[name]


def mount_backing(backing: Backing, directory: Path) -> Path:
    """Make a filesystem of a kind below ``directory``, which is empty; where it is mounted. Raises NoBacking."""
    if backing.fstype not in _filesystems_of_the_kernel() and not _can_load(backing.fstype):
        raise NoBacking(f"{backing.name}: this kernel has no {backing.fstype}")
    target = directory / "mounted"
    target.mkdir()
    try:
        if backing.make:
            _mount_image(backing, directory / "image", target)
        elif backing.fstype == "tmpfs":
            namespace.mount_tmpfs(target)
        else:
            _mount_overlay(directory, target)
    except OSError as error:
        raise NoBacking(f"{backing.name}: cannot be mounted here: {error.strerror}; run as root (sudo)") from error
    return target


def is_on(backing: Backing, directory: Path) -> bool:
    """Whether a directory is on a filesystem of a kind, mounted with its quota or without (proc(5), mountinfo)."""
    over = mountinfo.covering(mountinfo.mounts(), os.path.realpath(directory))
    if over is None or over.fstype != backing.fstype or backing.unfit:
        return False
    # xfs and ext4 list the option pquota as prjquota.
    return ("prjquota" in over.super_options) == (backing.options in ("pquota", "prjquota"))


def has_project_quota(directory: Path) -> bool:
    """Whether a directory is on xfs that enforces project quota (proc(5), mountinfo: prjquota)."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    return any(one.device == wanted and "prjquota" in one.super_options for one in mountinfo.mounts())


def _filesystems_of_the_kernel() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}


def _can_load(fstype: str) -> bool:
    modprobe = shutil.which("modprobe")
    if modprobe is None or os.geteuid() != 0:
        return False
    done = subprocess.run([modprobe, "-q", "-b", fstype], check=False, capture_output=True)
    return done.returncode == 0 and fstype in _filesystems_of_the_kernel()


def _mount_image(backing: Backing, image: Path, target: Path) -> None:
    if shutil.which(backing.make[0]) is None:
        raise NoBacking(
            f"{backing.name}: there is no {backing.make[0]}; on Debian: apt-get install {backing.package}"
        )
    with image.open("wb") as file:
        file.truncate(_IMAGE_SIZE)
    _run(backing, [*backing.make, str(image)])
    wanted = ["mount", "-t", backing.fstype, "-o"]
    if backing.options:
        # xfs takes quota options without a quota in the kernel and warns, or refuses: then without.
        words = [*wanted, f"loop,{backing.options}", str(image), str(target)]
        if subprocess.run(words, check=False, capture_output=True).returncode == 0:
            return
    _run(backing, [*wanted, "loop", str(image), str(target)])


def _run(backing: Backing, words: Sequence[str]) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr + done.stdout).strip()
        if words[0] == "mount":
            # "mount: TARGET: wrong fs type, bad option, bad superblock on DEVICE, ..."
            reason = said.partition(f"{words[-1]}: ")[2].partition(" on /dev/")[0] or said[-300:]
            raise NoBacking(f"{backing.name}: this kernel does not mount it ({reason})")
        raise NoBacking(f"{backing.name}: {words[0]} failed: {said[-300:]}")


def _mount_overlay(directory: Path, target: Path) -> None:
    layers = directory / "layers"
    layers.mkdir()
    for name in ("lower", "upper", "work"):
        (layers / name).mkdir()
    namespace.mount_overlay_at(layers, target)
