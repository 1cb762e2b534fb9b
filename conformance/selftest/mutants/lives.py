"""Mutants of the life cycle of layers, and of chains of the maximum length."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-LIFE-EXISTING-ID",), source="moby/moby#23535: a failed create cleans up what was there")
class RefusedCreateUnlinksExisting(Faithful):
    """A create that is refused cleans up, and takes the short link of the layer that has the id already."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """And clean up."""
        try:
            self.inner.create(layer_id, parent)
        except Exception:
            _unlink_short(self.home, layer_id)
            raise


def _unlink_short(home: str, layer_id: str) -> None:
    link = Path(home, layer_id, "link")
    if layer_id and link.is_file():
        Path(home, "l", link.read_text()).unlink(missing_ok=True)


@mutant(breaks=("OVL-LIFE-REMOVE",), source="moby/moby#23535: after a restart", hard=True)
class RemoveLeavesShortLinkAfterReopen(Faithful):
    """A layer that was made before the home was opened again is removed without its short link."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Remember."""
        self.inner.create(layer_id, parent)
        self.__dict__.setdefault("made", set()).add(layer_id)

    def remove(self, layer_id: str) -> None:
        """What is remembered has a link."""
        link = Path(self.home, layer_id, "link")
        name = link.read_text() if layer_id and link.exists() else ""
        self.inner.remove(layer_id)
        if name and layer_id not in self.__dict__.setdefault("made", set()):
            os.symlink(f"../{layer_id}/diff", f"{self.home}/l/{name}")


@mutant(breaks=("OVL-LIFE-REMOVE-MISSING",), source="derived: ids by their beginning", hard=True)
class RemoveMatchesPrefix(Faithful):
    """An id that is not there is taken for the beginning of one that is."""

    def remove(self, layer_id: str) -> None:
        """The last that begins so, if nothing is built on it."""
        if layer_id and not self.inner.exists(layer_id):
            found = [path.parent.name for path in Path(self.home).glob(f"{layer_id}*/link")]
            layer_id = max(found, default=layer_id)
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-LIFE-REMOVE-MOUNTED",), source="moby/moby#34652: the order of two calls", hard=True)
class RefusedRemoveUnlinksShortLink(Faithful):
    """The removal of a mounted layer is refused when its short link and its 'link' are removed already."""

    def remove(self, layer_id: str) -> None:
        """The links first, then the question."""
        if layer_id and os.path.ismount(f"{self.home}/{layer_id}/merged"):
            _unlink_short(self.home, layer_id)
            Path(self.home, layer_id, "link").unlink(missing_ok=True)
            raise ValueError(f"layer {layer_id} is mounted")
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-LIFE-BUSY-PARENT",), source="behaviour#create: create looks at no mount", hard=True)
class CreateUnmountsParent(Faithful):
    """A parent that is mounted is unmounted when a child is made, whoever uses it."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """So that nothing of it changes any more."""
        if parent and os.path.ismount(f"{self.home}/{parent}/merged"):
            self.inner.put(parent)
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-LIFE-REOPEN",), source="containers/storage#1132", hard=True)
class ReopenPrunesShortLinks(Faithful):
    """Opening a home removes short links that no 'lower' names, and the 'link' files that name them."""

    def __init__(self, home: str, **asked: Any) -> None:
        named = {entry for file in Path(home).glob("*/lower") for entry in file.read_text().split(":")}
        for link in Path(home, "l").glob("*"):
            if f"l/{link.name}" not in named:
                (link.resolve().parent / "link").unlink(missing_ok=True)
                link.unlink()
        super().__init__(home, **asked)


@mutant(breaks=("OVL-LIFE-HISTORY",), source="derived: on the second call rather than the first", hard=True)
class DiffIsCached(Faithful):
    """The archive of a layer is kept, and given again after the layer was changed."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """From memory, until the home is opened again."""
        kept = self.__dict__.setdefault("kept", {})
        key = (layer_id, parent, os.lstat(f"{self.home}/{layer_id}").st_ino)
        if key not in kept:
            with self.inner.diff(layer_id, parent) as stream:
                kept[key] = stream.read()
        return io.BytesIO(kept[key])


@mutant(breaks=("OVL-LIFE-NO-DESCRIPTORS",), source="moby/moby#23686", hard=True)
class ClosedDiffLeaksDescriptors(Faithful):
    """A diff that is closed before its end keeps what it read from open."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Look whether the end was reached."""
        inner = self.inner.diff(layer_id, parent)
        original_close, driver = inner.close, self

        def close() -> None:
            if not inner.closed and inner.read(1):
                driver.__dict__.setdefault("open", []).append(os.open(f"{driver.home}/l", os.O_RDONLY))
            original_close()

        inner.close = close
        return inner


@mutant(
    breaks=("OVL-LIFE-AFTER-REFUSAL",),
    source="containerd/containerd@ad9eca1dc: an error path keeps its lock",
    hard=True,
)
class FailedCreateKeepsIdClaimed(Faithful):
    """An id is claimed while a layer is made, and stays claimed when that fails."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Claim, make, let go."""
        claimed = self.__dict__.setdefault("claimed", set())
        if layer_id in claimed:
            raise ValueError(f"layer {layer_id} is being made by another caller")
        claimed.add(layer_id)
        self.inner.create(layer_id, parent)
        claimed.discard(layer_id)


@mutant(breaks=("OVL-LIFE-AFTER-REFUSAL",), source="containerd/containerd@ad9eca1dc", hard=True)
class RefusedRemoveKeepsLock(Faithful):
    """A layer is locked to be removed, and stays locked when that is refused."""

    def remove(self, layer_id: str) -> None:
        """Lock, remove, let go."""
        locked = self.__dict__.setdefault("locked", set())
        if layer_id in locked:
            raise ValueError(f"layer {layer_id} is locked")
        locked.add(layer_id)
        self.inner.remove(layer_id)
        locked.discard(layer_id)


@mutant(breaks=("OVL-CHAIN-128",), source="boundary: 127 lowers, on a chain after a restart", hard=True)
class ChainLimitIs127AfterReopen(Faithful):
    """On a layer that was there when the home was opened, the longest chain is one lower too short."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.found = set(os.listdir(home))

    def create(self, layer_id: str, parent: str = "") -> None:
        """Refuse what would have 128 lowers, then."""
        lower = Path(self.home, parent, "lower")
        if parent in self.found and lower.is_file() and lower.read_text().count(":") + 2 > 127:
            raise ValueError("max depth exceeded")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-CHAIN-TOP-AGAIN",), source="boundary: 128 lowers, the second time", hard=True)
class DeepestParentStaysClosed(Faithful):
    """A layer on which the longest chain ended once takes no other, though that one was removed."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Once only."""
        full = self.__dict__.setdefault("full", set())
        if parent in full:
            raise ValueError("max depth exceeded")
        self.inner.create(layer_id, parent)
        lower = Path(self.home, layer_id, "lower")
        if lower.exists() and lower.read_text().count(":") == 127:
            full.add(parent)


@mutant(breaks=("OVL-CHAIN-DIFF-DEEP",), source="boundary: 128 lowers", hard=True)
class DiffOfDeepestIsWhole(Faithful):
    """The diff of a layer on exactly 128 lowers is its whole tree."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """As if there were no parent."""
        lower = Path(self.home, layer_id, "lower")
        deepest = lower.exists() and lower.read_text().count(":") == 127
        return self.inner.diff(layer_id, "" if deepest else parent)
