"""Mutants of names that share an inode, of what an entry replaces, and of the sizes of both."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

from refdriver import sizes
from refdriver.archive import pack, unpack
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-APPLY-HARD-LINKS",), source="containers/storage@6147ac0c3", hard=True)
class DiffCopiesLinkedSymlinks(Patched):
    """Only regular files are looked for among the names that were packed already."""

    @staticmethod
    @replaces(pack._Packer._earlier_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take a symlink for a new one."""
        return original(*args, **kwargs) if not stat.S_ISLNK(args[2].st_mode) else None


@mutant(breaks=("OVL-APPLY-HARD-LINKS",), source="containers/storage@8aad48ae2: of what is no file", hard=True)
class DiffCopiesLinkedPipes(Patched):
    """A pipe that has several names is several pipes."""

    @staticmethod
    @replaces(pack._Packer._earlier_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it for a new one."""
        return original(*args, **kwargs) if not stat.S_ISFIFO(args[2].st_mode) else None


@mutant(breaks=("OVL-APPLY-HARD-LINKS",), source="containerd/containerd@3b1534c47", hard=True)
class ApplyLinksToTargetOfSymlink(Patched):
    """A hard link to a symlink becomes one to what the symlink points at."""

    @staticmethod
    @replaces(unpack._Unpacker._hard_link)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As link does on some systems."""
        unpacker, directory, name, _, member = args
        target = unpacker._root.path + b"/" + member.target
        if os.path.islink(target):
            os.symlink(os.readlink(target), name, dir_fd=directory)
            return None
        return original(*args, **kwargs)


@mutant(breaks=("OVL-DIFF-LINKS",), source="containers/storage@8aad48ae2: a link to a link", hard=True)
class DiffLinksToLink(Patched):
    """The third name of an inode is a link to the second, which is a link itself."""

    @staticmethod
    @replaces(pack._Packer._earlier_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Remember the last one."""
        packer, path, status = args
        first = original(*args, **kwargs)
        last = packer.__dict__.setdefault("last", {})
        before = last.get(status.st_ino)
        last[status.st_ino] = path
        return before if first else None


@mutant(breaks=("OVL-APPLY-HARD-LINKS",), source="boundary: the third name of an inode", hard=True)
class DiffCopiesThirdHardLink(Patched):
    """An inode is forgotten when its second name was packed, so the third is a file of its own."""

    @staticmethod
    @replaces(pack._Packer._earlier_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count to two."""
        packer, path, status = args
        first = original(packer, path, status, **kwargs)
        if first:
            packer._first_names.pop((status.st_dev, status.st_ino), None)
        return first


@mutant(breaks=("OVL-APPLY-KINDS",), source="tar(1): --unlink-first; open(2): O_TRUNC", hard=True)
class ApplyOverwritesLinkedInode(Patched):
    """A file that is there is written over, and with it its other names."""

    @staticmethod
    @replaces(unpack._Unpacker._make)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it and empty it."""
        _, directory, name, make = args
        if _is_regular(directory, name) and "open" in make.__code__.co_names:
            return os.open(name, os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-LAST-WINS",), source="open(2): O_TRUNC")
class ApplyKeepsTailOfEarlierFile(Patched):
    """A file that is there is written over from its beginning, and keeps what it had beyond the new end."""

    @staticmethod
    @replaces(unpack._Unpacker._make)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it without O_TRUNC."""
        _, directory, name, make = args
        if _is_regular(directory, name) and "open" in make.__code__.co_names:
            return os.open(name, os.O_WRONLY, dir_fd=directory)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-KINDS",), source="open(2): O_NOFOLLOW", hard=True)
class ApplyWritesThroughSymlinks(Patched):
    """A file is written where the symlink points that the layer has under its name."""

    @staticmethod
    @replaces(unpack._Unpacker._make)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it as it is, if that leads to something in the same directory."""
        _, directory, name, make = args
        there = _lstat(directory, name)
        if there and stat.S_ISLNK(there.st_mode) and "open" in make.__code__.co_names:
            target = os.readlink(name, dir_fd=directory)
            if b"/" not in target and _is_regular(directory, target):
                return os.open(target, os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-KINDS",), source="symlink(2): EEXIST, an errno that is ignored")
class ApplyKeepsDirectoryForSymlink(Patched):
    """A directory that is in the way of a symlink stays: an errno that is not looked at."""

    @staticmethod
    @replaces(unpack._Unpacker._entry)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on."""
        _, directory, name, _, member = args
        there = _lstat(directory, name)
        if there and stat.S_ISDIR(there.st_mode) and member.kind == b"2":
            return None
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-KINDS",), source="behaviour#applying: a directory is merged", hard=True)
class ApplyKeepsOldModeOfDirectory(Patched):
    """A directory that the layer has already keeps its mode when another archive brings it again."""

    @staticmethod
    @replaces(unpack._Unpacker._directory)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Put the old mode back."""
        _, directory, name, _, _ = args
        there = _lstat(directory, name)
        original(*args, **kwargs)
        if there and stat.S_ISDIR(there.st_mode):
            os.chmod(name, there.st_mode & 0o7777, dir_fd=directory)


@mutant(breaks=("OVL-SIZE-HARD-LINKS",), source="boundary: the third name; moby/moby#9283")
class DiffSizeCountsThirdName(Patched):
    """The third name of an inode is counted again."""

    @staticmethod
    @replaces(sizes._Inodes.size_once)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Forget the inode after its second."""
        inodes, status = args
        met = inodes.__dict__.setdefault("met", {})
        met[status.st_ino] = met.get(status.st_ino, 0) + 1
        return (
            status.st_size
            if met[status.st_ino] > 2 and not stat.S_ISDIR(status.st_mode)
            else original(*args, **kwargs)
        )


@mutant(breaks=("OVL-SIZE-HOLES",), source="moby/moby#31944")
class DiffSizeCountsBlocks(Patched):
    """The size of a file is what it takes on disk, if that is less than its length."""

    @staticmethod
    @replaces(sizes._Inodes.size_once)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask for the blocks."""
        size = original(*args, **kwargs)
        return min(size, args[1].st_blocks * 512) if stat.S_ISREG(args[1].st_mode) else size


def _lstat(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_regular(directory: int, name: bytes) -> bool:
    there = _lstat(directory, name)
    return there is not None and stat.S_ISREG(there.st_mode)
