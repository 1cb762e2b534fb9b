"""Archives into layers, without any way out of them.

The destination is the root of everything: parents are opened one component at a time, relative to it, and a
symlink on the way is followed as a process with that root would follow it, so an absolute one or any number
of ``..`` ends inside (what RESOLVE_IN_ROOT of openat2(2) does, on any kernel). The last component of a name is
never followed. The archive is read by the calling thread with its own root, so nothing is ever loaded from
the layer.

Within one archive whiteouts speak of what lay below it: an entry that the archive itself brings stays,
whichever of the two comes first (OCI image specification, layer.md).

Two entries of one name are applied in order, though layer.md forbids them: the later one replaces the earlier, and
a directory is merged with a directory. A directory that replaces a file therefore shows nothing of a lower
directory of that name, which the file hid. A whiteout below a file deletes nothing. An entry below a file of the
same archive is BadArchive; an older file is replaced by the directory that the entry needs. A layer's diff and a
mounted tree agree on all of this.

An opaque whiteout at the root of the archive hides all that lay below the layer. The kernel merges the roots of all
layers whatever their attributes say, so in a layer's diff it becomes a whiteout for each name that the lowers show.

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
from refdriver.archive.clearing import Clearing, remove_if_empty
from refdriver.archive.clearing import remove_whiteouts as _remove_whiteouts
from refdriver.archive.reader import ArchiveReader
from refdriver.archive.roots import Root, clean_name
from refdriver.archive.source import Readable
from refdriver.archive.tarformat import Member
from refdriver.archive.times import DirectoryTimes
from refdriver.descent import READ
from refdriver.errors import BadArchive, BreakoutAttempt, IncompatibleFilesystem, NeedsRoot
from refdriver.idmap import IdMaps
from refdriver.overlayxattr import (
    OverlayXattrs,
    is_carried,
    is_directory_below,
    is_whiteout_device,
    names_below,
)
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
    with Root(destination, ids.root) as root, tempfile.TemporaryFile() as file:
        times = DirectoryTimes(root, file)
        unpacker = _Unpacker(reader, root, ids, target, times)
        for member in reader.members():
            unpacker.add(member)
        unpacker.remove_hidden_whiteouts()
        times.set()
        return unpacker.size if unpacker.size_is_known else layer_size(destination)


class _Unpacker:
    """One archive on its way into one root."""

    def __init__(
        self, reader: ArchiveReader, root: Root, ids: IdMaps, target: Native | Merged, times: DirectoryTimes
    ) -> None:
        self._reader = reader
        self._root = root
        self._ids = ids
        self._times = times
        self._overlay = target.overlay if isinstance(target, Native) else None
        self._lowers = target.lowers if isinstance(target, Native) else ()
        # What this archive brought is what a layer's diff holds, if that was empty; else it has to be remembered:
        # in a mounted tree a deletion copies directories up, too.
        self._written: set[bytes] | None = set() if self._overlay is None or os.listdir(root.path) else None
        self._clearing = Clearing(lambda path: self._brought(path), lambda but: root.forget(but=but))
        self._implied: set[bytes] = set()  # real paths of directories that whiteouts in them made, and nothing else
        self._opaque: set[bytes] = set()  # real paths of directories that this archive made opaque
        self._root_is_opaque = False
        self._owner_in_archive = (-1, -1)
        self._owner = (0, 0)  # on the host, of the same
        self.size = 0
        # Where something was there before, or is removed again, the directory has to be looked through.
        self.size_is_known = self._written is None or self._overlay is None

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
        if name != whiteouts.OPAQUE and deleted is None:
            self._own_as(member)
            self._entry(self._root.directory(parent, self._replace_older), name, path, member)
            return
        # What a whiteout names lies at exactly that path: behind a symlink there is nothing of that name.
        hides = self._hides_lowers(parent)
        # In a mounted tree a whiteout removes: where its directory is not, there is nothing to make or to remove.
        make_missing = hides and self._overlay is not None
        missing = self._missing(parent) if make_missing else []
        with self._root.plain_directory(parent, _nothing_below, make_missing=make_missing) as directory:
            if directory is None:
                return
            self._implied.update(missing)
            if deleted is None and not parent:
                self._make_root_opaque(member)
            elif deleted is None:
                self._make_opaque(directory)
            else:
                self._delete(directory, deleted, member, hides=hides)

    def _missing(self, directory: bytes) -> list[bytes]:
        """The real paths of the directories on the way to a directory that are not there; none behind a symlink."""
        found: list[bytes] = []
        path = b"/" + directory
        while path != b"/" and not os.path.lexists(self._root.path + path):
            found.append(path)
            path = os.path.dirname(path)
        return found

    def _root_entry(self, member: Member) -> None:
        if member.kind != tarformat.DIRECTORY:
            raise BreakoutAttempt(f"the archive would replace the layer's root by {member.name!r}, no directory")

    def _own_as(self, member: Member) -> None:
        """Note who an entry is going to belong to; raises BadArchive. Most have the owner of the one before."""
        if (member.uid, member.gid) != self._owner_in_archive:
            self._owner = metadata.owner(self._ids, member)
            self._owner_in_archive = member.uid, member.gid

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
        if self._written is not None or self._implied:
            self._note_brought(self._real_path(directory, name))

    def _note_brought(self, path: bytes) -> None:
        """Remember a path and the directories above: a whiteout of one of them leaves what the archive brought."""
        while path and (self._written is None or path not in self._written or path in self._implied):
            self._implied.discard(path)
            if self._written is not None:
                self._written.add(path)
            path = path.rpartition(b"/")[0]

    def _regular(self, directory: int, name: bytes, member: Member) -> None:
        fd = self._make(directory, name, lambda: os.open(name, _NEW_FILE, 0o600, dir_fd=directory))
        try:
            self._reader.copy_data(fd)
            metadata.chown(fd, self._owner, member, None)
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
                self._hide_what_was_hidden(directory, name)
        fd = self._root.directory(path, None)
        if merged:
            self._drop_other_xattrs(fd, member)
        self._finish_directory(fd, member)

    def _finish_directory(self, fd: int, member: Member) -> None:
        name = _by_descriptor(fd)
        self._chown(name, member)
        self._set_xattrs(name, member)
        os.chmod(name, member.mode)
        self._times.note(self._real_path(fd, b"").rstrip(b"/"), member.mtime)

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
        there = _lstat_or_none(directory, name)
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
        self.size_is_known = self._overlay is None
        self._root.forget(but=directory)  # a directory that goes may be one that the root has open
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            self._times.removed(self._real_path(directory, name))
        remove_entry(name, directory)

    def _hides_lowers(self, directory: bytes) -> bool:
        """Whether a whiteout in this directory would hide something, or be seen as a device.

        The kernel filters whiteouts out of directories that it merges; one that shows the upper alone it passes
        on as it is (overlayfs.rst, readdir). A mounted tree has no whiteouts to be seen.
        """
        if self._overlay is None:
            return True
        parts = [part for part in directory.split(b"/") if part]
        above = [b"/".join([self._root.path, *parts[:end]]) for end in range(len(parts) + 1)]
        # Behind a symlink nothing is named, and it may lead to itself or out of the layer.
        if any(os.path.islink(one) or self._overlay.is_opaque(one) for one in above):
            return False
        return is_directory_below(self._lowers, parts, self._overlay)

    def _delete(self, directory: int, name: bytes, member: Member, *, hides: bool) -> None:
        if self._overlay is None:
            self._delete_older(directory, name, self._real_path(directory, name))
            return
        status = _lstat_or_none(directory, name)
        if (
            status is not None
            and not is_whiteout_device(status)
            and self._brought(self._real_path(directory, name))
        ):
            if stat.S_ISDIR(status.st_mode):
                self._make_opaque_by_name(directory, name)
            return
        self._own_as(member)
        self._root.forget(but=directory)
        if status is not None:
            self.size_is_known = False
            remove_entry(name, directory)
        if not hides:
            return
        try:
            os.mknod(name, stat.S_IFCHR | 0o600, 0, dir_fd=directory)
        except PermissionError as error:
            raise NeedsRoot(f"cannot make the whiteout {member.name!r}: {error.strerror}") from error
        self._chown(name, member, directory)

    def _make_opaque(self, directory: int) -> None:
        path = self._real_path(directory, b"")
        if self._written is not None or self._implied:  # else the layer was empty, and entries brought all of it
            self.size_is_known = self._overlay is None
            self._clearing.clear(directory, path)
        self._mark_opaque(directory, path)

    def _mark_opaque(self, directory: int, path: bytes) -> None:
        if self._overlay is not None and path != b"/":
            self._set_xattr(_by_descriptor(directory), self._overlay.opaque, b"y", b"an opaque mark")
            self._opaque.add(path)

    def _make_root_opaque(self, member: Member) -> None:
        self._make_opaque(self._root.fd)
        if self._overlay is not None and not self._root_is_opaque:
            self._root_is_opaque = True
            for name in names_below(self._lowers, self._overlay):
                self._delete(self._root.fd, name, member, hides=True)

    def _make_opaque_by_name(self, directory: int, name: bytes) -> None:
        fd = os.open(name, READ, dir_fd=directory)
        try:
            self._make_opaque(fd)
        finally:
            os.close(fd)

    def remove_hidden_whiteouts(self) -> None:
        """Below a directory that hides its lowers no whiteout is needed, and it would be seen as a device.

        Once at the end for each such directory that is not below another: at each opaque whiteout it would take
        n files and n opaque whiteouts n * n steps.
        """
        done = b"\0"
        for path in sorted(self._opaque):
            if path.startswith(done):
                continue
            with self._root.plain_directory(path.strip(b"/"), None, make_missing=False) as directory:
                if directory is not None and self._is_opaque(directory):
                    _remove_whiteouts(_by_descriptor(directory))
                    done = path

    def _is_opaque(self, directory: int) -> bool:
        return self._overlay is not None and self._overlay.is_opaque(_by_descriptor(directory))

    def _delete_older(self, directory: int, name: bytes, path: bytes) -> None:
        """Remove an entry of the merged tree, but for what this archive brought."""
        status = _lstat_or_none(directory, name)
        if status is None:
            return
        brought = self._brought(path)
        if stat.S_ISDIR(status.st_mode):
            fd = os.open(name, READ, dir_fd=directory)
            try:
                self._clearing.clear(fd, path + b"/")
            finally:
                os.close(fd)
            if not brought:
                remove_if_empty(directory, name)
        elif not brought:
            os.unlink(name, dir_fd=directory)

    def _brought(self, path: bytes) -> bool:
        """Whether this archive brought what is at a real path below the root."""
        if self._written is not None:
            return path in self._written
        if path in self._implied:
            return False
        try:
            return not is_whiteout_device(os.lstat(self._root.path + path))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _real_path(self, directory: int, name: bytes) -> bytes:
        """``/DIRECTORY/NAME`` below the root, whatever symlinks led there."""
        return os.readlink(os.fsencode(_by_descriptor(directory)))[len(self._root.path) :] + b"/" + name

    def _replace_older(self, directory: int, name: bytes) -> bool:
        """Make a parent where a whiteout or an older file is; False if the archive itself brought that file."""
        status = _lstat_or_none(directory, name)
        if status is None or (not is_whiteout_device(status) and self._brought(self._real_path(directory, name))):
            return False
        self.size_is_known = self._overlay is None
        os.unlink(name, dir_fd=directory)
        os.mkdir(name, 0o755, dir_fd=directory)
        os.chmod(name, 0o755, dir_fd=directory)  # whatever the umask is
        os.chown(name, *self._ids.root, dir_fd=directory)
        self._hide_what_was_hidden(directory, name)
        return True

    def _hide_what_was_hidden(self, directory: int, name: bytes) -> None:
        """A new directory shows nothing of the lowers where a whiteout or a file hid them.

        It is empty: to clear it would only close descriptors that are in use.
        """
        path = self._real_path(directory, name)
        if self._overlay is not None and self._hides_lowers(path.strip(b"/")):
            fd = os.open(name, READ, dir_fd=directory)
            try:
                self._mark_opaque(fd, path + b"/")
            finally:
                os.close(fd)

    def _chown(self, target: int | bytes | str, member: Member, directory: int | None = None) -> None:
        self._own_as(member)
        metadata.chown(target, self._owner, member, directory)

    def _set_xattrs(self, target: int | str, member: Member) -> None:
        for name, value in member.xattrs.items():
            if self._is_carried(name):
                self._set_xattr(target, name, value, member.name)

    def _drop_other_xattrs(self, directory: int, member: Member) -> None:
        """A directory that was there gets the archive's attributes, and keeps none that the archive lacks."""
        target = _by_descriptor(directory)
        for name in os.listxattr(target):
            if self._is_carried(name) and name not in member.xattrs:
                os.removexattr(target, name)

    def _is_carried(self, name: str) -> bool:
        return is_carried(name)

    def _set_xattr(self, target: int | str, name: str, value: bytes, owner: bytes) -> None:
        metadata.set_xattr(target, name, value, owner)


def _by_descriptor(fd: int) -> str:
    """A path to an open directory, for calls that refuse descriptors without read access."""
    return f"/proc/self/fd/{fd}"


def _nothing_below(_: int, name: bytes) -> bool:
    """Below a whiteout or a file nothing can be deleted, and the lower's directory is hidden already."""
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _lstat_or_none(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
