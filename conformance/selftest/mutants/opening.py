"""Mutants of opening: the words that are taken, the kernels and filesystems that are let in, and what is left."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched, basis
from conformance.selftest.mutants.fault import Fault


class AsksTheHomeItself(Patched):
    """The backing filesystem is asked of the home before it is made, so a fresh one cannot be opened."""

    place = "home:Home.nearest_existing_parent"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The home, there or not."""
        del original, kwargs
        return args[0].path


class LeavesProbeOnReopen(Patched):
    """The directory in which d_type is tried stays in the home when there are layers already."""

    place = "probes:supports_d_type"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Try in the home, and clean up only what was empty."""
        home = Path(args[0]).parents[1]
        if os.listdir(home / "l"):
            tempfile.mkdtemp(prefix="d-type-check", dir=home)
        return original(*args, **kwargs)


class ReadsOptionsLast(Faithful):
    """Options are read when the home is mounted on itself already, and their refusal leaves that mount."""

    def __init__(self, home: str, **asked: Any) -> None:
        basis()(home).close()
        super().__init__(home, **asked)


class LetsOthersThrough(Faithful):
    """Directories are 0711: other users cannot list them, and can go through them to files that they know."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Then let everybody through."""
        self.inner.create(layer_id, parent)
        for path in (self.home, f"{self.home}/{layer_id}"):
            os.chmod(path, 0o711)


class RemembersTheFirstFilesystem(Patched):
    """The name of the backing filesystem is kept for the process, so a second home gets that of the first."""

    place = "gates:filesystem_name"
    known: list[str] = []  # noqa: RUF012 - for the whole process, which is the mutation

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What was said first."""
        if not RemembersTheFirstFilesystem.known:
            RemembersTheFirstFilesystem.known.append(original(*args, **kwargs))
        return RemembersTheFirstFilesystem.known[0]


class KnowsOptionsByTheirBeginning(Patched):
    """A key that begins as a known one does is taken for it."""

    place = "options:_with_option"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out what is too long."""
        options, key, value = args
        for known in ("overlay.override_kernel_check", "overlay.size", "overlay.imagestore"):
            key = known if key.startswith(known) else key
        return original(options, key, value, **kwargs)


class DropsUnknownOptionsOfOverlay2(Patched):
    """Unknown options are refused with the prefix overlay. and dropped with the prefix overlay2."""

    place = "options:_with_option"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As they are, without a word."""
        try:
            return original(*args, **kwargs)
        except Exception:
            if args[1].startswith("overlay2."):
                return args[0]
            raise


class KnowsTwoCases(Faithful):
    """Keys are known in small letters and in capitals, and not in a mixture."""

    def __init__(self, home: str, **asked: Any) -> None:
        for word in asked.get("options", ()):
            key = word.partition("=")[0].removeprefix("overlay.")
            if key not in (key.lower(), key.upper()):
                raise ValueError(f"unknown option {key}")
        super().__init__(home, **asked)


class FoldsValues(Patched):
    """The case of a value is folded with that of its key."""

    place = "options:_split"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Both in small letters."""
        key, value = original(*args, **kwargs)
        return key, value.lower()


class TakesNothingForTrue(Patched):
    """A switch without a value is on."""

    place = "options:_parse_bool"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """True, for the empty word."""
        return original(args[0], args[1] or "true", **kwargs)


class TakesAWordForTrue(Patched):
    """A switch that is set is on, whatever good word it is set to."""

    place = "options:_parse_bool"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at the word, and say yes."""
        original(*args, **kwargs)
        return True


class RoundsSizes(Patched):
    """Fractions of a byte are rounded and not cut off."""

    place = "options:parse_size"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """To the nearest, for plain bytes."""
        number = args[0].removesuffix("b")
        return original(*args, **kwargs) if not _is_number(number) else round(float(number))


class ReadsUnitsOf1000(Patched):
    """A k is a thousand bytes."""

    place = "options:parse_size"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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


class DropsSizesWithoutQuota(Patched):
    """Where quota cannot work a size is left out, so what was limited is not."""

    place = "driver:_pass_gates"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Without the size."""
        home, options, *rest = args
        return original(home, dataclasses.replace(options, size=0), *rest, **kwargs)


