"""Mutants of crashes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant

_DISKS: Final = "device-mapper"


@mutant(breaks=("OVL-CRASH-POWER-APPLY",), source="containers/storage#1148", backing="xfs", hard=True, needs=_DISKS)
class ApplyCommitsTwice(Faithful):
    """An archive is applied in two halves, each of them safe for itself."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """The first half, and then all."""
        half = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="r:") as source, tarfile.open(fileobj=half, mode="w") as tar:
            members = source.getmembers()
            for member in members[: len(members) // 2]:
                tar.addfile(member, source.extractfile(member) if member.isreg() else None)
        half.seek(0)
        archive.seek(0)
        self.inner.apply_diff(layer_id, parent, half)
        return int(self.inner.apply_diff(layer_id, parent, archive))


@mutant(
    breaks=("OVL-CRASH-POWER-CREATE",),
    source="containers/storage#1136: the order of two calls",
    backing="ext4",
    hard=True,
    needs=_DISKS,
)
class CreateWritesLowersLate(Faithful):
    """A new layer is there before it has its lowers."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """On nothing first."""
        if parent:
            self.inner.create(layer_id)
            os.sync()
            self.inner.remove(layer_id)
        self.inner.create(layer_id, parent)


@mutant(
    breaks=("OVL-CRASH-POWER-REMOVE",), source="containers/storage#1136", backing="ext4", hard=True, needs=_DISKS
)
class RemoveDeletesInPlace(Faithful):
    """The files of a layer are removed one by one, and the layer after them."""

    def remove(self, layer_id: str) -> None:
        """The half of it, and the rest."""
        for path in sorted(Path(self.home, layer_id, "diff").glob("*/*"))[::2]:
            path.unlink()
        os.sync()
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-CRASH-LITTER",), source="moby/moby#23535", backing="ext4", hard=True, needs=_DISKS)
class RemoveUnlinksShortLinkLast(Faithful):
    """The short link of a layer is removed when the layer is gone."""

    def remove(self, layer_id: str) -> None:
        """Directory first."""
        link = Path(self.home, layer_id, "link")
        short = link.read_text() if link.exists() else ""
        if not short or not self.inner.exists(layer_id):
            self.inner.remove(layer_id)
            return
        shutil.rmtree(link.parent)
        os.sync()
        Path(self.home, "l", short).unlink()


@mutant(
    breaks=("OVL-CRASH-KEPT",),
    source="containers/podman#5986: a file cut short",
    backing="ext4",
    hard=True,
    needs=_DISKS,
)
class CreateRewritesListInPlace(Faithful):
    """There is a list of layers, which is written over in place; what is not in it is not there."""

    def _list(self) -> set[str]:
        try:
            return set(Path(self.home, ".list").read_text().split())
        except FileNotFoundError:
            return set()

    def _write(self, layers: set[str]) -> None:
        with open(f"{self.home}/.list", "w") as file:
            os.sync()  # which somebody may do at any moment, also when the file is empty
            file.write("".join(f"{one}\n" for one in sorted(layers)))

    def exists(self, layer_id: str) -> bool:
        """By the list."""
        return layer_id in self._list() and self.inner.exists(layer_id)

    def create(self, layer_id: str, parent: str = "") -> None:
        """Then list it."""
        self.inner.create(layer_id, parent)
        self._write(self._list() | {layer_id})

    def remove(self, layer_id: str) -> None:
        """Then do not list it."""
        self.inner.remove(layer_id)
        self._write(self._list() - {layer_id})


@mutant(breaks=("OVL-CRASH-AGAIN",), source="containers/storage#1136", backing="ext4", hard=True, needs=_DISKS)
class CrashLeavesPartialLayer(Faithful):
    """A directory that a cut left of a layer is no layer, and stands in its way."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Reserve the name before anything else."""
        mark = Path(self.home, f".{layer_id}.reserved")
        mark.touch(exist_ok=False)
        os.sync()
        self.inner.create(layer_id, parent)
        mark.unlink()


@mutant(
    breaks=("OVL-CRASH-WRITE-ERROR",),
    source="fsync(2): EIO, an errno that is ignored",
    backing="ext4",
    hard=True,
    needs=_DISKS,
)
class DriverIgnoresWriteErrors(Faithful):
    """What the disk says of its writes is not passed on."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Whatever the disk says."""
        with _swallowed():
            self.inner.create(layer_id, parent)

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Whatever the disk says."""
        with _swallowed():
            return int(self.inner.apply_diff(layer_id, parent, archive))
        return 0


class _swallowed(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as a function
    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        return isinstance(error, OSError) and error.errno in (errno.EIO, errno.EROFS)
