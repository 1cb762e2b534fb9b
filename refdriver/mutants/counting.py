"""Mutants of the count of a mount's users: too many, too few, in another process, after a failure."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from typing import Any, Final

from refdriver import home, layermounts, refcounts
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
    breaks=("OVL-LIFE-NO-LEAKS",),
    source="behaviour#private-home: after a restart; containers/storage@da0df59a0",
    hard=True,
)
class ReopenedHomeStaysMounted(Patched):
    """The home's own mount is undone by the opening that made it, and by no later one."""

    made: set[str] = set()  # noqa: RUF012 - of all openings

    @staticmethod
    @replaces(home.Home.make_private)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Note whether this opening made it."""
        made = original(*args, **kwargs)
        (ReopenedHomeStaysMounted.made.add if made else ReopenedHomeStaysMounted.made.discard)(args[0].path)
        return made

    @staticmethod
    @replaces(home.Home.unmount)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Undo what is one's own."""
        if args[0].path in ReopenedHomeStaysMounted.made:
            original(*args, **kwargs)
