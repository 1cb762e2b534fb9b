"""Mutants of opening, options and gates of the reference driver."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refdriver import driver, gates, home, options, probes
from refdriver.linux import libc
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-OPEN-FRESH",), source="behaviour#backing-name: statfs of the parent of the home")
class OpenRequiresHome(Patched):
    """The backing filesystem is asked of the home before it is made, so a fresh one cannot be opened."""

    @staticmethod
    @replaces(home.Home.nearest_existing_parent)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The home, there or not."""
        del original, kwargs
        return args[0].path


@mutant(breaks=("OVL-OPEN-AGAIN",), source="behaviour#probes: with layers in the home", hard=True)
class ReopenLeavesProbe(Patched):
    """The directory in which d_type is tried stays in the home when there are layers already."""

    @staticmethod
    @replaces(probes.supports_d_type)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Try in the home, and clean up only what was empty."""
        home = Path(args[0]).parents[1]
        if os.listdir(home / "l"):
            tempfile.mkdtemp(prefix="d-type-check", dir=home)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-OPEN-SECOND-HOME",), source="behaviour#answers-per-home", backing="ext4", hard=True)
class BackingIsCached(Patched):
    """The name of the backing filesystem is kept for the process, so a second home gets that of the first."""

    known: list[str] = []  # noqa: RUF012 - for the whole process, which is the mutation

    @staticmethod
    @replaces(gates.filesystem_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What was said first."""
        if not BackingIsCached.known:
            BackingIsCached.known.append(original(*args, **kwargs))
        return BackingIsCached.known[0]


@mutant(breaks=("OVL-OPTION-UNKNOWN",), source="behaviour#options", hard=True)
class OptionMatchesPrefix(Patched):
    """A key that begins as a known one does is taken for it."""

    @staticmethod
    @replaces(options._with_option)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out what is too long."""
        options, key, value = args
        for known in ("overlay.override_kernel_check", "overlay.size", "overlay.imagestore"):
            key = known if key.startswith(known) else key
        return original(options, key, value, **kwargs)


@mutant(breaks=("OVL-OPTION-BOOL",), source="behaviour#option-bool", hard=True)
class OptionFoldsValues(Patched):
    """The case of a value is folded with that of its key."""

    @staticmethod
    @replaces(options._split)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Both in small letters."""
        key, value = original(*args, **kwargs)
        return key, value.lower()


@mutant(breaks=("OVL-OPTION-BOOL",), source="behaviour#option-bool")
class OptionTakesEmptyForTrue(Patched):
    """A switch without a value is on."""

    @staticmethod
    @replaces(options._parse_bool)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """True, for the empty word."""
        return original(args[0], args[1] or "true", **kwargs)


@mutant(breaks=("OVL-OPTION-BOOL",), source="behaviour#option-bool", hard=True)
class OptionTakesFalseForTrue(Patched):
    """A switch that is set is on, whatever good word it is set to."""

    @staticmethod
    @replaces(options._parse_bool)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at the word, and say yes."""
        original(*args, **kwargs)
        return True


@mutant(breaks=("OVL-OPTION-SIZE-FORM",), source="behaviour#option-size: fractions are cut", hard=True)
class OptionRoundsSizes(Patched):
    """Fractions of a byte are rounded and not cut off."""

    @staticmethod
    @replaces(options.parse_size)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """To the nearest, for plain bytes."""
        number = args[0].removesuffix("b")
        return original(*args, **kwargs) if not _is_number(number) else round(float(number))


@mutant(breaks=("OVL-OPTION-SIZE-FORM",), source="behaviour#option-size: units of 1024", hard=True)
class OptionReadsUnitsOf1000(Patched):
    """A k is a thousand bytes."""

    @staticmethod
    @replaces(options.parse_size)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In the units of a shop."""
        number = args[0].rstrip("bB").rstrip("iI")
        if number.lower().endswith("k") and _is_number(number[:-1].strip()):
            return int(float(number[:-1]) * 1000)
        return original(*args, **kwargs)


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


@mutant(breaks=("OVL-OPTION-SIZE-BACKING",), source="behaviour#option-size-quota", backing="tmpfs")
class OpenIgnoresSizeWithoutQuota(Patched):
    """Where quota cannot work a size is left out, so what was limited is not."""

    @staticmethod
    @replaces(driver._pass_gates)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Without the size."""
        home, options, *rest = args
        return original(home, dataclasses.replace(options, size=0), *rest, **kwargs)


@mutant(breaks=("OVL-OPTION-IMAGESTORE",), source="behaviour#option-imagestore", hard=True)
class OptionChecksFirstStoreOnly(Patched):
    """Of several image stores only the first one must be there."""

    @staticmethod
    @replaces(options._with_option)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The others are taken as they are."""
        options, key, value = args
        if not key.endswith("imagestore"):
            return original(options, key, value, **kwargs)
        first, *others = value.split(",")
        checked = original(options, key, first, **kwargs)
        return dataclasses.replace(checked, image_stores=(*checked.image_stores, *others))