class LooksAtTheFirstStore(Patched):
    """Of several image stores only the first one must be there."""

    place = "options:_with_option"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The others are taken as they are."""
        options, key, value = args
        if not key.endswith("imagestore"):
            return original(options, key, value, **kwargs)
        first, *others = value.split(",")
        checked = original(options, key, first, **kwargs)
        return dataclasses.replace(checked, image_stores=(*checked.image_stores, *others))


class RefusesTheFirstGoodKernel(Patched):
    """The gate lets in what is later than 4.0, and not 4.0."""

    place = "gates:check_kernel"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One step too far."""
        kernel, *rest = args
        if (kernel.version, kernel.major, kernel.minor) == (4, 0, 0):
            kernel = dataclasses.replace(kernel, version=3)
        return original(kernel, *rest, **kwargs)


class RefusesTheFirstGoodKernelOfBtrfs(Patched):
    """The gate of btrfs lets in what is later than 4.7, and not 4.7."""

    place = "gates:check_backing_filesystem"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One step too far."""
        magic, kernel, override = args
        if (kernel.version, kernel.major) == (4, 7):
            kernel = dataclasses.replace(kernel, major=6)
        return original(magic, kernel, override, **kwargs)


class ComparesReleasesAsText(Patched):
    """Kernel releases are compared letter by letter, so 4.10 comes before 4.7."""

    place = "gates:KernelRelease.__ge__"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As words are."""
        del original, kwargs
        return str(args[0]) >= str(args[1])


class WantsThreeNumbers(Patched):
    """A kernel release has to have three numbers."""

    place = "gates:KernelRelease.parse"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Refuse 4.7-rc1."""
        if args[1].split("-")[0].count(".") < 2:
            raise ValueError(f"kernel release {args[1]!r} cannot be read")
        return original(*args, **kwargs)


class TakesOneNumber(Patched):
    """A kernel release of one number is read as if .0 followed."""

    place = "gates:KernelRelease.parse"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Put it there."""
        return original(args[0], f"{args[1]}.0" if args[1].isdigit() else args[1], **kwargs)


class OverridesFilesystems(Patched):
    """The override of the kernel's gate lifts the refusal of filesystems too."""

    place = "gates:check_backing_filesystem"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A warning instead."""
        if args[2]:
            return "you wanted it"
        return original(*args, **kwargs)


class SignsMagics(Patched):
    """The number of a filesystem is read as a signed one, so that of btrfs is not known."""

    place = "linux.libc:filesystem_magic"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Negative from 2^31."""
        magic = original(*args, **kwargs)
        return magic - 2**32 if magic >= 2**31 else magic


class ForgetsTheOverrideOnBtrfs(Patched):
    """The override does not reach the gate of btrfs."""

    place = "gates:check_backing_filesystem"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if it were off."""
        return original(args[0], args[1], False, **kwargs)


class RefusesStrangers(Patched):
    """A filesystem that has no name in the table is refused."""

    place = "gates:check_backing_filesystem"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask for a name first."""
        if args[0] == 0x12345678:
            raise ValueError("overlay is not supported over <unknown>")
        return original(*args, **kwargs)


class TakesOverlayForAnUpper(Patched):
    """A home on another overlay gets a warning, and is opened."""

    place = "gates:check_backing_filesystem"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Only a warning."""
        if args[0] == 0x794C7630:
            return "overlay on overlay may fail"
        return original(*args, **kwargs)


class UsesUpItsOptions(Faithful):
    """The list of options is the caller's, and is empty after the first opening."""

    def __init__(self, home: str, **asked: Any) -> None:
        given = asked.get("options", [])
        super().__init__(home, **{**asked, "options": list(given)})
        del given[:]


