"""Mutants of what the suite once missed, or blamed on another requirement, in drivers that nobody here wrote."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import IO, Any

from conformance.selftest.mutants.basis import CountingWrapper, Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import lowers_of, rewritten


@mutant(
    breaks=("OVL-MOUNT-EXTRA-PUT",), source="behaviour#extra-put; field-bugs#kernel-log; projectatomic/docker#330"
)
class ExtraPutMountsTwice(CountingWrapper):
    """A put too many is owed a mount: the second get after it mounts the layer again, over the first mount."""

    def put(self, layer_id: str) -> None:
        """Below zero."""
        if not self.held.get(layer_id):
            self.owed = {*getattr(self, "owed", ()), layer_id}
            return
        if self.held[layer_id] == 1 and layer_id in getattr(self, "over", ()):
            self.over.discard(layer_id)
            _unmount(self.tree(layer_id))
        super().put(layer_id)

    def get(self, layer_id: str, *label: str) -> str:
        """Pay with a mount."""
        path = super().get(layer_id, *label)
        if self.held[layer_id] == 2 and layer_id in getattr(self, "owed", ()):
            self.owed.discard(layer_id)
            self.over = {*getattr(self, "over", ()), layer_id}
            _mount_over(self, layer_id)
        return path


@mutant(
    breaks=("OVL-MOUNT-ONCE",),
    source="behaviour#reference-counts: mounts that lie over one another; moby/moby#3073",
)
class ThirdGetMountsAgain(CountingWrapper):
    """The third get of a layer mounts it again, over the first mount."""

    def get(self, layer_id: str, *label: str) -> str:
        """Two users share a mount."""
        path = super().get(layer_id, *label)
        if self.held[layer_id] == 3:
            _mount_over(self, layer_id)
        return path

    def put(self, layer_id: str) -> None:
        """The third user's mount goes with the third user."""
        if self.held.get(layer_id) == 3:
            _unmount(self.tree(layer_id))
        super().put(layer_id)


@mutant(breaks=("OVL-MOUNT-UPPER-ONCE",), source="overlayfs.rst: what two mounts of one upper do is undefined")
class GetMountsOverMountWithChild(CountingWrapper):
    """A layer that is got again while a layer on it is mounted is mounted again, over the first mount."""

    def get(self, layer_id: str, *label: str) -> str:
        """Look at the children."""
        again = self.held.get(layer_id) == 1
        path = super().get(layer_id, *label)
        lowers = {
            os.path.basename(os.path.dirname(one)) for held in self.held if held for one in lowers_of(self, held)
        }
        if again and layer_id in lowers:
            _mount_over(self, layer_id)
            self.over = {*getattr(self, "over", ()), layer_id}
        return path

    def put(self, layer_id: str) -> None:
        """Both mounts go in the end."""
        if self.held.get(layer_id) == 1 and layer_id in getattr(self, "over", ()):
            self.over.discard(layer_id)
            _unmount(self.tree(layer_id))
        super().put(layer_id)


def _mount_over(driver: CountingWrapper, layer_id: str) -> None:
    said = driver.inner.metadata(layer_id)
    if said.get("LowerDir"):
        data = f"lowerdir={said['LowerDir']},upperdir={said['UpperDir']},workdir={said['WorkDir']}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", data, driver.tree(layer_id)], check=True)


def _unmount(path: str) -> None:
    if os.path.ismount(path):
        subprocess.run(["umount", "--lazy", path], check=True)


@mutant(breaks=("OVL-RESTART-LOWER-CUT",), source="behaviour#lower-layers")
class LowersAreReadById(Faithful):
    """A layer's lowers are read from 'lower-layers', its ids, and one that is not there is left out."""

    def create(self, layer_id: str, parent: str = "", *options: Any) -> None:
        """Write both files, as containers-storage 1.64 does."""
        self.inner.create(layer_id, parent, *options)
        if parent:
            above = Path(self.home, parent, "lower-layers")
            ids = [parent, *(above.read_text().split(":") if above.exists() else [])]
            Path(self.home, layer_id, "lower-layers").write_text(":".join(ids))

    def get(self, layer_id: str, *label: str) -> str:
        """The file 'lower' is made from the other one each time."""
        ids = Path(self.home, layer_id, "lower-layers")
        if ids.exists():
            there = [one for one in ids.read_text().split(":") if one and Path(self.home, one, "link").exists()]
            if there:
                # The correct driver compares the two files, so both are made to say less.
                ids.write_text(":".join(there))
                links = [f"l/{Path(self.home, one, 'link').read_text()}" for one in there]
                Path(self.home, layer_id, "lower").write_text(":".join(links))
        return str(self.inner.get(layer_id, *label))


