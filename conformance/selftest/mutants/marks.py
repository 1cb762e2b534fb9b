"""Mutants of opaque directories, and of the features of the kernel that stand in for copying one."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import IO

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import OPAQUE, empty, lowers_of, rewritten


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
