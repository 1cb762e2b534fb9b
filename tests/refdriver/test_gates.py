from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdriver import gates
from refdriver.errors import DriverError, IncompatibleFilesystem, NotSupported
from refdriver.gates import KernelRelease

RELEASES = {
    "2.6.32": (2, 6, 32),
    "3.10.0-1160.el7.x86_64": (3, 10, 0),
    "3.12-1-amd64": (3, 12, 0),
    "3.16.0": (3, 16, 0),
    "4.0": (4, 0, 0),
    "4.6.0": (4, 6, 0),
    "4.7-rc1": (4, 7, 0),
    "4.7.0": (4, 7, 0),
    "4.19.0-27-amd64": (4, 19, 0),
    "6.18.44-vendor": (6, 18, 44),
    "7.3.0-rc1+": (7, 3, 0),
    "5.10.": (5, 10, 0),
}
REFUSED = {"aufs": 0x61756673, "zfs": 0x2FC12FC1, "overlayfs": 0x794C7630, "ecryptfs": 0xF15F}
BTRFS = 0x9123683E


@pytest.mark.parametrize(("release", "numbers"), RELEASES.items())
def test_releases_of_vendors_are_read(release: str, numbers: tuple[int, int, int]) -> None:
    assert KernelRelease.parse(release) == KernelRelease(*numbers)


@pytest.mark.parametrize("release", ["", "4", "4.", "four.two", "-4.1", "x4.1", ".4.1", "4-1.2"])
def test_fewer_than_two_numbers_are_no_release(release: str) -> None:
    with pytest.raises(NotSupported, match="two numbers"):
        KernelRelease.parse(release)


@given(*[st.integers(0, 300)] * 6)
def test_releases_are_ordered_by_number(a: int, b: int, c: int, d: int, e: int, f: int) -> None:
    assert (KernelRelease(a, b, c) < KernelRelease(d, e, f)) == ((a, b, c) < (d, e, f))


def expected(release: KernelRelease, magic: int, override: bool) -> type[DriverError] | str | None:
    """The gates of docs/behaviour.md, section 2, written apart from the driver's."""
    if release < KernelRelease(4, 0):
        if not override:
            return NotSupported
        if magic in REFUSED.values():
            return IncompatibleFilesystem
        return "warning"
    if magic in REFUSED.values():
        return IncompatibleFilesystem
    if magic == BTRFS and release < KernelRelease(4, 7):
        return "warning" if override else IncompatibleFilesystem
    return None


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("magic", [*gates.FILESYSTEM_NAMES, 0x1234])
def test_the_gate_matrix(release: str, magic: int, override: bool) -> None:
    kernel = KernelRelease.parse(release)
    outcome: type[DriverError] | str | None
    try:
        warnings = [gates.check_kernel(kernel, override), gates.check_backing_filesystem(magic, kernel, override)]
        outcome = "warning" if any(warnings) else None
    except DriverError as error:
        outcome = type(error)
    assert outcome == expected(kernel, magic, override)


@pytest.mark.parametrize(("name", "magic"), REFUSED.items())
def test_a_refused_filesystem_is_named(name: str, magic: int) -> None:
    with pytest.raises(IncompatibleFilesystem, match=name):
        gates.check_backing_filesystem(magic, KernelRelease(6, 18), override=True)


def test_an_unknown_filesystem_has_a_name_too() -> None:
    assert gates.filesystem_name(0x1234) == "<unknown>"
    assert gates.filesystem_name(0xEF53) == "extfs"


def test_overlay_may_come_with_its_module() -> None:
    answers = iter(["nodev\tproc\n", "nodev\tproc\nnodev\toverlay\n"])
    loaded: list[bool] = []
    gates.check_overlay_support(lambda: next(answers), lambda: loaded.append(True))
    assert loaded


@pytest.mark.parametrize("filesystems", ["", "nodev\toverlayfs\n", "\toverlay\n", "nodev\tproc\n"])
def test_without_overlay_the_driver_is_not_supported(filesystems: str) -> None:
    with pytest.raises(NotSupported, match="/proc/filesystems"):
        gates.check_overlay_support(lambda: filesystems, lambda: None)


def test_this_kernel_and_its_modprobe() -> None:
    gates.read_overlay_support()
