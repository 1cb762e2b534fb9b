"""Mutants of opaque directories, and of the features of the kernel that stand in for copying one."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from typing import Any

from refdriver import layermounts
from refdriver.archive import pack, unpack, whiteouts
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-OPAQUE-DEEP",), source="containers/fuse-overlayfs#136", hard=True)
class DiffMarksTopDirectoriesOnly(Patched):
    """Only a directory in the root of the layer is marked opaque in a diff."""

    @staticmethod
    @replaces(pack._Packer._member)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Turn the other marks into what says nothing."""
        member = original(*args, **kwargs)
        if member.name.endswith(whiteouts.OPAQUE) and member.name.count(b"/") > 1:
            member.name = member.name[: -len(whiteouts.OPAQUE)] + b".wh..wh.aufs"
        return member


@mutant(breaks=("OVL-OPAQUE-METADATA",), source="moby/moby#27298")
class OpaqueResetsMode(Patched):
    """A directory is removed and made anew where an opaque whiteout is applied, as mkdir makes it."""

    @staticmethod
    @replaces(unpack._Unpacker._make_opaque)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give it the mode of a new one."""
        original(*args, **kwargs)
        os.chmod(f"/proc/self/fd/{args[1]}", 0o755)


@mutant(breaks=("OVL-OPAQUE-METADATA",), source="moby/moby@daa7019517", hard=True)
class OpaqueResetsOwner(Patched):
    """A directory belongs to root where an opaque whiteout was applied."""

    @staticmethod
    @replaces(unpack._Unpacker._make_opaque)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give it the owner of a new one, and its bits back."""
        original(*args, **kwargs)
        path = f"/proc/self/fd/{args[1]}"
        mode = os.stat(path).st_mode
        os.chown(path, 0, 0)
        os.chmod(path, mode & 0o7777)


@mutant(breaks=("OVL-APPLY-OPAQUE-ORDER",), source="image-spec/layer.md#opaque-whiteout: wherever it stands")
class OpaqueRemovesEarlierEntries(Patched):
    """An opaque whiteout removes what the archive brought into the directory before it."""

    @staticmethod
    @replaces(unpack._Unpacker._make_opaque)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Empty the directory."""
        original(*args, **kwargs)
        path = f"/proc/self/fd/{args[1]}"
        for name in os.listdir(path):
            held = f"{path}/{name}"
            shutil.rmtree(held) if os.path.isdir(held) and not os.path.islink(held) else os.unlink(held)


@mutant(breaks=("OVL-APPLY-ROUND-TRIP",), source="moby/moby@49c3a7c4ba", hard=True)
class MountEnablesRedirectDir(Patched):
    """Layers are mounted with redirect_dir=on, and diffs are taken from the upper: a renamed directory is empty."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add the option."""
        mounts, request = args
        return original(
            mounts, dataclasses.replace(request, options=(*request.options, "redirect_dir=on")), **kwargs
        )


@mutant(breaks=("OVL-DIFF-COPY-UP-DATA",), source="containers/storage#640; containers/storage#815", hard=True)
class MountEnablesMetacopy(Patched):
    """Layers are mounted with metacopy=on, and diffs are taken from the upper: what was only chmodded is a hole."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add the option."""
        mounts, request = args
        return original(mounts, dataclasses.replace(request, options=(*request.options, "metacopy=on")), **kwargs)
