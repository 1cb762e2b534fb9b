"""Mutants of the count of a mount's users: too many, too few, in another process, after a failure."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault


class Books(Faithful):
    """Counts gets and puts in memory, as drivers of 2017 did; right as long as nobody else counts."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.held: dict[str, int] = {}

    def get(self, layer_id: str, *label: str) -> str:
        """Mount for the first, count for the others."""
        if self.held.get(layer_id, 0) > 0:
            self.held[layer_id] += 1
            return self.tree(layer_id)
        path = str(self.inner.get(layer_id, *label))
        self.held[layer_id] = self.held.get(layer_id, 0) + 1
        return path

    def put(self, layer_id: str) -> None:
        """Count, and unmount after the last."""
        self.held[layer_id] = self.held.get(layer_id, 0) - 1
        if self.held[layer_id] <= 0:
            self.held.pop(layer_id)
            self.inner.put(layer_id)

    def tree(self, layer_id: str) -> str:
        """Where a layer is, mounted or not."""
        place = f"{self.home}/{layer_id}"
        return f"{place}/merged" if os.path.exists(f"{place}/lower") else f"{place}/diff"


class CountsToTwo(Patched):
    """A mount has one user or several: the third is not counted."""

    place = "refcounts:ReferenceCounts.store"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Two at most."""
        counts, layer_id, count = args
        return original(counts, layer_id, min(count, 2), **kwargs)


class KeepsTheNoteOfACount(Patched):
    """The note that a mount has several users stays when there is one left, so that the mount stays too."""

    place = "refcounts:ReferenceCounts.forget"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nothing."""
        del original, args, kwargs


class LeaksTheCountOfAFailure(Books):
    """A get is counted before it mounts, and a mount that fails does not take that back."""

    def get(self, layer_id: str, *label: str) -> str:
        """Count first."""
        try:
            return super().get(layer_id, *label)
        except Exception:
            self.failed = {*getattr(self, "failed", ()), layer_id}
            raise

    def put(self, layer_id: str) -> None:
        """One less than it should be."""
        if layer_id in getattr(self, "failed", ()):
            self.failed.discard(layer_id)
            return
        super().put(layer_id)


class OwesPutsAfterRestart(Books):
    """A put too many of a layer that was there when the home was opened makes the next get count for nothing."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.found = set(os.listdir(home)) if os.path.isdir(home) else set()

    def get(self, layer_id: str, *label: str) -> str:
        """Pay first what is owed."""
        if layer_id in self.held and os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] += 1
            return self.tree(layer_id)
        return super().get(layer_id, *label)

    def put(self, layer_id: str) -> None:
        """Below zero, for what was found."""
        if layer_id in self.found and not self.held.get(layer_id) and not os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] = -1
            return
        super().put(layer_id)


class TakesALeftMountForNone(Patched):
    """A mount that an earlier process left is not counted, and mounted over."""

    place = "refcounts:ReferenceCounts.count"
    also = "refcounts:ReferenceCounts.store"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """None, until this process has mounted it."""
        counts, layer_id, target = args
        return original(counts, layer_id, target, **kwargs) if (id(counts), layer_id) in _SEEN else 0

    @staticmethod
    def wrong_too(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Now it has."""
        counts, layer_id, count = args
        _SEEN.add((id(counts), layer_id))
        _ALIVE.append(counts)  # so that no other object gets its id
        return original(counts, layer_id, count, **kwargs)


_SEEN: Final[set[tuple[int, str]]] = set()
_ALIVE: Final[list[Any]] = []


class CountsOneAfterRestart(Patched):
    """However many users a mount had before the driver was opened again, it has one."""

    place = "refcounts:ReferenceCounts.count"
    also = "refcounts:ReferenceCounts.store"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One at most, until this process has counted."""
        counts, layer_id, target = args
        count = original(counts, layer_id, target, **kwargs)
        return count if (id(counts), layer_id) in _SEEN else min(count, 1)

    wrong_too = TakesALeftMountForNone.wrong_too


class CountsInMemory(Books):
    """Users are counted by each opening of the home for itself; one that is mounted already counts as one."""

    def get(self, layer_id: str, *label: str) -> str:
        """What is mounted by others has one user."""
        if layer_id not in self.held and os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] = 2
            return self.tree(layer_id)
        return super().get(layer_id, *label)


class BelievesSeveralUsers(Books):
    """That a mount was undone from outside is noticed for its first user, and not for the second."""

    def get(self, layer_id: str, *label: str) -> str:
        """Look again, while there is one user."""
        if self.held.get(layer_id, 0) == 1 and not os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] = 0
        return super().get(layer_id, *label)


class CountsSurviveRemove(Books):
    """The count of a layer that was removed while it was mounted is that of the next one under its id."""

    def remove(self, layer_id: str) -> None:
        """The layer, and not its count."""
        self.inner.remove(layer_id)


class CountsByIdInAllHomes(Books):
    """Users are counted by the id of a layer, whichever home it is in."""

    everywhere: dict[str, int] = {}  # noqa: RUF012 - of all homes that are open, which is the mutation
    homes: set[str] = set()  # noqa: RUF012

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.held = self.everywhere
        self.homes.add(home)

    def close(self) -> None:
        """The last one that is open forgets, so that tests have nothing of those before."""
        self.inner.close()
        self.homes.discard(self.home)
        if not self.homes:
            self.everywhere.clear()


class SecondMountReadsOnly(Patched):
    """The second mount of a layer in the life of a process can only be read."""

    place = "layermounts:LayerMounts._mount"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if what was mounted once were an image."""
        original(*args, **kwargs)
        mounts, layer = args[0], args[1]
        if (id(mounts), layer.layer_id) in _SEEN:
            subprocess.run(["mount", "-o", "remount,bind,ro", layer.merged], check=True)
        _SEEN.add((id(mounts), layer.layer_id))
        _ALIVE.append(mounts)


