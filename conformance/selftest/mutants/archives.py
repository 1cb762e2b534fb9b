"""Mutants of diffs and of applying them."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
from typing import IO, Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import RewritingWrapper, filtered, lowers_of


@mutant(breaks=("OVL-APPLY-ROUND-TRIP",), source="moby/moby@bd13c53f8d: on the way in")
class ApplyOmitsDeletions(Faithful):
    """Deletions never reach the layer that an archive is applied to."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive without its whiteouts."""
        kept = filtered(archive, lambda member: None if "/.wh." in f"/{member.name}" else member)
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


@mutant(breaks=("OVL-DIFF-DETERMINISTIC",), source="behaviour#deterministic")
class DiffShufflesEntries(Faithful):
    """The entries of a diff come in another order each time."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Append a comment that is never the same."""
        with self.inner.diff(layer_id, parent) as stream:
            return io.BytesIO(stream.read() + os.urandom(512))


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


@mutant(breaks=("OVL-DIFF-RELATIVE",), source="opencontainers/umoci@v0.5.0")
class DiffNamesHostPaths(RewritingWrapper):
    """Names begin with the path of the layer on the host, and whiteouts hold a word."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Add it."""
        member.name = f"{self.home.lstrip('/')}/{member.name}"
        return member


@mutant(
    breaks=("OVL-DIFF-LINKS", "OVL-META-HARD-LINKS"),
    source="containers/storage@8aad48ae2: the link entry points at a real file",
)
class DiffLinksToLaterEntry(RewritingWrapper):
    """The first of several links is left out, so that the others lead to nothing."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Find the targets first."""
        with self.inner.diff(layer_id, parent) as stream, tarfile.open(fileobj=io.BytesIO(stream.read())) as tar:
            self.targets = {one.linkname for one in tar.getmembers() if one.islnk()}
        return super().diff(layer_id, parent)

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Keep the rest."""
        return None if member.name in self.targets else member


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