@mutant(
    breaks=("OVL-QUOTA-OF-IMAGES",), source="behaviour#layer-options: Create of the Go driver looks for 'size' only"
)
class SizeOfImageIsIgnoredInCapitals(Faithful):
    """The size of a layer of an image is refused when its key is 'size', and left out when it is 'SIZE'."""

    def create(self, layer_id: str, parent: str = "", options: Any = None) -> None:
        """Compare the keys as they are."""
        if options and "size" in options:
            raise ValueError("a size is only for read-write layers")
        self.inner.create(layer_id, parent)


@mutant(
    breaks=("OVL-QUOTA-OPTION-CASE",),
    source="behaviour#layer-options: keys in any case",
    backing="xfs",
    needs="xfs-quota",
)
class SizeOfLayerIsCaseSensitive(Faithful):
    """The size of a layer is left out unless its key is 'size'."""

    def create_read_write(self, layer_id: str, parent: str = "", options: Any = None) -> None:
        """Compare the keys as they are."""
        kept = {key: value for key, value in (options or {}).items() if key == "size"}
        self.inner.create_read_write(layer_id, parent, kept)


@mutant(breaks=("OVL-LIFE-REMOVE",), source="moby/moby#23535: a directory for each removal, and not one for all")
class RemoveLeavesEmptyDirectory(Faithful):
    """An empty directory stays for each layer that was removed."""

    def remove(self, layer_id: str) -> None:
        """With its name."""
        there = self.inner.exists(layer_id)
        self.inner.remove(layer_id)
        if there:
            os.makedirs(f"{self.home}/removed-{layer_id}", exist_ok=True)


@mutant(breaks=("OVL-APPLY-NO-END",), source="POSIX/utilities/pax: an archive without its end; quay/claircore#683")
class ApplyDropsLastEntryWithoutEnd(Faithful):
    """Of an archive without an end all but the last entry are applied."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """The last may not be whole."""
        data = archive.read()
        if data and not data.endswith(bytes(1024)):
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                last = tar.getmembers()[-1].name
            data = rewritten(io.BytesIO(data), lambda one: [one] if one.name != last else []).read()
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data)))


@mutant(
    breaks=("OVL-APPLY-TWICE",),
    source="behaviour#laws: applying twice; mknod(2): EEXIST of a whiteout that is there",
)
class ApplyRefusesRepeatedDeletion(Faithful):
    """A deletion that the layer holds already makes an archive fail."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """As mknod(2) does."""
        data = archive.read()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = [name for name in tar.getnames() if "/.wh." in f"/{name}" and not name.endswith(".wh..wh..opq")]
        for name in names:
            directory, _, last = name.rpartition("/")
            path = f"{self.home}/{layer_id}/diff/{directory}/{last.removeprefix('.wh.')}"
            if os.path.lexists(path) and stat.S_ISCHR(os.lstat(path).st_mode):
                raise FileExistsError(errno.EEXIST, "file exists", name)
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data)))


@mutant(breaks=("OVL-HOSTILE-DIFF-READ",), source="CVE-2024-1753; field-bugs#changes-follows-links")
class DiffFollowsLowerSymlinksToHost(Faithful):
    """Whether something was there before is asked of the lowers by whole paths, which lead over their symlinks."""

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """What is new and is there in that way is modified."""
        found = list(self.inner.changes(layer_id, parent))
        lowers = lowers_of(self, layer_id)
        for number, change in enumerate(found):
            kinds = type(change.kind)
            there = any(os.path.exists(os.fsencode(lower) + change.path) for lower in lowers)
            if change.kind is kinds.ADD and there:
                found[number] = type(change)(change.path, kinds.MODIFY)
        return found
