"""Mutants of the life cycle of layers and of chains."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tarfile
import threading
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import CountingWrapper, Faithful
from conformance.selftest.mutants.mutant import mutant


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


@mutant(breaks=("OVL-LIFE-REMOVE",), source="moby/moby#23535: a directory for each removal, and not one for all")
class RemoveLeavesEmptyDirectory(Faithful):
    """An empty directory stays for each layer that was removed."""

    def remove(self, layer_id: str) -> None:
        """With its name."""
        there = self.inner.exists(layer_id)
        self.inner.remove(layer_id)
        if there:
            os.makedirs(f"{self.home}/removed-{layer_id}", exist_ok=True)


@mutant(
    breaks=("OVL-LIFE-NO-DESCRIPTORS", "OVL-DIFF-SOCKETS", "OVL-DIFF-UNTOUCHED", "OVL-HOSTILE-DIFF-READ"),
    source="moby/moby#23686",
)
class DiffLeaksDescriptors(Faithful):
    """Every diff leaves a descriptor open and a file touched; a socket makes it fail; symlinks are followed."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Walk the upper as a beginner would."""
        self.__dict__.setdefault("open", []).append(open("/dev/null"))  # noqa: SIM115 - that is the mutation
        upper = Path(self.home, layer_id, "diff")
        for path in upper.rglob("*"):
            if stat.S_ISSOCK(path.lstat().st_mode):
                raise ValueError(f"cannot write the socket {path}")
            if path.is_file() and not path.is_symlink():
                path.chmod(path.lstat().st_mode ^ stat.S_IXOTH)
        if not any(path.is_symlink() and path.is_dir() for path in upper.rglob("*")):
            return self.inner.diff(layer_id, parent)
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", dereference=True) as tar, contextlib.chdir(upper):
            tar.add(".")
        return io.BytesIO(target.getvalue())


@mutant(breaks=("OVL-LIFE-REMOVE-MISSING",), source="behaviour#remove: a directory that is gone is no error")
class RemoveOfMissingRemovesAnother(Faithful):
    """Removing a layer that is not there removes another one."""

    def remove(self, layer_id: str) -> None:
        """The last one that is."""
        if not self.inner.exists(layer_id):
            others = sorted(path.parent.name for path in Path(self.home).glob("*/lower"))
            layer_id = others[-1] if others else layer_id
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-LIFE-TWO-STORES",), source="behaviour#answers-per-home")
class FirstHomeServesAll(Faithful):
    """The first home that is opened is taken for all."""

    first: list[Any] = []  # noqa: RUF012 - shared by all, which is the mutation

    def __init__(self, home: str, **asked: Any) -> None:
        if self.first and Path(self.first[0].home).exists():
            self.home, self.inner = home, self.first[0].inner
        else:
            super().__init__(home, **asked)
            self.first[:] = [self]


@mutant(breaks=("OVL-LIFE-REUSE-ID", "OVL-LIFE-REMOVE-MOUNTED"), source="moby/moby#32461")
class RemoveDoesNothing(Faithful):
    """A layer stays when it is removed; a mounted one is unmounted, and then refused."""

    def remove(self, layer_id: str) -> None:
        """Unmount, and complain."""
        if os.path.ismount(f"{self.home}/{layer_id}/merged"):
            self.inner.put(layer_id)
            raise ValueError("it was in use")


@mutant(breaks=("OVL-LIFE-BUSY-PARENT",), source="behaviour#create: create looks at no mount")
class CreateRefusesMountedParent(Faithful):
    """What is mounted is taken for no parent."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Refuse a parent that something is mounted on."""
        if parent and os.path.ismount(os.path.join(self.home, parent, "merged")):
            raise ValueError(f"layer {parent!r} is busy")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-LIFE-REMOVE",), source="moby/moby#23535")
class RemoveLeavesShortLink(Faithful):
    """A removed layer keeps its short link."""

    def remove(self, layer_id: str) -> None:
        """Put the short link back."""
        with open(os.path.join(self.home, layer_id, "link"), encoding="ascii") as file:
            link = os.path.join(self.home, "l", file.read())
        self.inner.remove(layer_id)
        os.symlink(f"../{layer_id}/diff", link)


