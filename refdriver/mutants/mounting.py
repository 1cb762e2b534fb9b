"""Mutants of mounts, paths and reference counts of the reference driver."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from refdriver import home, layermounts, layers, mounts, refcounts
from refdriver.archive import stream
from refdriver.linux import libc
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-MOUNT-ONCE",), source="boundary: a third user of a mount; moby/moby#3073")
class ThirdGetIsNotCounted(Patched):
    """A mount has one user or several: the third is not counted."""

    @staticmethod
    @replaces(refcounts.ReferenceCounts.store)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Two at most."""
        counts, layer_id, count = args
        return original(counts, layer_id, min(count, 2), **kwargs)


@mutant(breaks=("OVL-MOUNT-ONCE",), source="derived: a count of five bits", hard=True)
class CountIsFiveBitsWide(Patched):
    """The 32nd user of a mount is the first again."""

    @staticmethod
    @replaces(refcounts.ReferenceCounts.store)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """So many at most."""
        counts, layer_id, count = args
        return original(counts, layer_id, (count - 1) % 31 + 1, **kwargs)


@mutant(breaks=("OVL-MOUNT-LAST-PUT",), source="moby/moby#34948")
class PutKeepsCountFile(Patched):
    """The note that a mount has several users stays when there is one left, so that the mount stays too."""

    @staticmethod
    @replaces(refcounts.ReferenceCounts.forget)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nothing."""
        del original, args, kwargs


@mutant(breaks=("OVL-MOUNT-LEFT-OVER",), source="behaviour#left-mounts", hard=True)
class LeftOverMountIsNotCounted(Patched):
    """A mount that an earlier process left is not counted, and mounted over."""

    @staticmethod
    @replaces(refcounts.ReferenceCounts.count)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """None, until this process has mounted it."""
        counts, layer_id, target = args
        return original(counts, layer_id, target, **kwargs) if (id(counts), layer_id) in _SEEN else 0

    @staticmethod
    @replaces(refcounts.ReferenceCounts.store)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Now it has."""
        counts, layer_id, count = args
        _SEEN.add((id(counts), layer_id))
        _ALIVE.append(counts)  # so that no other object gets its id
        return original(counts, layer_id, count, **kwargs)


_SEEN: Final[set[tuple[int, str]]] = set()
_ALIVE: Final[list[Any]] = []


@mutant(
    breaks=("OVL-MOUNT-LEFT-OVER",), source="behaviour#left-mounts; boundary: two users before a restart", hard=True
)
class LeftOverMountCountsOne(Patched):
    """However many users a mount had before the driver was opened again, it has one."""

    @staticmethod
    @replaces(refcounts.ReferenceCounts.count)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One at most, until this process has counted."""
        counts, layer_id, target = args
        count = original(counts, layer_id, target, **kwargs)
        return count if (id(counts), layer_id) in _SEEN else min(count, 1)

    second_replacement = staticmethod(LeftOverMountIsNotCounted.second_replacement)


@mutant(breaks=("OVL-MOUNT-AGAIN",), source="derived: on the second call rather than the first")
class SecondMountIsReadOnly(Patched):
    """The second mount of a layer in the life of a process can only be read."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if what was mounted once were an image."""
        original(*args, **kwargs)
        mounts, layer = args[0], args[1]
        if (id(mounts), layer.layer_id) in _SEEN:
            subprocess.run(["mount", "-o", "remount,bind,ro", layer.merged], check=True)
        _SEEN.add((id(mounts), layer.layer_id))
        _ALIVE.append(mounts)


@mutant(breaks=("OVL-MOUNT-LEFT-OVER",), source="moby/moby#42832")
class OpenUnmountsEverything(Patched):
    """What is mounted in a home is taken for the remains of a crash when it is opened, and unmounted."""

    @staticmethod
    @replaces(home.Home.make_private)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Tidy first."""
        for name in sorted(os.listdir(args[0].path)):
            if os.path.ismount(f"{args[0].path}/{name}/merged"):
                subprocess.run(["umount", "--lazy", f"{args[0].path}/{name}/merged"], check=True)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-MOUNT-LAST-PUT",), source="containers/storage@da0df59a0", hard=True)
class PutHidesBusyMount(Patched):
    """A mount in which a file is open cannot be undone, and nobody hears of it."""

    @staticmethod
    @replaces(libc.umount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Not lazily, and without a word."""
        target, flags = (*args, 0)[:2]
        try:
            return original(target, flags & ~2, **kwargs)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise


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


@mutant(breaks=("OVL-MOUNT-CALLS",), source="behaviour#remove", hard=True)
class RemovedLayerStaysMounted(Patched):
    """A mounted layer is removed, and its mount stays in a directory that is gone."""

    @staticmethod
    @replaces(layermounts.LayerMounts.drop)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Forget the users only."""
        del original, kwargs
        mounts, layer = args
        mounts._counts.forget(layer.layer_id)


@mutant(breaks=("OVL-MOUNT-CALLS",), source="io(7): close() in the middle of a stream", hard=True)
class DiffGivenUpKeepsItsMounts(Patched):
    """A diff of two trees unmounts them when it is read to its end, and not when it is closed before."""

    @staticmethod
    @replaces(stream.ArchiveStream.close)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Forget what was borrowed."""
        (archive,) = args
        if not archive.closed and next(archive._chunks, None) is not None:
            archive._on_close = lambda: None
        return original(*args, **kwargs)
