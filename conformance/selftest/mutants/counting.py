"""Mutants of the count of a mount's users: too many, too few, in another process, after a failure."""

from __future__ import annotations

import os
from typing import Any

from conformance.selftest.mutants.basis import CountingWrapper
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-MOUNT-LABEL-REFUSED",), source="behaviour#failed-mount", hard=True)
class FailedGetIsCounted(CountingWrapper):
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


@mutant(
    breaks=("OVL-MOUNT-EXTRA-PUT",),
    source="behaviour#extra-put: after a restart; projectatomic/docker#330",
    hard=True,
)
class ExtraPutIsOwedAfterReopen(CountingWrapper):
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


@mutant(breaks=("OVL-PARALLEL-PROCESSES",), source="behaviour#left-mounts", hard=True)
class CountsAreInMemory(CountingWrapper):
    """Users are counted by each opening of the home for itself; one that is mounted already counts as one."""

    def get(self, layer_id: str, *label: str) -> str:
        """What is mounted by others has one user."""
        if layer_id not in self.held and os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] = 2
            return self.tree(layer_id)
        return super().get(layer_id, *label)


@mutant(breaks=("OVL-MOUNT-LOST",), source="containers/storage#496; containers/storage#624", hard=True)
class LostMountIsMissedForSecondUser(CountingWrapper):
    """That a mount was undone from outside is noticed for its first user, and not for the second."""

    def get(self, layer_id: str, *label: str) -> str:
        """Look again, while there is one user."""
        if self.held.get(layer_id, 0) == 1 and not os.path.ismount(self.tree(layer_id)):
            self.held[layer_id] = 0
        return super().get(layer_id, *label)


@mutant(breaks=("OVL-LIFE-REUSE-ID",), source="moby/moby#32461", hard=True)
class RemoveKeepsCount(CountingWrapper):
    """The count of a layer that was removed while it was mounted is that of the next one under its id."""

    def remove(self, layer_id: str) -> None:
        """The layer, and not its count."""
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-LIFE-TWO-STORES",), source="behaviour#answers-per-home: counts of mounts", hard=True)
class CountsAreSharedByStores(CountingWrapper):
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


@mutant(breaks=("OVL-MOUNT-TOGETHER",), source="derived: a cache with too short a key", hard=True)
class SiblingsShareMount(CountingWrapper):
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