class TakesALinkForTheHome(Patched):
    """A home that is named through a symlink is not recognised among the mounts, and so mounted again each time."""

    place = "home:Home.__init__"

    def __init__(self, home: str, **asked: Any) -> None:
        TakesALinkForTheHome.named = home
        super().__init__(home, **asked)

    named = ""

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The path as it was given."""
        original(args[0], TakesALinkForTheHome.named, **kwargs)


FAULTS: Final = (
    Fault(AsksTheHomeItself, ("OVL-OPEN-FRESH",), "behaviour#backing-name: statfs of the parent of the home"),
    Fault(
        LeavesProbeOnReopen,
        ("OVL-OPEN-AGAIN",),
        "behaviour#probes: with layers in the home",
        hard=True,
    ),
    Fault(
        ReadsOptionsLast,
        ("OVL-OPEN-REFUSED-CLEAN",),
        "behaviour#opening-order; behaviour#probes",
    ),
    Fault(LetsOthersThrough, ("OVL-OPEN-HOME-CLOSED",), "CVE-2021-41091", hard=True),
    Fault(
        RemembersTheFirstFilesystem,
        ("OVL-OPEN-SECOND-HOME",),
        "behaviour#answers-per-home",
        backing="ext4",
        hard=True,
    ),
    Fault(KnowsOptionsByTheirBeginning, ("OVL-OPTION-UNKNOWN",), "behaviour#options", hard=True),
    Fault(KnowsTwoCases, ("OVL-OPTION-CASE",), "behaviour#options: keys in any case", hard=True),
    Fault(FoldsValues, ("OVL-OPTION-BOOL",), "behaviour#option-bool", hard=True),
    Fault(TakesNothingForTrue, ("OVL-OPTION-BOOL",), "behaviour#option-bool"),
    Fault(TakesAWordForTrue, ("OVL-OPTION-BOOL",), "behaviour#option-bool", hard=True),
    Fault(RoundsSizes, ("OVL-OPTION-SIZE-FORM",), "behaviour#option-size: fractions are cut", hard=True),
    Fault(ReadsUnitsOf1000, ("OVL-OPTION-SIZE-FORM",), "behaviour#option-size: units of 1024", hard=True),
    Fault(
        DropsSizesWithoutQuota,
        ("OVL-OPTION-SIZE-BACKING",),
        "behaviour#option-size-quota",
        backing="tmpfs",
    ),
    Fault(LooksAtTheFirstStore, ("OVL-OPTION-IMAGESTORE",), "behaviour#option-imagestore", hard=True),
    Fault(RefusesTheFirstGoodKernel, ("OVL-GATE-KERNEL-OLD",), "boundary: kernel 4.0"),
    Fault(RefusesTheFirstGoodKernelOfBtrfs, ("OVL-GATE-BTRFS",), "boundary: kernel 4.7 on btrfs"),
    Fault(ComparesReleasesAsText, ("OVL-GATE-BTRFS",), "boundary: kernel 4.10 on btrfs", hard=True),
    Fault(WantsThreeNumbers, ("OVL-GATE-KERNEL-FORM",), "behaviour#kernel-release-form: 3.12-1-amd64"),
    Fault(
        TakesOneNumber,
        ("OVL-GATE-KERNEL-FORM",),
        "behaviour#kernel-release-form: fewer than two numbers",
        hard=True,
    ),
    Fault(OverridesFilesystems, ("OVL-GATE-BACKING",), "moby/moby#35483"),
    Fault(SignsMagics, ("OVL-GATE-BTRFS",), "boundary: magics from 2^31 on", hard=True),
    Fault(
        ForgetsTheOverrideOnBtrfs, ("OVL-GATE-BTRFS",), "behaviour#btrfs-gate: unless override_kernel_check is set"
    ),
    Fault(RefusesStrangers, ("OVL-GATE-BACKING-TAKEN",), "behaviour#backing-gate: other filesystems are accepted"),
    Fault(TakesOverlayForAnUpper, ("OVL-GATE-REAL-OVERLAY",), "moby/moby#21828", backing="overlay"),
    Fault(
        UsesUpItsOptions,
        ("OVL-OPEN-OPTIONS-KEPT",),
        "behaviour#options: the caller's options are not modified",
        hard=True,
    ),
    Fault(
        TakesALinkForTheHome,
        ("OVL-OPEN-SYMLINK",),
        "symlink(7): a home may be reached through one",
        hard=True,
    ),
)