class FindsMountsByTheirLowers(Books):
    """What is mounted is found again by its lowers, so a sibling of a mounted layer gets that one's tree."""

    def get(self, layer_id: str, *label: str) -> str:
        """The mount with the same lowers."""
        mine = self._lowers(layer_id)
        for other in self.held if mine else ():
            if other != layer_id and self._lowers(other) == mine:
                return self.tree(other)
        return super().get(layer_id, *label)

    def _lowers(self, layer_id: str) -> str:
        path = f"{self.home}/{layer_id}/lower"
        if not os.path.exists(path):
            return ""
        with open(path, encoding="ascii") as file:
            return file.read()


class UnmountsAtOpening(Patched):
    """What is mounted in a home is taken for the remains of a crash when it is opened, and unmounted."""

    place = "home:Home.make_private"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Tidy first."""
        for name in sorted(os.listdir(args[0].path)):
            if os.path.ismount(f"{args[0].path}/{name}/merged"):
                subprocess.run(["umount", "--lazy", f"{args[0].path}/{name}/merged"], check=True)
        return original(*args, **kwargs)


class HidesBusyMounts(Patched):
    """A mount in which a file is open cannot be undone, and nobody hears of it."""

    place = "linux.libc:umount"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Not lazily, and without a word."""
        target, flags = (*args, 0)[:2]
        try:
            return original(target, flags & ~2, **kwargs)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise


class ForgetsTheHomesMountAfterReopen(Patched):
    """The home's own mount is undone by the opening that made it, and by no later one."""

    place = "home:Home.make_private"
    also = "home:Home.unmount"
    made: set[str] = set()  # noqa: RUF012 - of all openings

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Note whether this opening made it."""
        made = original(*args, **kwargs)
        (ForgetsTheHomesMountAfterReopen.made.add if made else ForgetsTheHomesMountAfterReopen.made.discard)(
            args[0].path
        )
        return made

    @staticmethod
    def wrong_too(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Undo what is one's own."""
        if args[0].path in ForgetsTheHomesMountAfterReopen.made:
            original(*args, **kwargs)


FAULTS: Final = (
    Fault(CountsToTwo, ("OVL-MOUNT-ONCE",), "boundary: a third user of a mount; moby/moby#3073"),
    Fault(KeepsTheNoteOfACount, ("OVL-MOUNT-LAST-PUT",), "moby/moby#34948"),
    Fault(
        LeaksTheCountOfAFailure,
        ("OVL-MOUNT-LABEL-REFUSED",),
        "behaviour#failed-mount",
        hard=True,
    ),
    Fault(
        OwesPutsAfterRestart,
        ("OVL-MOUNT-EXTRA-PUT",),
        "behaviour#extra-put: after a restart; projectatomic/docker#330",
        hard=True,
    ),
    Fault(
        TakesALeftMountForNone,
        ("OVL-MOUNT-LEFT-OVER",),
        "behaviour#left-mounts",
        hard=True,
    ),
    Fault(
        CountsOneAfterRestart,
        ("OVL-MOUNT-LEFT-OVER",),
        "behaviour#left-mounts; boundary: two users before a restart",
        hard=True,
    ),
    Fault(UnmountsAtOpening, ("OVL-MOUNT-LEFT-OVER",), "moby/moby#42832"),
    Fault(
        CountsInMemory,
        ("OVL-PARALLEL-PROCESSES",),
        "behaviour#left-mounts",
        hard=True,
    ),
    Fault(BelievesSeveralUsers, ("OVL-MOUNT-LOST",), "containers/storage#496; containers/storage#624", hard=True),
    Fault(CountsSurviveRemove, ("OVL-LIFE-REUSE-ID",), "moby/moby#32461", hard=True),
    Fault(
        CountsByIdInAllHomes,
        ("OVL-LIFE-TWO-STORES",),
        "behaviour#answers-per-home: counts of mounts",
        hard=True,
    ),
    Fault(SecondMountReadsOnly, ("OVL-MOUNT-AGAIN",), "derived: on the second call rather than the first"),
    Fault(FindsMountsByTheirLowers, ("OVL-MOUNT-TOGETHER",), "derived: a cache with too short a key", hard=True),
    Fault(HidesBusyMounts, ("OVL-MOUNT-LAST-PUT",), "containers/storage@da0df59a0", hard=True),
    Fault(
        ForgetsTheHomesMountAfterReopen,
        ("OVL-LIFE-NO-LEAKS",),
        "behaviour#private-home: after a restart; containers/storage@da0df59a0",
        hard=True,
    ),
)
