"""Mutants of names that share an inode, of what an entry replaces, and of the sizes of both."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault
from conformance.selftest.mutants.rewriting import lowers_of


class PartsLinksOfSymlinks(Patched):
    """Only regular files are looked for among the names that were packed already."""

    place = "archive.pack:_Packer._earlier_name"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take a symlink for a new one."""
        return original(*args, **kwargs) if not stat.S_ISLNK(args[2].st_mode) else None


class PartsLinksOfPipes(Patched):
    """A pipe that has several names is several pipes."""

    place = "archive.pack:_Packer._earlier_name"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it for a new one."""
        return original(*args, **kwargs) if not stat.S_ISFIFO(args[2].st_mode) else None


class FollowsLinkedSymlinks(Patched):
    """A hard link to a symlink becomes one to what the symlink points at."""

    place = "archive.unpack:_Unpacker._hard_link"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As link does on some systems."""
        unpacker, directory, name, _, member = args
        target = unpacker._root.path + b"/" + member.target
        if os.path.islink(target):
            os.symlink(os.readlink(target), name, dir_fd=directory)
            return None
        return original(*args, **kwargs)


class LinksToTheNameBefore(Patched):
    """The third name of an inode is a link to the second, which is a link itself."""

    place = "archive.pack:_Packer._earlier_name"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Remember the last one."""
        packer, path, status = args
        first = original(*args, **kwargs)
        last = packer.__dict__.setdefault("last", {})
        before = last.get(status.st_ino)
        last[status.st_ino] = path
        return before if first else None


class ForgetsThirdNames(Patched):
    """An inode is forgotten when its second name was packed, so the third is a file of its own."""

    place = "archive.pack:_Packer._earlier_name"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count to two."""
        packer, path, status = args
        first = original(packer, path, status, **kwargs)
        if first:
            packer._first_names.pop((status.st_dev, status.st_ino), None)
        return first


class PartsLinksOfLowerFiles(Faithful):
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


class WritesThroughLinks(Patched):
    """A file that is there is written over, and with it its other names."""

    place = "archive.unpack:_Unpacker._make"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it and empty it."""
        _, directory, name, make = args
        if _is_regular(directory, name) and "open" in make.__code__.co_names:
            return os.open(name, os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
        return original(*args, **kwargs)


class WritesOverTheEarlier(Patched):
    """A file that is there is written over from its beginning, and keeps what it had beyond the new end."""

    place = "archive.unpack:_Unpacker._make"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it without O_TRUNC."""
        _, directory, name, make = args
        if _is_regular(directory, name) and "open" in make.__code__.co_names:
            return os.open(name, os.O_WRONLY, dir_fd=directory)
        return original(*args, **kwargs)


class WritesThroughSymlinks(Patched):
    """A file is written where the symlink points that the layer has under its name."""

    place = "archive.unpack:_Unpacker._make"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it as it is, if that leads to something in the same directory."""
        _, directory, name, make = args
        there = _lstat(directory, name)
        if there and stat.S_ISLNK(there.st_mode) and "open" in make.__code__.co_names:
            target = os.readlink(name, dir_fd=directory)
            if b"/" not in target and _is_regular(directory, target):
                return os.open(target, os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
        return original(*args, **kwargs)


class KeepsDirectoriesInTheWay(Patched):
    """A directory that is in the way of a symlink stays: an errno that is not looked at."""

    place = "archive.unpack:_Unpacker._entry"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on."""
        _, directory, name, _, member = args
        there = _lstat(directory, name)
        if there and stat.S_ISDIR(there.st_mode) and member.kind == b"2":
            return None
        return original(*args, **kwargs)


