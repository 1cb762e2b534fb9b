"""Mutants of mounts: option data at the page's end, escapes, labels, lowers and where the caller stands."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault


class FillsThePage(Patched):
    """Option data of exactly a page is taken to fit, and the kernel overwrites its last byte."""

    place = "mounts:plan_mount"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One byte more than fits."""
        request, home, *_ = args
        return original(request, home, os.sysconf("SC_PAGESIZE") + 1, **kwargs)


class FillsThePageByTheShortPath(Patched):
    """Option data relative to the home is taken to fit when it takes exactly a page."""

    place = "mounts:plan_mount"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One byte more, for the relative form only."""
        request, home, *_ = args
        more = original(request, home, os.sysconf("SC_PAGESIZE") + 1, **kwargs)
        return more if more.directory and not more.links else original(request, home, **kwargs)


class StandsInTheWrongPlace(Patched):
    """Relative paths are given to the kernel from wherever the process is."""

    place = "mounts:_mount_from"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The process's own directory."""
        return original(os.getcwd(), *args[1:], **kwargs)


class ComesBackWhenAllIsWell(Patched):
    """The process changes its directory to mount, and comes back from there unless the mount fails."""

    place = "mounts:_mount_from"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """There, and perhaps back again."""
        before = os.getcwd()
        os.chdir(args[0])
        original(*args, **kwargs)
        os.chdir(before)


class EscapesNoColon(Patched):
    """A colon in a path is not escaped, and ends a lower."""

    place = "mounts:escape"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        return original(*args, **kwargs).replace("\\:", ":")


class EscapesNoComma(Patched):
    """A comma in a path is not escaped, and ends an option."""

    place = "mounts:escape"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        return original(*args, **kwargs).replace("\\,", ",")


class EscapesNoBackslash(Patched):
    """A backslash in a path is not escaped, and escapes what follows it."""

    place = "mounts:escape"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        del original, kwargs
        return str(args[0]).replace(":", "\\:").replace(",", "\\,")


class EscapesBackslashesLast(Patched):
    """Backslashes are escaped last, those of the other escapes too."""

    place = "mounts:escape"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In another order."""
        del original, kwargs
        return str(args[0]).replace(":", "\\:").replace(",", "\\,").replace("\\", "\\\\")


class EscapesLowersOnly(Patched):
    """Lowers are escaped, and the upper and the work directory are not."""

    place = "mounts:option_data"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Lowers first, then the rest as it is."""
        (request,) = args
        only_lowers = original(dataclasses.replace(request, upper="", work="", options=()), **kwargs)
        words = [f"upperdir={request.upper}", f"workdir={request.work}"] if request.upper else []
        return b",".join([only_lowers, *map(os.fsencode, [*words, *filter(None, request.options)])])


class TakesMountinfoAsItIs(Patched):
    """A space in the path of the home is not recognised in the kernel's list of mounts, so its mount stays."""

    place = "linux.mountinfo:_unescape"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """With its escapes."""
        del original, kwargs
        return os.fsdecode(args[0])


class DropsLongLabels(Patched):
    """A label that does not fit into a page is left out."""

    place = "mounts:plan_mount"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Without the label, if need be."""
        try:
            return original(*args, **kwargs)
        except Exception:
            return original(dataclasses.replace(args[0], options=()), *args[1:], **kwargs)


class DropsLabelsOnTheSecondGet(Faithful):
    """A label that could not be set is left out when the layer is asked for again."""

    def get(self, layer_id: str, label: str = "") -> str:
        """With the label, once."""
        tried = self.__dict__.setdefault("tried", set())
        asked = (layer_id, label)
        if asked in tried:
            return str(self.inner.get(layer_id))
        tried.add(asked)
        return str(self.inner.get(layer_id, label))


class BindsAndShares(Patched):
    """The home is mounted on itself, and not made private."""

    place = "home:Home.make_private"
    also = "linux.libc:mount"

    @staticmethod
    def wrong_too(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave MS_PRIVATE out."""
        if args[3] != 1 << 18:
            original(*args, **kwargs)


class SharesHomesThatAreMounts(Patched):
    """A home that is a mount already is not made private."""

    place = "home:Home.make_private"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """It is somebody else's."""
        # Of a directory that is mounted on itself os.path.ismount says that it is none.
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return False if args[0].path in mounts else original(*args, **kwargs)


class LeavesOutMissingLowers(Patched):
    """A lower whose directory is gone is left out of the mount."""

    place = "layers:LayerStore.lowers"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What can be found."""
        del original, kwargs
        store, layer = args
        found = []
        for short in store.read_chain(layer):
            try:
                found.append(store._resolve(layer, short))
            except Exception as error:
                if "has no" not in str(error):
                    raise
        return tuple(found)


class NamesNoLower(Patched):
    """A lower that is gone is an error that does not say which."""

    place = "layers:LayerStore._resolve"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the kernel would say."""
        try:
            return original(*args, **kwargs)
        except Exception as error:
            raise OSError(2, "No such file or directory") from error


