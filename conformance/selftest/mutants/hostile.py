"""Mutants of hostile archives."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import lowers_of


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


@mutant(
    breaks=("OVL-HOSTILE-OVERLAY-XATTRS", "OVL-APPLY-WHITEOUT-UNSEEN"),
    source="behaviour#overlay-xattrs; overlayfs.rst",
)
class ApplySetsXattrsNaively(Faithful):
    """Attributes of an archive are set whatever they are called; whiteouts are made wherever they are named."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Then do what a careful driver left out."""
        size = int(self.inner.apply_diff(layer_id, parent, archive))
        archive.seek(0)
        upper = f"{self.home}/{layer_id}/diff"
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for member in tar.getmembers():
                for key, value in member.pax_headers.items():
                    if key.startswith("SCHILY.xattr.trusted."):
                        os.setxattr(f"{upper}/{member.name}", key.removeprefix("SCHILY.xattr."), value.encode())
                directory, _, name = member.name.rpartition("/")
                if name.startswith(".wh.") and not name.startswith(".wh..wh."):
                    with contextlib.suppress(FileExistsError):
                        os.makedirs(f"{upper}/{directory}", exist_ok=True)
                        os.mknod(f"{upper}/{directory}/{name[4:]}", stat.S_IFCHR | 0o600)
        return size


@mutant(
    breaks=(
        "OVL-HOSTILE-DOTDOT",
        "OVL-HOSTILE-ABSOLUTE",
        "OVL-HOSTILE-SYMLINK",
        "OVL-HOSTILE-SYMLINK-BELOW",
        "OVL-HOSTILE-HARD-LINK-MODE",
        "OVL-APPLY-OTHER-MARKS",
        "OVL-APPLY-WHITEOUT-INSIDE",
        "OVL-APPLY-OPAQUE-ORDER",
        "OVL-APPLY-WHITEOUT-BEFORE",
        "OVL-APPLY-KINDS",
    ),
    source="CVE-2014-9356",
)
class ApplyUnpacksNaively(Faithful):
    """Archives are unpacked by a program that trusts them, into the mounted layer."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Extract everything wherever it says; whiteouts become files."""
        del parent
        root = self.inner.get(layer_id)
        try:
            with tarfile.open(fileobj=archive, mode="r|") as tar:
                for member in tar:
                    target = member.name if member.name.startswith("/") else f"{root}/{member.name}"
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    if member.islnk() and member.linkname.startswith("/"):
                        os.link(member.linkname, target)
                    else:
                        tar.extract(member, root if target.startswith(root) else "/", filter="fully_trusted")
        finally:
            self.inner.put(layer_id)
        return 0


@mutant(
    breaks=("OVL-HOSTILE-WHITEOUT-OUT", "OVL-HOSTILE-OPAQUE-OUT", "OVL-HOSTILE-WHITEOUT-DOTS"),
    source="anchore/stereoscope#694; containerd/containerd@384d46d8b",
)
class WhiteoutDeletesNaively(Faithful):
    """Whiteouts are paths that are removed from the mounted tree, followed wherever they lead."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Remove what the names say, then unpack the rest as a good driver does."""
        root = self.inner.get(layer_id)
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            members = tar.getmembers()
        for member in members:
            directory, _, name = member.name.rpartition("/")
            place = os.path.join(root, directory)
            if member.issym():
                with contextlib.suppress(OSError):
                    os.symlink(member.linkname, os.path.join(root, member.name))
            elif name == ".wh..wh..opq":
                self._remove(place, *(os.listdir(place) if os.path.isdir(place) else ()))
            elif name.startswith(".wh."):
                self._remove(place, name.removeprefix(".wh."))
        self.inner.put(layer_id)
        archive.seek(0)
        return int(self.inner.apply_diff(layer_id, parent, archive))

    @staticmethod
    def _remove(place: str, *names: str) -> None:
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


@mutant(breaks=("OVL-HOSTILE-HARD-LINK", "OVL-HOSTILE-DOT"), source="CVE-2014-9356: by a hard link; CVE-2021-29136")
class ApplyCopiesHostFileOfHardLink(Faithful):
    """What a hard link names is read by its path on the host; an entry for the root replaces what is in it."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Do that first, then unpack as a good driver does."""
        root = self.inner.get(layer_id)
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for member in tar.getmembers():
                if member.islnk() and os.path.isfile(member.linkname):
                    shutil.copyfile(member.linkname, f"{root}/copied")
                if os.path.normpath(f"/{member.name}") == "/" and not member.isdir():
                    shutil.rmtree(f"{root}/d", ignore_errors=True)
                    os.unlink(f"{root}/a")
        self.inner.put(layer_id)
        archive.seek(0)
        return int(self.inner.apply_diff(layer_id, parent, archive))


@mutant(
    breaks=("OVL-HOSTILE-CHECKSUM", "OVL-HOSTILE-SIZE", "OVL-HOSTILE-JUNK", "OVL-HOSTILE-NAME-BOMB"),
    source="CVE-2021-20291: an error that is swallowed",
)
class ApplyAcceptsJunk(Faithful):
    """What cannot be unpacked is said to be done."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Hide the refusal."""
        try:
            return int(self.inner.apply_diff(layer_id, parent, archive))
        except Exception:
            return 0
