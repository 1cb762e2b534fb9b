"""Mutants of layers, mounts and what is said of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-CHAIN-128",), source="boundary: 128 lowers; moby/buildkit#3067")
class ChainLimitIs127(Faithful):
    """The longest chain is one lower too short."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Refuse what would have 128 lowers."""
        if (
            parent
            and "LowerDir" in (found := self.inner.metadata(parent))
            and found["LowerDir"].count(":") + 2 > 127
        ):
            raise ValueError("max depth exceeded")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-CHAIN-129-REFUSED",), source="moby/buildkit#3067")
class ChainIsCutBeyondLimit(Faithful):
    """A chain may be as long as it likes: beyond the limit, the layer is quietly put on the base."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Create on something else where the driver refuses."""
        try:
            self.inner.create(layer_id, parent)
        except Exception as error:
            if "depth" not in str(error):
                raise
            self.inner.create(layer_id, "")


@mutant(breaks=("OVL-LIFE-BUSY-PARENT",), source="behaviour#create: create looks at no mount")
class CreateRefusesMountedParent(Faithful):
    """What is mounted is taken for no parent."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Refuse a parent that something is mounted on."""
        if parent and os.path.ismount(os.path.join(self.home, parent, "merged")):
            raise ValueError(f"layer {parent!r} is busy")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-MOUNT-ONCE", "OVL-MOUNT-LEFT-OVER"), source="behaviour#reference-counts; moby/moby#3073")
class PutUnmountsEarly(Faithful):
    """The first put unmounts, however many gets there were."""

    def put(self, layer_id: str) -> None:
        """Put until nothing is left."""
        for _ in range(5):
            self.inner.put(layer_id)


@mutant(breaks=("OVL-MOUNT-LAST-PUT", "OVL-LIFE-NO-LEAKS"), source="moby/moby#34948")
class PutNeverUnmounts(Faithful):
    """A put does nothing."""

    def put(self, layer_id: str) -> None:
        """Keep the mount."""


@mutant(
    breaks=(
        "OVL-CHANGES-EXPLAIN",
        "OVL-CHANGES-OPAQUE",
        "OVL-CHANGES-ADDED-AGAIN",
        "OVL-CHANGES-SAME-SECOND",
        "OVL-CHANGES-SYMLINK",
        "OVL-CHANGES-METADATA",
        "OVL-CHANGES-ANCESTOR",
        "OVL-CHANGES-DIFF",
    ),
    source="behaviour#changes: an empty answer for an error that is swallowed",
)
class ChangesAreEmpty(Faithful):
    """Nothing ever changes."""

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """Say so."""
        del layer_id, parent
        return []


@mutant(breaks=("OVL-CHANGES-PARENTS",), source="moby/moby#13590")
class ChangesOmitModified(Faithful):
    """Only what was added or deleted is listed."""

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """Leave out what is modified."""
        return [change for change in self.inner.changes(layer_id, parent) if change.kind.name != "MODIFY"]


@mutant(
    breaks=("OVL-SIZE-DIFF", "OVL-SIZE-WHITEOUTS", "OVL-SIZE-HARD-LINKS", "OVL-SIZE-HOLES"),
    source="behaviour#sizes: whiteouts count 0",
)
class DiffSizeCountsWhiteouts(Faithful):
    """Each entry of a diff counts a byte."""

    def diff_size(self, layer_id: str, parent: str = "") -> int:
        """Count too much."""
        return int(self.inner.diff_size(layer_id, parent)) + len(self.inner.changes(layer_id, parent))


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


@mutant(breaks=("OVL-LIFE-METADATA", "OVL-STATUS-METADATA-LOWERS"), source="behaviour#metadata")
class MetadataIsEmpty(Faithful):
    """There is no metadata."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Nothing."""
        del layer_id
        return {}


@mutant(breaks=("OVL-MOUNT-EXTRA-PUT",), source="behaviour#extra-put; projectatomic/docker#330")
class ExtraPutIsOwed(Faithful):
    """A put too many makes the next get count for nothing."""

    def __init__(self, home: str) -> None:
        super().__init__(home)
        self._owed = 0

    def get(self, layer_id: str) -> str:
        """Get, and pay what is owed."""
        path = str(self.inner.get(layer_id))
        if self._owed and self.inner.metadata(layer_id).get("LowerDir"):
            self.inner.get(layer_id)
            for _ in range(self._owed + 1):
                self.inner.put(layer_id)
        return path

    def put(self, layer_id: str) -> None:
        """Put, and owe if nothing is mounted."""
        if "LowerDir" in self.inner.metadata(layer_id) and not os.path.ismount(
            self.inner.metadata(layer_id)["MergedDir"]
        ):
            self._owed = 1
        self.inner.put(layer_id)


