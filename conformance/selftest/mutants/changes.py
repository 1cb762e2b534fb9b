"""Mutants of changes and sizes."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


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


@mutant(breaks=("OVL-SIZE-HOLES",), source="boundary: 32 bits of a length")
class DiffSizeHas32Bits(Faithful):
    """A size is a number of 32 bits."""

    def diff_size(self, layer_id: str, parent: str = "") -> int:
        """Cut it."""
        return int(self.inner.diff_size(layer_id, parent)) & 0xFFFF_FFFF
