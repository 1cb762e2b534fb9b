"""Mutants of deletions: what a whiteout is called, whether it is written, and what it hides when it is applied."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Any

from refdriver import overlayxattr
from refdriver.archive import clearing, pack, roots, tarformat, unpack
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


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


@mutant(breaks=("OVL-DIFF-DETERMINISTIC",), source="containers/storage@cbef82ca7")
class DiffStampsWhiteoutsWithNow(Patched):
    """A whiteout has the time at which the archive is written."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask the clock."""
        member = args[0]
        if member.name.rpartition(b"/")[2].startswith(b".wh."):
            member.mtime = int(time.time()) * 10**9
        return original(member, **kwargs)


@mutant(breaks=("OVL-APPLY-WHITEOUT-BEFORE",), source="behaviour#whiteouts; field-bugs#whiteout-and-entry")
class WhiteoutForgottenForNewDirectory(Patched):
    """A whiteout that a directory of its name follows is taken away for it, and what is below shows again."""

    @staticmethod
    @replaces(unpack._Unpacker._directory)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make room."""
        directory, name = args[1], args[2]
        if _is_whiteout(directory, name):
            os.unlink(name, dir_fd=directory)
        return original(*args, **kwargs)


@mutant(
    breaks=("OVL-APPLY-WHITEOUT-BEFORE",),
    source="behaviour#whiteouts: for a directory that has no entry of its own; field-bugs#whiteout-and-entry",
    hard=True,
)
class ImplicitParentIsNotOpaque(Patched):
    """A directory that was deleted and is recreated for an entry in it is not marked opaque."""

    @staticmethod
    @replaces(unpack._Unpacker._replace_older)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take the mark away."""
        made = original(*args, **kwargs)
        overlay = args[0]._overlay
        if made and overlay:
            fd = os.open(args[2], os.O_RDONLY, dir_fd=args[1])
            if overlay.is_opaque(fd):
                os.removexattr(fd, overlay.opaque)
            os.close(fd)
        return made


@mutant(breaks=("OVL-APPLY-WHITEOUT-AFTER",), source="behaviour#whiteouts; field-bugs#whiteout-and-entry")
class WhiteoutDeletesOwnEntry(Patched):
    """A whiteout deletes what the same archive brought before it."""

    @staticmethod
    @replaces(unpack._Unpacker._brought)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Remember nothing."""
        del original, args, kwargs
        return False


@mutant(breaks=("OVL-APPLY-WHITEOUT-UNSEEN",), source="overlayfs.rst: readdir merges directories only")
class ApplyMakesVisibleWhiteouts(Patched):
    """A whiteout is made wherever the archive has one, also where the kernel shows it as a device."""

    @staticmethod
    @replaces(unpack._Unpacker._hides_lowers)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make it."""
        del original, args, kwargs
        return True


@mutant(
    breaks=("OVL-APPLY-WHITEOUT-UNSEEN",),
    source="overlayfs.rst: an opaque directory hides all that is below it",
    hard=True,
)
class HiddenWhiteoutSeeksOneDirectory(Patched):
    """Below a directory that an opaque whiteout hides, it is looked for in a whiteout's own directory only."""

    @staticmethod
    @replaces(unpack._Unpacker._hides_lowers)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look no further up."""
        unpacker, directory = args
        if original(unpacker, directory, **kwargs) or not unpacker._overlay:
            return True
        if unpacker._overlay.is_opaque(os.path.join(unpacker._root.path, directory)):
            return False
        parts = [part for part in directory.split(b"/") if part]
        return overlayxattr.is_directory_below(unpacker._lowers, parts, unpacker._overlay)

    @staticmethod
    @replaces(clearing.remove_whiteouts)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave them."""
        del original, args, kwargs


@mutant(
    breaks=("OVL-APPLY-WHITEOUT-UNSEEN",),
    source="overlayfs.rst: an opaque directory hides all that is below it",
    hard=True,
)
class OpaqueClearsTopDirectoryOnly(Patched):
    """An opaque whiteout removes earlier whiteouts of its own directory, and not those further down."""

    @staticmethod
    @replaces(clearing.remove_whiteouts)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go no deeper."""
        del original, kwargs
        directory = os.open(args[0], os.O_RDONLY)
        for name in os.listdir(directory):
            if _is_whiteout(directory, os.fsencode(name)):
                os.unlink(name, dir_fd=directory)
        os.close(directory)


@mutant(breaks=("OVL-WHITEOUT-OWN-DIRECTORY",), source="containers/fuse-overlayfs#151")
class WhiteoutHidesInSubdirectories(Patched):
    """A whiteout hides its name in the directories beside it too."""

    @staticmethod
    @replaces(unpack._Unpacker._delete)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Delete it there as well."""
        unpacker, directory, name, _ = args
        original(*args, **kwargs)
        here = unpacker._real_path(directory, b"")
        for lower in map(os.fsencode, unpacker._lowers):
            for beside in os.listdir(lower + here) if os.path.isdir(lower + here) else ():
                if os.path.lexists(lower + here + beside + b"/" + name):
                    os.makedirs(unpacker._root.path + here + beside, exist_ok=True)
                    os.mknod(unpacker._root.path + here + beside + b"/" + name, stat.S_IFCHR)


@mutant(breaks=("OVL-WHITEOUT-SYMLINK",), source="apptainer/singularity#1605")
class WhiteoutDeletesTargetOfSymlink(Patched):
    """The whiteout of a symlink deletes what the link points at."""

    @staticmethod
    @replaces(unpack._Unpacker._delete)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow it within its directory."""
        unpacker, directory, name, member = args
        for lower in map(os.fsencode, unpacker._lowers):
            path = lower + unpacker._real_path(directory, name)
            if os.path.islink(path) and b"/" not in os.readlink(path):
                return original(unpacker, directory, os.readlink(path), member, **kwargs)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-NAME-FORMS",), source="behaviour#names")
class ApplyMissesWhiteoutsWithDotSlash(Patched):
    """A name that begins with './' is no whiteout, and becomes a file."""

    @staticmethod
    @replaces(unpack._Unpacker.add)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at the name as it is written."""
        unpacker, member = args
        if member.name.startswith(b"./.wh."):
            unpacker._entry(unpacker._root.fd, member.name[2:], member.name[2:], member)
            return
        original(unpacker, member, **kwargs)


def _is_whiteout(directory: int, name: bytes) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
