"""When the driver refuses to open: kernel releases and backing filesystems.

The decisions are pure, over a release string and a filesystem magic, so that they can be tested for kernels
and filesystems that are not at hand. Only :func:`read_overlay_support` asks the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from refdriver import files
from refdriver.errors import IncompatibleFilesystem, NotSupported

OVERLAY_MAGIC: Final = 0x794C7630
XFS_MAGIC: Final = 0x58465342
_AUFS: Final = 0x61756673
_BTRFS: Final = 0x9123683E
_ECRYPTFS: Final = 0xF15F
_ZFS: Final = 0x2FC12FC1

# statfs(2) and linux/magic.h; zfs and gpfs live outside the kernel tree.
FILESYSTEM_NAMES: Final = {
    _AUFS: "aufs",
    _BTRFS: "btrfs",
    0x28CD3D45: "cramfs",
    _ECRYPTFS: "ecryptfs",
    0xEF53: "extfs",
    0xF2F52010: "f2fs",
    0x47504653: "gpfs",
    0x72B6: "jffs2",
    0x3153464A: "jfs",
    0x6969: "nfs",
    OVERLAY_MAGIC: "overlayfs",
    0x858458F6: "ramfs",
    0x52654973: "reiserfs",
    0x517B: "smb",
    0x73717368: "squashfs",
    0x01021994: "tmpfs",
    0xA501FCF5: "vxfs",
    XFS_MAGIC: "xfs",
    _ZFS: "zfs",
}
_REFUSED: Final = frozenset({_AUFS, _ZFS, OVERLAY_MAGIC, _ECRYPTFS})
_RELEASE: Final = re.compile(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(.*)", re.DOTALL)


@dataclass(frozen=True, order=True, slots=True)
class KernelRelease:
    """The numbers of ``uname -r``; what a vendor appends does not count."""

    version: int
    major: int
    minor: int = 0

    @classmethod
    def parse(cls, release: str) -> KernelRelease:
        """Read ``3.10.0-1160.el7``, ``3.12-1-amd64`` (3.12.0) and the like.

        Raises NotSupported when there are fewer than two numbers.
        """
        match = _RELEASE.match(release)
        if match is None:
            raise NotSupported(f"kernel release {release!r} cannot be read: it must begin with two numbers")
        version, major, minor, _flavour = match.groups()
        return cls(int(version), int(major), int(minor or 0))

    def __str__(self) -> str:
        return f"{self.version}.{self.major}.{self.minor}"


_MULTIPLE_LOWERS: Final = KernelRelease(4, 0)
_OVERLAY_ON_BTRFS: Final = KernelRelease(4, 7)  # btrfs got RENAME_WHITEOUT there


def filesystem_name(magic: int) -> str:
    """The name of a filesystem by its magic, or ``<unknown>``."""
    return FILESYSTEM_NAMES.get(magic, "<unknown>")


def check_kernel(kernel: KernelRelease, override: bool) -> str | None:
    """Refuse kernels without several lowers (before 4.0); the override turns it into a returned warning."""
    if kernel >= _MULTIPLE_LOWERS:
        return None
    if not override:
        raise NotSupported(
            f"kernel {kernel} is too old: overlay mounts with several lowers need {_MULTIPLE_LOWERS}"
            " (if yours has them all the same, set overlay.override_kernel_check=true)"
        )
    return f"using overlay on kernel {kernel}, before {_MULTIPLE_LOWERS}: mounts may fail"


def check_backing_filesystem(magic: int, kernel: KernelRelease, override: bool) -> str | None:
    """Refuse filesystems that overlay cannot use as upper; may return a warning instead on btrfs."""
    name = filesystem_name(magic)
    if magic in _REFUSED:
        raise IncompatibleFilesystem(
            f"overlay is not supported over {name}; put the driver's home on another filesystem"
            " (ext4, xfs with ftype=1, btrfs or tmpfs)"
        )
    if magic != _BTRFS or kernel >= _OVERLAY_ON_BTRFS:
        return None
    if not override:
        raise IncompatibleFilesystem(
            f"overlay over {name} needs kernel {_OVERLAY_ON_BTRFS} and this is {kernel}; use another"
            " filesystem, or set overlay.override_kernel_check=true if your kernel has the change"
        )
    return f"using overlay over {name} on kernel {kernel}, before {_OVERLAY_ON_BTRFS}"


def check_overlay_support(read_filesystems: Callable[[], str], load_module: Callable[[], None]) -> None:
    """Refuse a kernel without overlay, after one try to load its module; raises NotSupported."""
    if _lists_overlay(read_filesystems()):
        return
    load_module()
    if not _lists_overlay(read_filesystems()):
        raise NotSupported(
            "the kernel has no overlay filesystem: /proc/filesystems does not list it and 'modprobe overlay'"
            " did not help; use a kernel with CONFIG_OVERLAY_FS"
        )


def read_overlay_support() -> None:
    """:func:`check_overlay_support` of this machine."""
    check_overlay_support(lambda: files.read_text("/proc/filesystems"), _modprobe_overlay)


def _lists_overlay(filesystems: str) -> bool:
    return "nodev\toverlay" in filesystems.splitlines()


def _modprobe_overlay() -> None:
    import subprocess  # a kernel with overlay, as nearly all have it, needs no command

    try:
        subprocess.run(["modprobe", "overlay"], check=False, capture_output=True)
    except OSError:
        return  # no modprobe: what /proc/filesystems says decides
