"""The gates of opening, as a table: which kernel, which filesystem and which override are let in.

The source is behaviour#kernel-gate and what follows it there.

Pure. What a driver answers is found out on simulated kernels (lab.pretend); what it should answer is said here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from conformance.lab.kernelversion import numbers

RELEASES: Final = (
    "2.6.32",
    "3.10",
    "3.16",
    "3.18",
    "4.0",
    "4.4",
    "4.6",
    "4.7",
    "4.10",
    "4.19",
    "5.10",
    "6.1",
    "6.18",
    "7.3",
)
VENDOR_FORMS: Final = (
    "3.10.0-1160.el7.x86_64",
    "3.12-1-amd64",
    "4.7-rc1",
    "4.4.0-210-generic",
    "5.15.0+",
    "4.0.0-gentoo",
)
UNPARSABLE: Final = ("unknown", "4", "-rc1", "a.b.c")
MAGICS: Final = {
    "aufs": 0x61756673,
    "btrfs": 0x9123683E,
    "cramfs": 0x28CD3D45,
    "ecryptfs": 0xF15F,
    "extfs": 0xEF53,
    "f2fs": 0xF2F52010,
    "gpfs": 0x47504653,
    "jffs2": 0x72B6,
    "jfs": 0x3153464A,
    "nfs": 0x6969,
    "overlayfs": 0x794C7630,
    "ramfs": 0x858458F6,
    "reiserfs": 0x52654973,
    "smb": 0x517B,
    "squashfs": 0x73717368,
    "tmpfs": 0x01021994,
    "vxfs": 0xA501FCF5,
    "xfs": 0x58465342,
    "zfs": 0x2FC12FC1,
    "unknown": 0x12345678,
}
PLAIN: Final = "extfs"  # where nothing but the kernel is asked about: on btrfs, the true one may be too old
_REFUSED: Final = frozenset({"aufs", "zfs", "overlayfs", "ecryptfs"})
_FIRST: Final = (4, 0)
_FIRST_ON_BTRFS: Final = (4, 7)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination; ``release`` "" and ``filesystem`` "" are the true ones."""

    release: str
    filesystem: str
    override: bool = False

    def __str__(self) -> str:
        kernel, filesystem = self.release or "as it is", self.filesystem or "as it is"
        return f"kernel {kernel}, filesystem {filesystem}, override {self.override}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whether the driver opens, and words of which one is in what it says."""

    opens: bool
    words: tuple[str, ...] = ()


def wanted(cell: Cell, *, gates_kernel: bool = True) -> Wanted:
    """What a driver should answer; one that probes instead of comparing releases declines ``gates_kernel``."""
    if gates_kernel and cell.release:
        found = numbers(cell.release)
        if not found:
            return Wanted(False, (cell.release,))
        if found < _FIRST and not cell.override:
            return Wanted(False, ("kernel",))
    if cell.filesystem in _REFUSED:
        return Wanted(False, _spellings(cell.filesystem))
    compares = gates_kernel and cell.release and not cell.override
    if compares and cell.filesystem == "btrfs" and numbers(cell.release) < _FIRST_ON_BTRFS:
        return Wanted(False, ("btrfs",))
    return Wanted(True)


def gate_of(cell: Cell) -> str:
    """The gate that a cell is about, by the end of its requirement's id (OVL-GATE-...)."""
    if cell.filesystem in _REFUSED:
        return "BACKING"
    if cell.filesystem == "btrfs":
        return "BTRFS"
    return "KERNEL-FORM" if cell.release in (*VENDOR_FORMS, *UNPARSABLE) else "KERNEL-OLD"


def _spellings(filesystem: str) -> tuple[str, ...]:
    return (filesystem, filesystem.removesuffix("fs")) if filesystem == "overlayfs" else (filesystem,)


def cells(*, full: bool) -> Iterator[Cell]:
    """Every combination; or, if not ``full``, each release once, each filesystem once, and the corners."""
    releases = (*RELEASES, *VENDOR_FORMS, *UNPARSABLE)
    if full:
        yield from (Cell(release, name, on) for release in releases for name in MAGICS for on in (False, True))
        return
    yield from (Cell(release, PLAIN) for release in releases)
    yield from (Cell("", name) for name in MAGICS)
    yield from (Cell(release, PLAIN, True) for release in ("3.18", "2.6.32", "unknown"))
    yield from (Cell(release, "btrfs", on) for release in ("4.6", "4.7-rc1", "3.16") for on in (False, True))
    yield from (Cell("3.16", name, True) for name in sorted(_REFUSED))
