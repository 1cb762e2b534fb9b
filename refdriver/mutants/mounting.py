"""Mutants of mounts: option data at the page's end, escapes, labels, lowers and where the caller stands."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refdriver import home, layermounts, layers, mounts, trees
from refdriver.linux import libc, mountinfo
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(
    breaks=("OVL-MOUNT-PAGE-BOUNDARY",),
    source="boundary: exactly a page; behaviour#page-size; containers/storage#1158; moby/moby@c923f6ac3b",
    hard=True,
)
class PageOfOptionsIsOverrun(Patched):
    """Option data of exactly a page is taken to fit, and the kernel overwrites its last byte."""

    @staticmethod
    @replaces(mounts.plan_mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One byte more than fits."""
        request, home, *_ = args
        return original(request, home, os.sysconf("SC_PAGESIZE") + 1, **kwargs)


@mutant(
    breaks=("OVL-MOUNT-PAGE-RELATIVE",),
    source="boundary: exactly a page by the relative form; behaviour#page-size",
    hard=True,
)
class PageOfRelativeOptionsIsOverrun(Patched):
    """Option data relative to the home is taken to fit when it takes exactly a page."""

    @staticmethod
    @replaces(mounts.plan_mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One byte more, for the relative form only."""
        request, home, *_ = args
        more = original(request, home, os.sysconf("SC_PAGESIZE") + 1, **kwargs)
        return more if more.directory and not more.links else original(request, home, **kwargs)


@mutant(breaks=("OVL-MOUNT-LONG-HOME",), source="behaviour#relative-form; containers/buildah#3708")
class RelativeMountInWrongDirectory(Patched):
    """Relative paths are given to the kernel from wherever the process is."""

    @staticmethod
    @replaces(mounts._mount_from)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The process's own directory."""
        return original(os.getcwd(), *args[1:], **kwargs)


@mutant(breaks=("OVL-MOUNT-CWD",), source="behaviour#working-directory", hard=True)
class FailedMountChangesWorkingDirectory(Patched):
    """The process changes its directory to mount, and comes back from there unless the mount fails."""

    @staticmethod
    @replaces(mounts._mount_from)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """There, and perhaps back again."""
        before = os.getcwd()
        os.chdir(args[0])
        original(*args, **kwargs)
        os.chdir(before)


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939", hard=True)
class MountEscapesNoColon(Patched):
    """A colon in a path is not escaped, and ends a lower."""

    @staticmethod
    @replaces(mounts.escape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        return original(*args, **kwargs).replace("\\:", ":")


@mutant(breaks=("OVL-NAMES-HOME",), source="containers/fuse-overlayfs#227", hard=True)
class MountEscapesNoComma(Patched):
    """A comma in a path is not escaped, and ends an option."""

    @staticmethod
    @replaces(mounts.escape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        return original(*args, **kwargs).replace("\\,", ",")


@mutant(breaks=("OVL-NAMES-HOME",), source="containers/fuse-overlayfs#440", hard=True)
class MountEscapesNoBackslash(Patched):
    """A backslash in a path is not escaped, and escapes what follows it."""

    @staticmethod
    @replaces(mounts.escape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """All else."""
        del original, kwargs
        return str(args[0]).replace(":", "\\:").replace(",", "\\,")


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939: the order of two escapes", hard=True)
class MountEscapesBackslashesLast(Patched):
    """Backslashes are escaped last, those of the other escapes too."""

    @staticmethod
    @replaces(mounts.escape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """In another order."""
        del original, kwargs
        return str(args[0]).replace(":", "\\:").replace(",", "\\,").replace("\\", "\\\\")


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939: upper and work", hard=True)
class MountEscapesLowersOnly(Patched):
    """Lowers are escaped, and the upper and the work directory are not."""

    @staticmethod
    @replaces(mounts.option_data)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Lowers first, then the rest as it is."""
        (request,) = args
        only_lowers = original(dataclasses.replace(request, upper="", work="", options=()), **kwargs)
        words = [f"upperdir={request.upper}", f"workdir={request.work}"] if request.upper else []
        return b",".join([only_lowers, *map(os.fsencode, [*words, *filter(None, request.options)])])


@mutant(
    breaks=("OVL-LIFE-NO-LEAKS",),
    source="behaviour#path-escapes: a space in the home; field-bugs#special-paths",
    hard=True,
)
class MountinfoIsNotUnescaped(Patched):
    """A space in the path of the home is not recognised in the kernel's list of mounts, so its mount stays."""

    @staticmethod
    @replaces(mountinfo._unescape)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """With its escapes."""
        del original, kwargs
        return os.fsdecode(args[0])


@mutant(breaks=("OVL-MOUNT-LABEL-LONG",), source="containers/buildah#3708: a label that is too large")
class MountDropsLongLabels(Patched):
    """A label that does not fit into a page is left out."""

    @staticmethod
    @replaces(mounts.plan_mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Without the label, if need be."""
        try:
            return original(*args, **kwargs)
        except Exception:
            return original(dataclasses.replace(args[0], options=()), *args[1:], **kwargs)


@mutant(breaks=("OVL-MOUNT-HOME-PRIVATE",), source="behaviour#private-home")
class HomeIsSharedMount(Patched):
    """The home is mounted on itself, and not made private."""

    @staticmethod
    @replaces(libc.mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave MS_PRIVATE out."""
        if args[3] != 1 << 18:
            original(*args, **kwargs)


@mutant(breaks=("OVL-MOUNT-HOME-PRIVATE",), source="behaviour#private-home: a home that is a mount", hard=True)
class MountedHomeStaysShared(Patched):
    """A home that is a mount already is not made private."""

    @staticmethod
    @replaces(home.Home.make_private)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """It is somebody else's."""
        # Of a directory that is mounted on itself os.path.ismount says that it is none.
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return False if args[0].path in mounts else original(*args, **kwargs)


@mutant(breaks=("OVL-MOUNT-LOWER-GONE",), source="containers/podman#5986")
class MountOmitsMissingLowers(Patched):
    """A lower whose directory is gone is left out of the mount."""

    @staticmethod
    @replaces(layers.LayerStore.lowers)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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


@mutant(breaks=("OVL-MOUNT-LOWER-GONE",), source="behaviour#missing-lower: the error names it")
class MountErrorNamesNoLower(Patched):
    """A lower that is gone is an error that does not say which."""

    @staticmethod
    @replaces(layers.LayerStore._resolve)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the kernel would say."""
        try:
            return original(*args, **kwargs)
        except Exception as error:
            raise OSError(2, "No such file or directory") from error


@mutant(breaks=("OVL-CHAIN-128",), source="boundary: 127 lowers", hard=True)
class MountDropsLower128(Patched):
    """A mount takes 127 lowers, and the lowest of 128 is left out."""

    @staticmethod
    @replaces(mounts.mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As many as that."""
        request, *rest = args
        return original(dataclasses.replace(request, lowers=request.lowers[:127]), *rest, **kwargs)


@mutant(breaks=("OVL-CHAIN-ORDER",), source="derived: the relative form only", hard=True)
class MountSortsManyLowers(Patched):
    """More lowers than a page holds by absolute paths are mounted in the order of their names."""

    @staticmethod
    @replaces(mounts.plan_mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Sorted, if it is not the first form that fits."""
        plan = original(*args, **kwargs)
        if not plan.directory:
            return plan
        ordered = dataclasses.replace(args[0], lowers=tuple(sorted(args[0].lowers)))
        return original(ordered, *args[1:], **kwargs)


@mutant(breaks=("OVL-MOUNT-READ-ONLY-USE",), source="containers/podman#1506")
class GetLeavesDevDirectory(Patched):
    """A layer that is mounted gets the empty directory dev, so that containers can use it."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make it where it is missing, as init layers have it."""
        original(*args, **kwargs)
        if args[1].writable:
            Path(args[1].merged, "dev").mkdir(exist_ok=True)


@mutant(
    breaks=("OVL-LAYOUT-READ",), source="behaviour#base-layers: homes are shared with containers/storage", hard=True
)
class MountRequiresMergedDirectory(Patched):
    """A mount point that another driver took away is not made again."""

    @staticmethod
    @replaces(trees.make_directories)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """It was made with the layer."""
        if not args[0].endswith("/merged"):
            original(*args, **kwargs)