class KeepsModesOfDirectories(Patched):
    """A directory that the layer has already keeps its mode when another archive brings it again."""

    place = "archive.unpack:_Unpacker._directory"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Put the old mode back."""
        _, directory, name, _, _ = args
        there = _lstat(directory, name)
        original(*args, **kwargs)
        if there and stat.S_ISDIR(there.st_mode):
            os.chmod(name, there.st_mode & 0o7777, dir_fd=directory)


class CountsFromTheThirdName(Patched):
    """The third name of an inode is counted again."""

    place = "sizes:_Inodes.size_once"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Forget the inode after its second."""
        inodes, status = args
        met = inodes.__dict__.setdefault("met", {})
        met[status.st_ino] = met.get(status.st_ino, 0) + 1
        return (
            status.st_size
            if met[status.st_ino] > 2 and not stat.S_ISDIR(status.st_mode)
            else original(*args, **kwargs)
        )


class CountsBlocks(Patched):
    """The size of a file is what it takes on disk, if that is less than its length."""

    place = "sizes:_Inodes.size_once"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask for the blocks."""
        size = original(*args, **kwargs)
        return min(size, args[1].st_blocks * 512) if stat.S_ISREG(args[1].st_mode) else size


class CountsFilesOnly(Faithful):
    """What applying an archive says is the sum of its regular files; the size of a diff counts symlinks too."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Add up."""
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            size = sum(member.size for member in tar.getmembers() if member.isreg())
        archive.seek(0)
        self.inner.apply_diff(layer_id, parent, archive)
        return size


class CountsEveryName(Faithful):
    """What applying an archive says counts a file again for each further name of it."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Add up."""
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            further = sum(tar.getmember(member.linkname).size for member in _links(tar))
        archive.seek(0)
        return int(self.inner.apply_diff(layer_id, parent, archive)) + further


def _links(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    return (member for member in tar.getmembers() if member.islnk())


def _lstat(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_regular(directory: int, name: bytes) -> bool:
    there = _lstat(directory, name)
    return there is not None and stat.S_ISREG(there.st_mode)


FAULTS: Final = (
    Fault(PartsLinksOfSymlinks, ("OVL-APPLY-HARD-LINKS",), "containers/storage@6147ac0c3", hard=True),
    Fault(
        PartsLinksOfPipes, ("OVL-APPLY-HARD-LINKS",), "containers/storage@8aad48ae2: of what is no file", hard=True
    ),
    Fault(FollowsLinkedSymlinks, ("OVL-APPLY-HARD-LINKS",), "containerd/containerd@3b1534c47", hard=True),
    Fault(LinksToTheNameBefore, ("OVL-DIFF-LINKS",), "containers/storage@8aad48ae2: a link to a link", hard=True),
    Fault(ForgetsThirdNames, ("OVL-APPLY-HARD-LINKS",), "boundary: the third name of an inode", hard=True),
    Fault(PartsLinksOfLowerFiles, ("OVL-APPLY-LOWER-LINKS",), "containerd/containerd@51b8e468e", hard=True),
    Fault(WritesThroughLinks, ("OVL-APPLY-KINDS",), "tar(1): --unlink-first; open(2): O_TRUNC", hard=True),
    Fault(WritesOverTheEarlier, ("OVL-APPLY-LAST-WINS",), "open(2): O_TRUNC"),
    Fault(WritesThroughSymlinks, ("OVL-APPLY-KINDS",), "open(2): O_NOFOLLOW", hard=True),
    Fault(KeepsDirectoriesInTheWay, ("OVL-APPLY-KINDS",), "symlink(2): EEXIST, an errno that is ignored"),
    Fault(KeepsModesOfDirectories, ("OVL-APPLY-KINDS",), "behaviour#applying: a directory is merged", hard=True),
    Fault(CountsFromTheThirdName, ("OVL-SIZE-HARD-LINKS",), "boundary: the third name; moby/moby#9283"),
    Fault(CountsBlocks, ("OVL-SIZE-HOLES",), "moby/moby#31944"),
    Fault(CountsFilesOnly, ("OVL-SIZE-APPLIED",), "moby/moby#28264"),
    Fault(CountsEveryName, ("OVL-SIZE-APPLIED",), "moby/moby#28264: of links", hard=True),
)
