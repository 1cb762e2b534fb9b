"""Mutants of opaque directories, and of the features of the kernel that stand in for copying one."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault
from conformance.selftest.mutants.rewriting import OPAQUE, empty, lowers_of, rewritten


class CarriesMarksUp(Faithful):
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


class MarksTheTopOnly(Patched):
    """Only a directory in the root of the layer is marked opaque in a diff."""

    place = "archive.pack:_Packer._member"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Turn the other marks into what says nothing."""
        member = original(*args, **kwargs)
        if member.name.endswith(OPAQUE.encode()) and member.name.count(b"/") > 1:
            member.name = member.name[: -len(OPAQUE)] + b".wh..wh.aufs"
        return member


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


class DeletesOneLevel(_Deletes):
    """A recreated directory is represented by whiteouts in it, and none in directories that it has again."""


class DeletesOneLayer(_Deletes):
    """A recreated directory is represented by whiteouts, for what the layer right below has in it."""

    def names(self, layer_id: str, directory: str) -> set[str]:
        """Of that layer."""
        return _listed(f"{lowers_of(self, layer_id)[0]}/{directory}")


class MarkResetsTheMode(Patched):
    """A directory is removed and made anew where an opaque whiteout is applied, as mkdir makes it."""

    place = "archive.unpack:_Unpacker._make_opaque"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give it the mode of a new one."""
        original(*args, **kwargs)
        os.chmod(f"/proc/self/fd/{args[1]}", 0o755)


class MarkResetsTheOwner(Patched):
    """A directory belongs to root where an opaque whiteout was applied."""

    place = "archive.unpack:_Unpacker._make_opaque"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give it the owner of a new one, and its bits back."""
        original(*args, **kwargs)
        path = f"/proc/self/fd/{args[1]}"
        mode = os.stat(path).st_mode
        os.chown(path, 0, 0)
        os.chmod(path, mode & 0o7777)


class MarkClearsTheArchive(Patched):
    """An opaque whiteout removes what the archive brought into the directory before it."""

    place = "archive.unpack:_Unpacker._make_opaque"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Empty the directory."""
        original(*args, **kwargs)
        path = f"/proc/self/fd/{args[1]}"
        for name in os.listdir(path):
            held = f"{path}/{name}"
            shutil.rmtree(held) if os.path.isdir(held) and not os.path.islink(held) else os.unlink(held)


class _Mounts(Patched):
    """Layers are mounted with a feature of the kernel that the diff does not know."""

    place = "layermounts:LayerMounts._mount_overlay"


class MountsWithRedirects(_Mounts):
    """Layers are mounted with redirect_dir=on, and diffs are taken from the upper: a renamed directory is empty."""

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add the option."""
        mounts, request = args
        return original(
            mounts, dataclasses.replace(request, options=(*request.options, "redirect_dir=on")), **kwargs
        )


class MountsWithMetacopy(_Mounts):
    """Layers are mounted with metacopy=on, and diffs are taken from the upper: what was only chmodded is a hole."""

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add the option."""
        mounts, request = args
        return original(mounts, dataclasses.replace(request, options=(*request.options, "metacopy=on")), **kwargs)


def _is_opaque(directory: str) -> bool:
    try:
        return os.getxattr(directory, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _listed(directory: str) -> set[str]:
    return set(os.listdir(directory)) if os.path.isdir(directory) else set()


FAULTS: Final = (
    Fault(CarriesMarksUp, ("OVL-OPAQUE-NOT-INHERITED",), "moby/moby@64b43ed5ec", hard=True),
    Fault(MarksTheTopOnly, ("OVL-OPAQUE-DEEP",), "containers/fuse-overlayfs#136", hard=True),
    Fault(
        DeletesOneLevel,
        ("OVL-OPAQUE-DEEP",),
        "containers/fuse-overlayfs#136; containers/fuse-overlayfs#138",
        hard=True,
    ),
    Fault(DeletesOneLayer, ("OVL-OPAQUE-DEEP",), "moby/moby#25244: in a layer two further down", hard=True),
    Fault(MarkResetsTheMode, ("OVL-OPAQUE-METADATA",), "moby/moby#27298"),
    Fault(MarkResetsTheOwner, ("OVL-OPAQUE-METADATA",), "moby/moby@daa7019517", hard=True),
    Fault(
        MarkClearsTheArchive,
        ("OVL-APPLY-OPAQUE-ORDER",),
        "image-spec/layer.md#opaque-whiteout: wherever it stands",
    ),
    Fault(MountsWithRedirects, ("OVL-APPLY-ROUND-TRIP",), "moby/moby@49c3a7c4ba", hard=True),
    Fault(
        MountsWithMetacopy, ("OVL-DIFF-COPY-UP-DATA",), "containers/storage#640; containers/storage#815", hard=True
    ),
)