@mutant(breaks=("OVL-GATE-KERNEL-OLD",), source="boundary: kernel 4.0")
class GateRefusesKernel40(Patched):
    """The gate lets in what is later than 4.0, and not 4.0."""

    @staticmethod
    @replaces(gates.check_kernel)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One step too far."""
        kernel, *rest = args
        if (kernel.version, kernel.major, kernel.minor) == (4, 0, 0):
            kernel = dataclasses.replace(kernel, version=3)
        return original(kernel, *rest, **kwargs)


@mutant(breaks=("OVL-GATE-BTRFS",), source="boundary: kernel 4.7 on btrfs")
class BtrfsGateRefusesKernel47(Patched):
    """The gate of btrfs lets in what is later than 4.7, and not 4.7."""

    @staticmethod
    @replaces(gates.check_backing_filesystem)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One step too far."""
        magic, kernel, override = args
        if (kernel.version, kernel.major) == (4, 7):
            kernel = dataclasses.replace(kernel, major=6)
        return original(magic, kernel, override, **kwargs)


@mutant(breaks=("OVL-GATE-BTRFS",), source="boundary: kernel 4.10 on btrfs", hard=True)
class GateComparesReleasesAsText(Patched):
    """Kernel releases are compared letter by letter, so 4.10 comes before 4.7."""

    @staticmethod
    @replaces(gates.KernelRelease.__ge__)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As words are."""
        del original, kwargs
        return str(args[0]) >= str(args[1])


@mutant(breaks=("OVL-GATE-KERNEL-FORM",), source="behaviour#kernel-release-form: 3.12-1-amd64")
class GateRequiresThreeNumbers(Patched):
    """A kernel release has to have three numbers."""

    @staticmethod
    @replaces(gates.KernelRelease.parse)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Refuse 4.7-rc1."""
        if args[1].split("-")[0].count(".") < 2:
            raise ValueError(f"kernel release {args[1]!r} cannot be read")
        return original(*args, **kwargs)


@mutant(breaks=("OVL-GATE-KERNEL-FORM",), source="behaviour#kernel-release-form: fewer than two numbers", hard=True)
class GateAcceptsOneNumber(Patched):
    """A kernel release of one number is read as if .0 followed."""

    @staticmethod
    @replaces(gates.KernelRelease.parse)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Put it there."""
        return original(args[0], f"{args[1]}.0" if args[1].isdigit() else args[1], **kwargs)


@mutant(breaks=("OVL-GATE-BACKING",), source="moby/moby#35483")
class OverrideLiftsFilesystemGate(Patched):
    """The override of the kernel's gate lifts the refusal of filesystems too."""

    @staticmethod
    @replaces(gates.check_backing_filesystem)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A warning instead."""
        if args[2]:
            return "you wanted it"
        return original(*args, **kwargs)


@mutant(breaks=("OVL-GATE-BTRFS",), source="boundary: magics from 2^31 on", hard=True)
class GateReadsSignedMagic(Patched):
    """The number of a filesystem is read as a signed one, so that of btrfs is not known."""

    @staticmethod
    @replaces(libc.filesystem_magic)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Negative from 2^31."""
        magic = original(*args, **kwargs)
        return magic - 2**32 if magic >= 2**31 else magic


@mutant(breaks=("OVL-GATE-BTRFS",), source="behaviour#btrfs-gate: unless override_kernel_check is set")
class BtrfsGateIgnoresOverride(Patched):
    """The override does not reach the gate of btrfs."""

    @staticmethod
    @replaces(gates.check_backing_filesystem)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if it were off."""
        return original(args[0], args[1], False, **kwargs)


@mutant(breaks=("OVL-GATE-BACKING-TAKEN",), source="behaviour#backing-gate: other filesystems are accepted")
class GateRefusesUnnamedFilesystem(Patched):
    """A filesystem that has no name in the table is refused."""

    @staticmethod
    @replaces(gates.check_backing_filesystem)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask for a name first."""
        if args[0] == 0x12345678:
            raise ValueError("overlay is not supported over <unknown>")
        return original(*args, **kwargs)


@mutant(breaks=("OVL-GATE-REAL-OVERLAY",), source="moby/moby#21828", backing="overlay")
class GateWarnsOfOverlay(Patched):
    """A home on another overlay gets a warning, and is opened."""

    @staticmethod
    @replaces(gates.check_backing_filesystem)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Only a warning."""
        if args[0] == 0x794C7630:
            return "overlay on overlay may fail"
        return original(*args, **kwargs)


@mutant(breaks=("OVL-OPEN-SYMLINK",), source="symlink(7): a home may be reached through one", hard=True)
class SymlinkToHomeMountsAgain(Patched):
    """A home that is named through a symlink is not recognised among the mounts, and so mounted again each time."""

    def __init__(self, home: str, **asked: Any) -> None:
        SymlinkToHomeMountsAgain.named = home
        super().__init__(home, **asked)

    named = ""

    @staticmethod
    @replaces(home.Home.__init__)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The path as it was given."""
        original(args[0], SymlinkToHomeMountsAgain.named, **kwargs)