@mutant(breaks=("OVL-MOUNT-PAGE-BOUNDARY",), source="behaviour#page-size; containers/storage#1158")
class PageOfOptionsIsRefused(Faithful):
    """Option data of exactly a page is handed to the kernel, which cuts its last byte off and refuses it."""

    def get(self, layer_id: str) -> str:
        """Fail at exactly a page."""
        try:
            with open(os.path.join(self.home, layer_id, "lower"), encoding="ascii") as file:
                lowers = file.read().split(":")
        except FileNotFoundError:
            return str(self.inner.get(layer_id))
        joined = ":".join(f"{self.home}/{lower}" for lower in lowers)
        place = f"{self.home}/{layer_id}"
        data = f"lowerdir={joined},upperdir={place}/diff,workdir={place}/work"
        if len(data) == os.sysconf("SC_PAGESIZE"):
            raise OSError(22, "Invalid argument")
        return str(self.inner.get(layer_id))


@mutant(breaks=("OVL-MOUNT-HOME-PRIVATE",), source="behaviour#private-home")
class MountIsShared(Faithful):
    """Layer mounts propagate to other namespaces."""

    def get(self, layer_id: str) -> str:
        """Mount, and share."""
        path = str(self.inner.get(layer_id))
        subprocess.run(["mount", "--make-shared", path], check=False, capture_output=True)
        return path


@mutant(
    breaks=("OVL-TREE-ERRNO", "OVL-TREE-NAMES-ONCE"),
    source="derived: mount(8), ro: writes fail with EROFS, whatever POSIX says of the operation",
)
class MountIsReadOnly(Faithful):
    """Nothing can be changed in a layer, whatever POSIX says."""

    def get(self, layer_id: str) -> str:
        """Mount, and take writing away."""
        path = str(self.inner.get(layer_id))
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=False, capture_output=True)
        return path


@mutant(
    breaks=("OVL-TREE-PARENT-UNTOUCHED", "OVL-LIFE-SIBLINGS", "OVL-CHAIN-ORDER"),
    source="overlayfs.rst: a lower layer is never written to",
)
class WritesReachBase(Faithful):
    """What is written in a layer is written in the base as well."""

    def put(self, layer_id: str) -> None:
        """Copy the layer's own files down."""
        base = os.path.join(self.home, "layer-0", "diff")
        own = os.path.join(self.home, layer_id, "diff")
        if layer_id != "layer-0" and os.path.isdir(base):
            for name in os.listdir(own):
                if os.path.isfile(os.path.join(own, name)) and not os.path.islink(os.path.join(own, name)):
                    shutil.copy2(os.path.join(own, name), os.path.join(base, "below-" + name))
        self.inner.put(layer_id)


@mutant(
    breaks=("OVL-TREE-MODEL", "OVL-TREE-COPY-UP-RIGHTS"),
    source="containers/fuse-overlayfs@v0.6: on the way to disk",
)
class PutClearsSpecialBits(Faithful):
    """Setuid, setgid and sticky bits do not survive a put."""

    def put(self, layer_id: str) -> None:
        """Clear them."""
        root = os.path.join(self.home, layer_id, "diff")
        for directory, below, files in os.walk(root):
            for name in (*below, *files):
                path = os.path.join(directory, name)
                if not os.path.islink(path):
                    os.chmod(path, os.lstat(path).st_mode & 0o777)
        self.inner.put(layer_id)


@mutant(breaks=("OVL-WHITEOUT-HIDES",), source="moby/buildkit#2614")
class CreateResurrectsDeleted(Faithful):
    """A deletion holds only until the layer gets a child."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Take the parent's whiteouts away."""
        if parent:
            for directory, _, files in os.walk(os.path.join(self.home, parent, "diff")):
                for name in files:
                    path = os.path.join(directory, name)
                    if os.lstat(path).st_rdev == 0 and os.lstat(path).st_mode & 0o170000 == 0o020000:
                        os.unlink(path)
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939")
class HomeWithColonIsRefused(Faithful):
    """A colon in the path of the home ends it."""

    def get(self, layer_id: str) -> str:
        """Refuse such homes."""
        if ":" in self.home:
            raise OSError(22, "Invalid argument")
        return str(self.inner.get(layer_id))
