"""Mutants of the merged view, whiteouts and opaque directories."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import OPAQUE, RewritingWrapper, empty, filtered, lowers_of, rewritten


@mutant(breaks=("OVL-OPAQUE-PRESERVED", "OVL-OPAQUE-DEEP", "OVL-OPAQUE-NOT-INHERITED"), source="moby/moby#25244")
class ApplyOmitsOpaque(Faithful):
    """Opaque whiteouts never reach the layer that an archive is applied to."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive without its opaque whiteouts."""
        kept = filtered(archive, lambda member: None if member.name.endswith(".wh..wh..opq") else member)
        return int(self.inner.apply_diff(layer_id, parent, kept))


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


@mutant(breaks=("OVL-WHITEOUT-FORM",), source="image-spec/layer.md#whiteouts: a whiteout is an empty file")
class DiffWritesWhiteoutsAsSymlinks(RewritingWrapper):
    """A whiteout is a symlink, as some union filesystems had it."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Change its type."""
        if "/.wh." in f"/{member.name}":
            member.type, member.linkname = tarfile.SYMTYPE, "(whiteout)"
        return member


@mutant(breaks=("OVL-WHITEOUT-NEEDLESS",), source="containers/storage#141: a needless whiteout")
class DiffMarksNewDirectories(RewritingWrapper):
    """Every new directory is said to replace what was below, by a whiteout."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Append a whiteout of something that never was below."""
        found = super().diff(layer_id, parent)
        with tarfile.open(fileobj=found, mode="a") as tar:
            if tar.getmembers():
                tar.addfile(tarfile.TarInfo(".wh.new"))
        found.seek(0)
        return found


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


@mutant(breaks=("OVL-OPAQUE-NOT-INHERITED",), source="moby/moby@64b43ed5ec", hard=True)
class OpaqueIsInherited(Faithful):
    """A directory that is opaque in the layer below is opaque in every diff that touches it."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Add the marks of the layer below."""
        below = lowers_of(self, layer_id)[:1]

        def marked(member: tarfile.TarInfo) -> Iterator[tarfile.TarInfo]:
            yield member
            if member.isdir() and any(_is_opaque(f"{lower}/{member.name}") for lower in below):
                yield empty(f"{member.name}/{OPAQUE}")

        with self.inner.diff(layer_id, parent) as stream:
            return rewritten(stream, marked)


class _Deletes(Faithful):
    """A diff says of an opaque directory what is deleted in it, name by name, and has no mark."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Write whiteouts for what the lowers have and the layer has not."""
        upper = self.inner.metadata(layer_id)["UpperDir"]

        def spelled(member: tarfile.TarInfo) -> Iterator[tarfile.TarInfo]:
            directory, _, name = member.name.rpartition("/")
            if name != OPAQUE:
                yield member
                return
            for gone in sorted(self.names(layer_id, directory)):
                if not os.path.lexists(f"{upper}/{directory}/{gone}"):
                    yield empty(f"{directory}/.wh.{gone}")

        with self.inner.diff(layer_id, parent) as stream:
            return rewritten(stream, spelled)

    def names(self, layer_id: str, directory: str) -> set[str]:
        """What a directory had."""
        found: set[str] = set()
        for lower in lowers_of(self, layer_id):
            found |= _listed(f"{lower}/{directory}")
        return found


@mutant(
    breaks=("OVL-OPAQUE-DEEP",), source="containers/fuse-overlayfs#136; containers/fuse-overlayfs#138", hard=True
)
class OpaqueBecomesShallowWhiteouts(_Deletes):
    """A recreated directory is represented by whiteouts in it, and none in directories that it has again."""


@mutant(breaks=("OVL-OPAQUE-DEEP",), source="moby/moby#25244: in a layer two further down", hard=True)
class OpaqueBecomesWhiteoutsOfOneLayer(_Deletes):
    """A recreated directory is represented by whiteouts, for what the layer right below has in it."""

    def names(self, layer_id: str, directory: str) -> set[str]:
        """Of that layer."""
        return _listed(f"{lowers_of(self, layer_id)[0]}/{directory}")


def _is_opaque(directory: str) -> bool:
    try:
        return os.getxattr(directory, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _listed(directory: str) -> set[str]:
    return set(os.listdir(directory)) if os.path.isdir(directory) else set()