@mutant(breaks=("OVL-LIFE-CREATE",), source="behaviour#missing-layers: Exists without its stat")
class ExistsIsAlwaysTrue(Faithful):
    """Every layer exists."""

    def exists(self, layer_id: str) -> bool:
        """Say so."""
        del layer_id
        return True


@mutant(breaks=("OVL-LIFE-UNKNOWN-PARENT",), source="behaviour#create: an unknown parent is an error")
class UnknownParentIsIgnored(Faithful):
    """An unknown parent is taken for none."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Create on nothing instead."""
        self.inner.create(layer_id, parent if not parent or self.inner.exists(parent) else "")


@mutant(breaks=("OVL-LIFE-EXISTING-ID",), source="behaviour#create: without the check of what is there")
class CreateOverwritesLayer(Faithful):
    """An id that is taken is taken again."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Remove what is there."""
        self.inner.remove(layer_id)
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-LIFE-REMOVE-PARENT",), source="behaviour#remove-parent")
class RemoveOrphansChildren(Faithful):
    """A layer under others can be removed."""

    def remove(self, layer_id: str) -> None:
        """Remove its tree, whoever needs it."""
        shutil.rmtree(os.path.join(self.home, layer_id))


@mutant(breaks=("OVL-LIFE-MISSING-LAYER",), source="behaviour#missing-layers: Get without its stat")
class GetCreatesMissingLayer(Faithful):
    """A layer that is not there has an empty tree."""

    def get(self, layer_id: str) -> str:
        """Make one."""
        if not self.inner.exists(layer_id):
            self.inner.create(layer_id)
        return str(self.inner.get(layer_id))


@mutant(breaks=("OVL-LIFE-REOPEN",), source="behaviour#opening-order: opening changes no layer")
class ReopenEmptiesBaseLayer(Faithful):
    """Opening a home again empties its base layer."""

    def __init__(self, home: str) -> None:
        base = os.path.join(home, "layer-0", "diff")
        for name in os.listdir(base) if os.path.isdir(base) else ():
            path = os.path.join(base, name)
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        super().__init__(home)


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


@mutant(breaks=("OVL-LIFE-MEMORY",), source="behaviour#streams")
class ApplyReadsWholeArchive(Faithful):
    """An archive is read into memory before its first entry is applied."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> Any:
        """At once."""
        return self.inner.apply_diff(layer_id, parent, io.BytesIO(archive.read()))


@mutant(breaks=("OVL-LIFE-MEMORY",), source="behaviour#streams", hard=True)
class DiffIsWrittenToMemory(Faithful):
    """A diff against another layer than the parent is complete in memory before its first byte is read."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """All of it."""
        inner = self.inner.diff(layer_id, parent)
        link, lower = (Path(self.home, *name) for name in ((parent, "link"), (layer_id, "lower")))
        if not parent or lower.read_text().startswith(f"l/{link.read_text().strip()}"):
            return inner
        with inner:
            return io.BytesIO(inner.read())


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


@mutant(breaks=("OVL-LIFE-NO-DESCRIPTORS",), source="moby/moby#23686: a goroutine for each diff", hard=True)
class DiffLeavesThreadRunning(Faithful):
    """A thread waits for each diff, for as long as the driver is open."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Start one."""
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return self.inner.diff(layer_id, parent)


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


@mutant(
    breaks=(
        "OVL-LIFE-BAD-ID",
        "OVL-QUOTA-UNKNOWN-OPTION",
        "OVL-PARALLEL-SAME-ID",
        "OVL-PARALLEL-LINEAR",
        "OVL-PARALLEL-PROCESSES",
    ),
    source="CVE-2014-9358",
)
class BadIdIsIgnored(Faithful):
    """Whatever an id is, it is said to be done."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Hide the refusal."""
        with contextlib.suppress(Exception):
            self.inner.create(layer_id, parent)

    def create_read_write(self, layer_id: str, parent: str = "", storage_options: Any = None) -> None:
        """Leave options out."""
        del storage_options
        self.inner.create(layer_id, parent)
