"""Archives into layers, without any way out of them.

The destination is the root of everything: parents are opened one component at a time, relative to it, and a
symlink on the way is followed as a process with that root would follow it, so an absolute one or any number
of ``..`` ends inside (what RESOLVE_IN_ROOT of openat2(2) does, on any kernel). The last component of a name is
never followed. The archive is read by the calling thread with its own root, so nothing is ever loaded from
the layer.

Two entries of one name are applied in order, though layer.md forbids them: the later one replaces the earlier, and
a directory is merged with a directory. A directory that replaces a file therefore shows nothing of a lower
directory of that name, which the file hid. A whiteout below a file deletes nothing. An entry below a file of the
same archive is BadArchive; an older file is replaced by the directory that the entry needs. A layer's diff and a
mounted tree agree on all of this.

The archive's entry for the root itself (``./``) says nothing about the layer: its mode, owner, times and
attributes are ignored, as the overlay driver of containers-storage ignores them, and only a root that is no
directory is refused. The root belongs to the driver. An archive made from a private directory would else close the
whole tree, but only until a layer is built on it, whose own root the kernel shows; and no diff carries that entry.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from refdriver.archive import metadata, tarformat, whiteouts
from refdriver.archive.deleting import Deletions
from refdriver.archive.reader import ArchiveReader
from refdriver.archive.roots import Root, by_descriptor, clean_name, lstat_or_none
from refdriver.archive.source import Readable
from refdriver.archive.tarformat import Member
from refdriver.archive.times import DirectoryTimes
from refdriver.errors import BadArchive, BreakoutAttempt, IncompatibleFilesystem, NeedsRoot
from refdriver.idmap import IdMaps
from refdriver.overlayxattr import OverlayXattrs, is_carried, is_whiteout_device
from refdriver.sizes import layer_size
from refdriver.trees import remove_entry

_T = TypeVar("_T")
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAJOR_MAX: Final = (1 << 12) - 1  # dev_t of the kernel: 12 and 20 bits
_MINOR_MAX: Final = (1 << 20) - 1
_DEVICES: Final = {tarformat.CHARACTER: stat.S_IFCHR, tarformat.BLOCK_DEVICE: stat.S_IFBLK}


@dataclass(frozen=True, slots=True)
class Native:
    """The destination is a layer's diff over these lowers, uppermost first: deletions become overlay's marks."""

    overlay: OverlayXattrs
    lowers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """The destination shows a whole tree: deletions delete."""


def unpack(archive: Readable, destination: str, ids: IdMaps, target: Native | Merged) -> int:
    """Unpack an archive into a directory; the bytes that its files and symlinks hold.

    Of a layer's diff it is all that is there, each inode once (:func:`refdriver.sizes.layer_size`). Raises
    BadArchive, BreakoutAttempt, NeedsRoot (devices and owners in a user namespace) and IncompatibleFilesystem
    (attributes that the filesystem cannot hold). The destination is then half done: the caller throws it away.
    """
    import tempfile  # with what it imports, a sixth of the time that a verb of the command takes to begin

    reader = ArchiveReader(archive)
    owners = metadata.Owners(ids)
    with Root(destination, ids.root) as root, tempfile.TemporaryFile() as file:
        times = DirectoryTimes(root, file)
        overlay, lowers = (target.overlay, target.lowers) if isinstance(target, Native) else (None, ())
        deletions = Deletions(root, owners, overlay, lowers)
        unpacker = _Unpacker(reader, root, owners, times, deletions)
        for member in reader.members():
            unpacker.add(member)
        deletions.remove_hidden_whiteouts()
        times.set()
        # A layer's diff with something older in it, or removed again, has to be looked through.
        return layer_size(destination) if overlay and deletions.found_older else unpacker.size


class _Unpacker:
    """One archive on its way into one root."""

    def __init__(
        self,
        reader: ArchiveReader,
        root: Root,
        owners: metadata.Owners,
        times: DirectoryTimes,
        deletions: Deletions,
    ) -> None:
        self._reader = reader
        self._root = root
        self._owners = owners
        self._times = times
        self._deletions = deletions
        self.size = 0

    def add(self, member: Member) -> None:
        """Unpack one entry; its data comes from the reader."""
        path = clean_name(member.name, "entry")
        parent, _, name = path.rpartition(b"/")
        deleted = None
        if whiteouts.PREFIX in path:
            if any(
                part.startswith(whiteouts.META_PREFIX) and part != whiteouts.OPAQUE for part in path.split(b"/")
            ):
                return  # AUFS keeps books of its own in these; they say nothing about the layer
            deleted = whiteouts.whited_out_name(name)
        elif not path:
            self._root_entry(member)
            return
        if name == whiteouts.OPAQUE or deleted is not None:
            self._deletions.apply(parent, deleted, member)
            return
        self._owners.of(member)  # refused before a parent is made
        self._entry(self._root.directory(parent, self._deletions.replace_older), name, path, member)

    def _root_entry(self, member: Member) -> None:
        if member.kind != tarformat.DIRECTORY:
            raise BreakoutAttempt(f"the archive would replace the layer's root by {member.name!r}, no directory")

    def _entry(self, directory: int, name: bytes, path: bytes, member: Member) -> None:
        if member.kind == tarformat.REGULAR:
            self._regular(directory, name, member)
        elif member.kind == tarformat.DIRECTORY:
            self._directory(directory, name, path, member)
        elif member.kind == tarformat.HARD_LINK:
            self._hard_link(directory, name, path, member)
        elif member.kind == tarformat.SYMLINK:
            self._symlink(directory, name, member)
        elif member.kind == tarformat.FIFO:
            self._make(directory, name, lambda: os.mkfifo(name, 0o600, dir_fd=directory))
            self._own(directory, name, member)
        else:
            self._device(directory, name, member)
        self._deletions.keep(directory, name)

    def _regular(self, directory: int, name: bytes, member: Member) -> None:
        fd = self._make(directory, name, lambda: os.open(name, _NEW_FILE, 0o600, dir_fd=directory))
        try:
            self._reader.copy_data(fd)
            self._chown(fd, member)
            if member.xattrs:
                self._set_xattrs(fd, member)  # after the owner: chown(2) clears security.capability
            os.fchmod(fd, member.mode)
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)
        self.size += member.size

    def _symlink(self, directory: int, name: bytes, member: Member) -> None:
        try:
            self._make(directory, name, lambda: os.symlink(member.target, name, dir_fd=directory))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise IncompatibleFilesystem(
                f"the filesystem cannot hold {member.name!r}, a symlink with a target of {len(member.target)} bytes"
            ) from error
        self._own(directory, name, member)
        self.size += os.stat(name, dir_fd=directory, follow_symlinks=False).st_size  # on fscrypt, not of the target

    def _directory(self, directory: int, name: bytes, path: bytes, member: Member) -> None:
        merged = False
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            merged = True
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                self._make(directory, name, lambda: os.mkdir(name, 0o700, dir_fd=directory))
                self._deletions.hide_what_was_hidden(directory, name)
        fd = self._root.directory(path, None)
        if merged:
            self._drop_other_xattrs(fd, member)
        self._finish_directory(fd, member)

    def _finish_directory(self, fd: int, member: Member) -> None:
        name = by_descriptor(fd)
        self._chown(name, member)
        self._set_xattrs(name, member)
        os.chmod(name, member.mode)
        self._times.note(self._root.real_path(fd, b"").rstrip(b"/"), member.mtime)

    def _hard_link(self, directory: int, name: bytes, path: bytes, member: Member) -> None:
        target = clean_name(member.target, "hard-link target")
        parts = target.split(b"/")
        if any(part.startswith(whiteouts.META_PREFIX) for part in parts):
            raise BadArchive(f"{member.name!r} is a hard link to AUFS's own {member.target!r}, which is not kept")
        if target == path:
            return
        parent, _, target_name = target.rpartition(b"/")
        try:
            source = self._root.existing_directory(parent)
            status = os.stat(target_name, dir_fd=source, follow_symlinks=False)
        except OSError as error:
            raise BadArchive(
                f"{member.name!r} is a hard link to {member.target!r}, which is not there: {error.strerror}"
            ) from error
        if stat.S_ISDIR(status.st_mode) or is_whiteout_device(status):
            raise BadArchive(f"{member.name!r} is a hard link to {member.target!r}, a directory or a whiteout")
        there = lstat_or_none(directory, name)
        if there is not None and (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
            return  # it is that link already
        if there is not None:
            self._remove(directory, name)
            try:
                source = self._root.existing_directory(parent)  # the removal closed what was open, and may be of it
            except OSError as error:
                raise BadArchive(
                    f"{member.name!r} takes the place of the directory of its target {member.target!r}"
                ) from error
        os.link(target_name, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)

    def _device(self, directory: int, name: bytes, member: Member) -> None:
        if member.major > _MAJOR_MAX or member.minor > _MINOR_MAX or min(member.major, member.minor) < 0:
            raise BadArchive(f"{member.name!r} is device {member.major}:{member.minor}, out of the kernel's range")
        number = os.makedev(member.major, member.minor)
        kind = _DEVICES[member.kind]
        if kind == stat.S_IFCHR and number == 0:
            raise BadArchive(f"{member.name!r} is the device 0:0, which overlay takes for a whiteout")
        try:
            self._make(directory, name, lambda: os.mknod(name, kind | 0o600, number, dir_fd=directory))
        except PermissionError as error:
            raise NeedsRoot(f"{member.name!r} is a device; making one needs real root") from error
        self._own(directory, name, member)

    def _own(self, directory: int, name: bytes, member: Member) -> None:
        """Owner, mode and times of what was just made and is neither file nor directory."""
        self._chown(name, member, directory)
        if member.kind != tarformat.SYMLINK:
            os.chmod(name, member.mode, dir_fd=directory)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=directory, follow_symlinks=False)

    def _make(self, directory: int, name: bytes, make: Callable[[], _T]) -> _T:
        """Make a new entry in the place of whatever has its name."""
        try:
            return make()
        except FileExistsError:
            self._remove(directory, name)
            return make()

    def _remove(self, directory: int, name: bytes) -> None:
        """Remove what another entry replaces."""
        self._deletions.found_older = True
        self._root.forget(but=directory)  # a directory that goes may be one that the root has open
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            self._times.removed(self._root.real_path(directory, name))
        remove_entry(name, directory)

    def _chown(self, target: int | bytes | str, member: Member, directory: int | None = None) -> None:
        metadata.chown(target, self._owners.of(member), member, directory)

    def _set_xattrs(self, target: int | str, member: Member) -> None:
        for name, value in member.xattrs.items():
            if self._is_carried(name):
                self._set_xattr(target, name, value, member.name)

    def _drop_other_xattrs(self, directory: int, member: Member) -> None:
        """A directory that was there gets the archive's attributes, and keeps none that the archive lacks."""
        target = by_descriptor(directory)
        for name in os.listxattr(target):
            if self._is_carried(name) and name not in member.xattrs:
                os.removexattr(target, name)

    def _is_carried(self, name: str) -> bool:
        return is_carried(name)

    def _set_xattr(self, target: int | str, name: str, value: bytes, owner: bytes) -> None:
        metadata.set_xattr(target, name, value, owner)
