"""Drivers that are wrong in one known way each, to prove that the suite sees it.

Each wraps a correct driver in this process, named by the environment of the test that uses it, so that this
package needs no driver of its own. ``python:conformance.faulty:NAME`` is the connection string.
"""

from __future__ import annotations

import importlib
import io
import os
import shutil
import tarfile
from typing import IO, Any

_BASIS = "CONFORMANCE_FAULTY_BASIS"  # MODULE:CLASS


class Faithful:
    """Wraps the driver that ``CONFORMANCE_FAULTY_BASIS`` names and changes nothing; the basis of the others."""

    def __init__(self, home: str) -> None:
        module, _, name = os.environ[_BASIS].partition(":")
        self.home = home
        self.inner: Any = getattr(importlib.import_module(module), name)(home)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class LosesWhiteouts(Faithful):
    """Deletions never reach the layer that an archive is applied to."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive without its whiteouts."""
        kept = _rewritten(archive, lambda member: None if "/.wh." in f"/{member.name}" else member)
        return int(self.inner.apply_diff(layer_id, parent, kept))


class LosesOpaque(Faithful):
    """Opaque marks never reach the layer that an archive is applied to."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive without its opaque marks."""
        kept = _rewritten(archive, lambda member: None if member.name.endswith(".wh..wh..opq") else member)
        return int(self.inner.apply_diff(layer_id, parent, kept))


class RoundsTimes(Faithful):
    """Modification times are rounded to a whole minute."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive with other times."""

        def rounded(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime = int(member.mtime) // 60 * 60
            member.pax_headers = {key: value for key, value in member.pax_headers.items() if key != "mtime"}
            return member

        return int(self.inner.apply_diff(layer_id, parent, _rewritten(archive, rounded)))


class BreaksHardLinks(Faithful):
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


class AcceptsHalfArchives(Faithful):
    """An archive that is cut off is applied as far as it goes."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply what there is."""
        try:
            kept = _rewritten(archive, lambda member: member)
        except tarfile.TarError:
            return 0
        return int(self.inner.apply_diff(layer_id, parent, kept))


class LimitOf127(Faithful):
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


class NoLimit(Faithful):
    """A chain may be as long as it likes: beyond the limit, the layer is quietly put on the base."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Create on something else where the driver refuses."""
        try:
            self.inner.create(layer_id, parent)
        except Exception as error:
            if "depth" not in str(error):
                raise
            self.inner.create(layer_id, "")


class UnmountsAtOnce(Faithful):
    """The first put unmounts, however many gets there were."""

    def put(self, layer_id: str) -> None:
        """Put until nothing is left."""
        for _ in range(5):
            self.inner.put(layer_id)


class NeverUnmounts(Faithful):
    """A put does nothing."""

    def put(self, layer_id: str) -> None:
        """Keep the mount."""


class ListsNoChanges(Faithful):
    """Nothing ever changes."""

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """Say so."""
        del layer_id, parent
        return []


class ListsNoParents(Faithful):
    """Only what was added or deleted is listed."""

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """Leave out what is modified."""
        return [change for change in self.inner.changes(layer_id, parent) if change.kind.name != "MODIFY"]


class CountsWhiteouts(Faithful):
    """Each entry of a diff counts a byte."""

    def diff_size(self, layer_id: str, parent: str = "") -> int:
        """Count too much."""
        return int(self.inner.diff_size(layer_id, parent)) + len(self.inner.changes(layer_id, parent))


class ForgetsRemove(Faithful):
    """A removed layer keeps its short link."""

    def remove(self, layer_id: str) -> None:
        """Put the short link back."""
        with open(os.path.join(self.home, layer_id, "link"), encoding="ascii") as file:
            link = os.path.join(self.home, "l", file.read())
        self.inner.remove(layer_id)
        os.symlink(f"../{layer_id}/diff", link)


class RandomOrder(Faithful):
    """The entries of a diff come in another order each time."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Append a comment that is never the same."""
        with self.inner.diff(layer_id, parent) as stream:
            return io.BytesIO(stream.read() + os.urandom(512))


def _rewritten(archive: IO[bytes], change: Any) -> IO[bytes]:
    """The archive with each member as ``change`` gives it back, or without it."""
    out = io.BytesIO()
    data = io.BytesIO(archive.read())
    with (
        tarfile.open(fileobj=data) as source,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in source:
            content = source.extractfile(member) if member.isreg() else None
            kept = change(member)
            if kept is not None:
                target.addfile(kept, content)
    out.seek(0)
    return out
