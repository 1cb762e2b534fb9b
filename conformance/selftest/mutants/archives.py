"""Mutants of diff and apply."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from typing import IO, Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import filtered


@mutant(breaks=("OVL-APPLY-ROUND-TRIP",), source="moby/moby@bd13c53f8d: on the way in")
class ApplyOmitsDeletions(Faithful):
    """Deletions never reach the layer that an archive is applied to."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive without its whiteouts."""
        kept = filtered(archive, lambda member: None if "/.wh." in f"/{member.name}" else member)
        return int(self.inner.apply_diff(layer_id, parent, kept))


@mutant(breaks=("OVL-OPAQUE-PRESERVED", "OVL-OPAQUE-DEEP", "OVL-OPAQUE-NOT-INHERITED"), source="moby/moby#25244")
class ApplyOmitsOpaque(Faithful):
    """Opaque whiteouts never reach the layer that an archive is applied to."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive without its opaque whiteouts."""
        kept = filtered(archive, lambda member: None if member.name.endswith(".wh..wh..opq") else member)
        return int(self.inner.apply_diff(layer_id, parent, kept))


@mutant(breaks=("OVL-APPLY-FILE-TIMES",), source="containers/storage@15e07f827")
class ApplyRoundsTimesToMinutes(Faithful):
    """Modification times are rounded to a whole minute, the one before where they are whole already."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive with other times."""

        def rounded(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime = (int(member.mtime) - 1) // 60 * 60
            member.pax_headers = {key: value for key, value in member.pax_headers.items() if key != "mtime"}
            return member

        return int(self.inner.apply_diff(layer_id, parent, filtered(archive, rounded)))


@mutant(breaks=("OVL-APPLY-HARD-LINKS", "OVL-APPLY-LOWER-LINKS"), source="containers/storage@8aad48ae2")
class ApplyCopiesHardLinks(Faithful):
    """Hard links arrive as files of their own."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive, and part the links."""
        size = int(self.inner.apply_diff(layer_id, parent, archive))
        for root, _, files in os.walk(os.path.join(self.home, layer_id, "diff")):
            for name in files:
                path = os.path.join(root, name)
                if os.path.isfile(path) and not os.path.islink(path) and os.stat(path).st_nlink > 1:
                    shutil.copy2(path, path + ".parted")
                    os.chown(path + ".parted", os.stat(path).st_uid, os.stat(path).st_gid)
                    os.rename(path + ".parted", path)
        return size


@mutant(breaks=("OVL-APPLY-TRUNCATED",), source="CVE-2021-20291")
class ApplyAcceptsTruncatedArchive(Faithful):
    """An archive that is cut off is applied as far as it goes."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply what there is."""
        try:
            kept = filtered(archive, lambda member: member)
        except tarfile.TarError:
            return 0
        return int(self.inner.apply_diff(layer_id, parent, kept))


@mutant(breaks=("OVL-DIFF-DETERMINISTIC",), source="behaviour#deterministic")
class DiffShufflesEntries(Faithful):
    """The entries of a diff come in another order each time."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Append a comment that is never the same."""
        with self.inner.diff(layer_id, parent) as stream:
            return io.BytesIO(stream.read() + os.urandom(512))


@mutant(
    breaks=(
        "OVL-WHITEOUT-IN-DIFF",
        "OVL-WHITEOUT-SYMLINK",
        "OVL-WHITEOUT-OWN-DIRECTORY",
        "OVL-WHITEOUT-MANY",
        "OVL-WHITEOUT-REPLACED",
    ),
    source="moby/moby@bd13c53f8d",
)
class DiffOmitsDeletions(Faithful):
    """Diffs hold no deletions."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """The diff without its whiteouts."""
        with self.inner.diff(layer_id, parent) as stream:
            return filtered(stream, lambda member: None if "/.wh." in f"/{member.name}" else member)


@mutant(breaks=("OVL-DIFF-TAR",), source="behaviour#diff-format; POSIX/utilities/pax: a name may come twice")
class DiffRepeatsEntries(Faithful):
    """Every entry of a diff is there twice."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """The diff, with its content before itself."""
        with self.inner.diff(layer_id, parent) as stream:
            data = stream.read()
        return io.BytesIO(data[: -2 * 512] + data)


@mutant(
    breaks=("OVL-DIFF-MINIMAL", "OVL-DIFF-EMPTY", "OVL-MOUNT-READ-ONLY-USE", "OVL-WHITEOUT-IN-DIFF"),
    source="containers/storage#141",
)
class DiffIsWholeTree(Faithful):
    """A diff holds the whole tree."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """The diff against nothing."""
        del parent
        stream: IO[bytes] = self.inner.diff(layer_id, "")
        return stream


@mutant(breaks=("OVL-APPLY-WHOLE-TREE",), source="behaviour#naive-diff: no parent means the whole tree")
class DiffOmitsLowersWithoutParent(Faithful):
    """The diff against nothing is the one against the parent."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """The diff against the parent, always."""
        above = self.inner.metadata(layer_id).get("LowerDir", "").split(":")[0]
        stream: IO[bytes] = self.inner.diff(layer_id, parent or os.path.basename(os.path.dirname(above)))
        return stream


@mutant(breaks=("OVL-APPLY-TWICE",), source="behaviour#laws: applying twice equals applying once")
class ApplyRefusesSecondArchive(Faithful):
    """A second archive for a layer is refused."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply to empty layers only."""
        if os.listdir(os.path.join(self.home, layer_id, "diff")):
            raise FileExistsError("file exists")
        return int(self.inner.apply_diff(layer_id, parent, archive))


@mutant(
    breaks=("OVL-DIFF-MOUNTED",),
    source="behaviour#naive-diff: it mounts what it compares, also a layer that is mounted",
)
class DiffOfMountedIsThatOfParent(Faithful):
    """The diff of a layer that is mounted is that of its parent."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Look at what is mounted."""
        mounted = parent and os.path.ismount(f"{self.home}/{layer_id}/merged")
        return self.inner.diff(parent if mounted else layer_id, "" if mounted else parent)
