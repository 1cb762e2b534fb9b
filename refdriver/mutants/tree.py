"""Mutants of the merged view, whiteouts and opaque directories of the reference driver."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from refdriver.archive import deleting, pack, roots, tarformat, whiteouts
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
    @replaces(deleting.Deletions._make_opaque)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give it the mode of a new one."""
        original(*args, **kwargs)
        os.chmod(f"/proc/self/fd/{args[1]}", 0o755)


@mutant(breaks=("OVL-OPAQUE-METADATA",), source="moby/moby@daa7019517", hard=True)
class OpaqueResetsOwner(Patched):
    """A directory belongs to root where an opaque whiteout was applied."""

    @staticmethod
    @replaces(deleting.Deletions._make_opaque)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give it the owner of a new one, and its bits back."""
        original(*args, **kwargs)
        path = f"/proc/self/fd/{args[1]}"
        mode = os.stat(path).st_mode
        os.chown(path, 0, 0)
        os.chmod(path, mode & 0o7777)


@mutant(breaks=("OVL-WHITEOUT-IN-DIFF",), source="moby/moby#23863; moby/moby#25086")
class DiffNamesWhiteoutsBare(Patched):
    """The whiteout of something in a directory carries its last name only."""

    @staticmethod
    @replaces(pack._Packer.whiteout)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave the directory out."""
        packer, path = args
        return original(packer, path.rpartition(b"/")[2], **kwargs)


@mutant(breaks=("OVL-WHITEOUT-MANY",), source="moby/buildkit@bc646a660", hard=True)
class DiffExportsLinkedWhiteoutsOnce(Patched):
    """Whiteouts that share an inode, as the kernel makes them, are exported once."""

    @staticmethod
    @replaces(pack._Packer.entry)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out every further name."""
        packer, status = args[0], args[4]
        known = packer.__dict__.setdefault("known", set())
        if stat.S_ISCHR(status.st_mode) and status.st_nlink > 1:
            if status.st_ino in known:
                return iter(())
            known.add(status.st_ino)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-WHITEOUT-LONG-NAME",), source="boundary: 255 bytes with '.wh.'", hard=True)
class DiffTruncatesWhiteouts(Patched):
    """A whiteout is no longer than a name may be, so the names of 252 bytes and more lose their end."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Keep 255 bytes."""
        member = args[0]
        directory, slash, name = member.name.rpartition(b"/")
        if name.startswith(b".wh."):
            member.name = directory + slash + name[:255]
        return original(member, **kwargs)


@mutant(breaks=("OVL-WHITEOUT-LONG-NAME",), source="boundary: 255 bytes with '.wh.'", hard=True)
class ApplyRefusesLongWhiteouts(Patched):
    """The length of a name is checked with the prefix that makes it a whiteout."""

    @staticmethod
    @replaces(roots.clean_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Refuse what no filesystem takes."""
        if any(len(part) > 255 for part in args[0].split(b"/")):
            raise OSError(36, "File name too long")
        return original(*args, **kwargs)


@mutant(breaks=("OVL-WHITEOUT-OWN-DIRECTORY",), source="containers/fuse-overlayfs#151")
class WhiteoutHidesInSubdirectories(Patched):
    """A whiteout hides its name in the directories beside it too."""

    @staticmethod
    @replaces(deleting.Deletions._delete)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Delete it there as well."""
        deletions, directory, name, _ = args
        original(*args, **kwargs)
        here = deletions._root.real_path(directory, b"")
        for lower in map(os.fsencode, deletions._lowers):
            for beside in os.listdir(lower + here) if os.path.isdir(lower + here) else ():
                if os.path.lexists(lower + here + beside + b"/" + name):
                    os.makedirs(deletions._root.path + here + beside, exist_ok=True)
                    os.mknod(deletions._root.path + here + beside + b"/" + name, stat.S_IFCHR)


@mutant(breaks=("OVL-WHITEOUT-SYMLINK",), source="apptainer/singularity#1605")
class WhiteoutDeletesTargetOfSymlink(Patched):
    """The whiteout of a symlink deletes what the link points at."""

    @staticmethod
    @replaces(deleting.Deletions._delete)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow it within its directory."""
        deletions, directory, name, member = args
        for lower in map(os.fsencode, deletions._lowers):
            path = lower + deletions._root.real_path(directory, name)
            if os.path.islink(path) and b"/" not in os.readlink(path):
                return original(deletions, directory, os.readlink(path), member, **kwargs)
        return original(*args, **kwargs)