class Drops128thLower(Patched):
    """A mount takes 127 lowers, and the lowest of 128 is left out."""

    place = "mounts:mount_overlay"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As many as that."""
        request, *rest = args
        return original(dataclasses.replace(request, lowers=request.lowers[:127]), *rest, **kwargs)


class SortsLowersWhenThereAreMany(Patched):
    """More lowers than a page holds by absolute paths are mounted in the order of their names."""

    place = "mounts:plan_mount"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Sorted, if it is not the first form that fits."""
        plan = original(*args, **kwargs)
        if not plan.directory:
            return plan
        ordered = dataclasses.replace(args[0], lowers=tuple(sorted(args[0].lowers)))
        return original(ordered, *args[1:], **kwargs)


class LeavesADirectoryForDevices(Patched):
    """A layer that is mounted gets the empty directory dev, so that containers can use it."""

    place = "layermounts:LayerMounts._mount"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make it where it is missing, as init layers have it."""
        original(*args, **kwargs)
        if args[1].writable:
            Path(args[1].merged, "dev").mkdir(exist_ok=True)


class NeedsAMountPoint(Patched):
    """A mount point that another driver took away is not made again."""

    place = "trees:make_directories"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """It was made with the layer."""
        if not args[0].endswith("/merged"):
            original(*args, **kwargs)


FAULTS: Final = (
    Fault(
        FillsThePage,
        ("OVL-MOUNT-PAGE-BOUNDARY",),
        "boundary: exactly a page; behaviour#page-size; containers/storage#1158; moby/moby@c923f6ac3b",
        hard=True,
    ),
    Fault(
        FillsThePageByTheShortPath,
        ("OVL-MOUNT-PAGE-RELATIVE",),
        "boundary: exactly a page by the relative form; behaviour#page-size",
        hard=True,
    ),
    Fault(StandsInTheWrongPlace, ("OVL-MOUNT-LONG-HOME",), "behaviour#relative-form; containers/buildah#3708"),
    Fault(ComesBackWhenAllIsWell, ("OVL-MOUNT-CWD",), "behaviour#working-directory", hard=True),
    Fault(EscapesNoColon, ("OVL-NAMES-HOME",), "moby/moby#40939", hard=True),
    Fault(EscapesNoComma, ("OVL-NAMES-HOME",), "containers/fuse-overlayfs#227", hard=True),
    Fault(EscapesNoBackslash, ("OVL-NAMES-HOME",), "containers/fuse-overlayfs#440", hard=True),
    Fault(EscapesBackslashesLast, ("OVL-NAMES-HOME",), "moby/moby#40939: the order of two escapes", hard=True),
    Fault(EscapesLowersOnly, ("OVL-NAMES-HOME",), "moby/moby#40939: upper and work", hard=True),
    Fault(
        TakesMountinfoAsItIs,
        ("OVL-LIFE-NO-LEAKS",),
        "behaviour#path-escapes: a space in the home; field-bugs#special-paths",
        hard=True,
    ),
    Fault(DropsLongLabels, ("OVL-MOUNT-LABEL-LONG",), "containers/buildah#3708: a label that is too large"),
    Fault(DropsLabelsOnTheSecondGet, ("OVL-MOUNT-LABEL-REFUSED",), "behaviour#labels", hard=True),
    Fault(BindsAndShares, ("OVL-MOUNT-HOME-PRIVATE",), "behaviour#private-home"),
    Fault(
        SharesHomesThatAreMounts,
        ("OVL-MOUNT-HOME-PRIVATE",),
        "behaviour#private-home: a home that is a mount",
        hard=True,
    ),
    Fault(LeavesOutMissingLowers, ("OVL-MOUNT-LOWER-GONE",), "containers/podman#5986"),
    Fault(NamesNoLower, ("OVL-MOUNT-LOWER-GONE",), "behaviour#missing-lower: the error names it"),
    Fault(Drops128thLower, ("OVL-CHAIN-128",), "boundary: 127 lowers", hard=True),
    Fault(SortsLowersWhenThereAreMany, ("OVL-CHAIN-ORDER",), "derived: the relative form only", hard=True),
    Fault(LeavesADirectoryForDevices, ("OVL-MOUNT-READ-ONLY-USE",), "containers/podman#1506"),
    Fault(
        NeedsAMountPoint,
        ("OVL-LAYOUT-READ",),
        "behaviour#base-layers: homes are shared with containers/storage",
        hard=True,
    ),
)
