"""Mutants of names that share an inode, of what an entry replaces, and of the sizes of both."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from typing import IO

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import lowers_of


@mutant(breaks=("OVL-APPLY-LOWER-LINKS",), source="containerd/containerd@51b8e468e", hard=True)
class DiffCopiesLinksToLowerFiles(Faithful):
    """A link to a name that the layers below have is written as a file of its own: one inode, two layers."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Give the second name the content of the first."""
        with self.inner.diff(layer_id, parent) as stream:
            source = tarfile.open(fileobj=io.BytesIO(stream.read()))  # noqa: SIM115 - of memory
        lowers, target = lowers_of(self, layer_id), io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member in source.getmembers():
                content = source.extractfile(member) if member.isreg() else None
                if member.islnk() and any(os.path.isfile(f"{lower}/{member.linkname}") for lower in lowers):
                    first = source.getmember(member.linkname)
                    content = source.extractfile(first)
                    member.type, member.linkname, member.size = tarfile.REGTYPE, "", first.size
                tar.addfile(member, content)
        target.seek(0)
        return target


@mutant(breaks=("OVL-SIZE-APPLIED",), source="moby/moby#28264")
class ApplySizeCountsFilesOnly(Faithful):
    """What applying an archive says is the sum of its regular files; the size of a diff counts symlinks too."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Add up."""
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            size = sum(member.size for member in tar.getmembers() if member.isreg())
        archive.seek(0)
        self.inner.apply_diff(layer_id, parent, archive)
        return size


@mutant(breaks=("OVL-SIZE-APPLIED",), source="moby/moby#28264: of links", hard=True)
class ApplySizeCountsEveryName(Faithful):
    """What applying an archive says counts a file again for each further name of it."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Add up."""
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            further = sum(tar.getmember(member.linkname).size for member in _links(tar))
        archive.seek(0)
        return int(self.inner.apply_diff(layer_id, parent, archive)) + further


def _links(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in tar.getmembers() if member.islnk())
