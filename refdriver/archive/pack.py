"""Layers into archives.

Entries come in the order of their paths, with ``/`` lowest, so that the same tree gives the same bytes.
Everything is opened relative to its directory and never through a symlink.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from refdriver.archive import tarformat, whiteouts
from refdriver.archive.stream import Chunk, Chunks, FileData
from refdriver.archive.tarformat import Member
from refdriver.changes import Change, ChangeKind
from refdriver.descent import READ, Descent
from refdriver.errors import UnreadableLayer
from refdriver.idmap import IdMaps
from refdriver.overlayxattr import OverlayXattrs, is_carried, is_whiteout_device

_SMALL: Final = 1 << 16  # bytes; up to here a file is read into the chunk, beyond it is moved
_CHUNK: Final = 1 << 17  # bytes gathered before they are handed on
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_READ_UNSEEN: Final = _READ | os.O_NOATIME
_WHITEOUT_MODE: Final = 0o600
_ENCODING: Final = sys.getfilesystemencoding()  # as os.fsencode has it, which asks for both at each name
_ERRORS: Final = sys.getfilesystemencodeerrors()
_NOTHING: Final[tuple[Chunk, ...]] = ()
_KINDS: Final = {
    stat.S_IFLNK: tarformat.SYMLINK,
    stat.S_IFCHR: tarformat.CHARACTER,
    stat.S_IFBLK: tarformat.BLOCK_DEVICE,
    stat.S_IFIFO: tarformat.FIFO,
}


def pack_tree(
    root: str, ids: IdMaps, overlay: OverlayXattrs | None, at_end: Callable[[], None] = lambda: None
) -> Chunks:
    """A whole tree. With ``overlay`` it is a layer's diff, whose marks become whiteouts; else a plain tree.

    Raises UnreadableLayer while it is read, and what ``at_end`` raises, which is called before the end is given.
    """
    packer = _Packer(ids, overlay)
    with Descent(_open(None, os.fsencode(root), b"")) as way:
        # (name of a directory with a slash, names in it still to come)
        levels = [(b"", _names(way.here, b""))]
        while levels:
            prefix, names = levels[-1]
            name = next(names, None)
            if name is None:
                levels.pop()
                if levels:
                    _up(way, prefix)
                continue
            here = way.here
            status = _lstat(here, name, prefix)
            if chunks := packer.entry(here, name, prefix + name, status):
                yield from chunks
            if stat.S_ISDIR(status.st_mode):
                path = prefix + name + b"/"
                _down(way, name, path)
                levels.append((path, _names(way.here, path)))
        at_end()
        yield packer.finish()


def pack_changes(
    root: str, changes: Iterable[Change], ids: IdMaps, at_end: Callable[[], None] = lambda: None
) -> Chunks:
    """What ``changes`` (in order of path) name of a plain tree; deletions become whiteouts.

    Raises UnreadableLayer while it is read, and what ``at_end`` raises, as :func:`pack_tree` does.
    """
    packer = _Packer(ids, None)
    with Descent(_open(None, os.fsencode(root), b"")) as way:
        reached = [b""]  # the path of each directory on the way
        for change in changes:
            path = change.path[1:]
            parent, _, name = path.rpartition(b"/")
            _walk_to(way, reached, parent)
            if change.kind is ChangeKind.DELETE:
                yield from packer.whiteout(path)
            else:
                yield from packer.entry(way.here, name, path, _lstat(way.here, name, parent + b"/"))
        at_end()
        yield packer.finish()


def _walk_to(way: Descent, reached: list[bytes], directory: bytes) -> None:
    """Make ``directory`` the last of the way, with as few steps as it takes."""
    while reached[-1] and not (directory + b"/").startswith(reached[-1] + b"/"):
        _up(way, reached.pop())
    last = reached[-1]
    for name in directory[len(last) :].strip(b"/").split(b"/"):
        if name:
            last = last + b"/" + name if last else name
            _down(way, name, last)
            reached.append(last)


def _down(way: Descent, name: bytes, path: bytes) -> None:
    try:
        way.down(name)
    except OSError as error:
        raise _unreadable(path, error) from error


def _up(way: Descent, path: bytes) -> None:
    try:
        way.up()
    except OSError as error:
        raise _unreadable(path + b"/..", error) from error


def _names(directory: int, prefix: bytes) -> Iterator[bytes]:
    try:
        return iter(sorted([name.encode(_ENCODING, _ERRORS) for name in os.listdir(directory)]))
    except OSError as error:
        raise _unreadable(prefix, error) from error


def _open(parent: int | None, name: bytes, path: bytes) -> int:
    try:
        return os.open(name, READ, dir_fd=parent)
    except OSError as error:
        raise _unreadable(path or name, error) from error


def _open_file(directory: int, name: bytes, path: bytes) -> int:
    try:
        try:
            # To read a layer is not to use it: its access times stay.
            return os.open(name, _READ_UNSEEN, dir_fd=directory)
        except PermissionError:  # for owners that this user namespace does not map
            return os.open(name, _READ, dir_fd=directory)
    except OSError as error:
        raise _unreadable(path, error) from error


def _lstat(directory: int, name: bytes, prefix: bytes) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        raise _unreadable(prefix + name, error) from error


def _unreadable(path: bytes, error: OSError) -> UnreadableLayer:
    return UnreadableLayer(f"cannot read {path!r} for the archive: {error.strerror}")


class _Packer:
    """One archive in the making: entries go in, chunks come out."""

    def __init__(self, ids: IdMaps, overlay: OverlayXattrs | None) -> None:
        self._ids = None if ids.is_identity else ids
        self._overlay = overlay
        self._out = bytearray()
        self._first_names: dict[tuple[int, int], tuple[bytes, int]] = {}  # name, links still to come
        self._user_names: dict[int, bytes] = {}
        self._group_names: dict[int, bytes] = {}

    def finish(self) -> bytes:
        """What is left, and the end of the archive."""
        self._out += tarformat.END_OF_ARCHIVE
        return bytes(self._out)

    def whiteout(self, path: bytes) -> Iterable[Chunk]:
        """An entry that deletes ``path``: the same bytes whatever it was and however it was found."""
        parent, slash, name = path.rpartition(b"/")
        member = Member(parent + slash + whiteouts.PREFIX + name, tarformat.REGULAR, _WHITEOUT_MODE)
        self._out += tarformat.encode(member)
        return self._full()

    def entry(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> Iterable[Chunk]:
        """One entry of the tree, or the whiteout that stands for it; what is full of it, in most cases nothing."""
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return _NOTHING
        if kind == stat.S_IFCHR and self._overlay and is_whiteout_device(status):
            return self.whiteout(path)
        if name.startswith(whiteouts.PREFIX):
            raise UnreadableLayer(
                f"{path!r} cannot be in an archive: names that begin with .wh. say there what is deleted"
                " (OCI image specification, layer.md); rename it"
            )
        if kind == stat.S_IFDIR:
            self._directory(directory, name, path, status)
        elif status.st_nlink > 1 and (first := self._earlier_name(path, status)) is not None:
            self._out += tarformat.encode(self._member(path, tarformat.HARD_LINK, status, target=first))
        elif kind == stat.S_IFREG:
            return self._regular(directory, name, path, status)
        else:
            self._special(directory, name, path, status)
        return self._full()

    def _full(self, least: int = _CHUNK) -> tuple[Chunk, ...]:
        """What is gathered, if it is enough to be handed on."""
        if len(self._out) < least:
            return _NOTHING
        chunk = bytes(self._out)
        self._out.clear()
        return (chunk,)

    def _directory(self, parent: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        fd = _open(parent, name, path)
        try:
            member = self._member(path + b"/", tarformat.DIRECTORY, status, xattrs=self._xattrs(fd, path))
            self._out += tarformat.encode(member)
            if self._overlay and self._is_opaque(self._overlay, fd, path):
                opaque = self._member(path + b"/" + whiteouts.OPAQUE, tarformat.REGULAR, status)
                self._out += tarformat.encode(opaque)
        finally:
            os.close(fd)

    def _is_opaque(self, overlay: OverlayXattrs, fd: int, path: bytes) -> bool:
        try:
            return overlay.is_opaque(fd)
        except OSError as error:
            raise _unreadable(path, error) from error

    def _regular(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> Iterable[Chunk]:
        if status.st_size > _SMALL:
            return self._large(directory, name, path, status)
        fd = _open_file(directory, name, path)
        try:
            size = status.st_size
            names = _listxattr(fd, path)
            if names and self._overlay and not size and self._overlay.whiteout in names:
                return self.whiteout(path)
            xattrs = self._xattrs(fd, path, names) if names else None
            header = tarformat.encode(self._member(path, tarformat.REGULAR, status, size, b"", xattrs))
            self._out += header + _read_whole(fd, size, path) + bytes(tarformat.padding(size))
        finally:
            os.close(fd)
        return self._full() if len(self._out) >= _CHUNK else _NOTHING

    def _large(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> Chunks:
        """A file whose data is moved by whoever takes the chunks."""
        fd = _open_file(directory, name, path)
        try:
            size = status.st_size
            xattrs = self._xattrs(fd, path)
            self._out += tarformat.encode(self._member(path, tarformat.REGULAR, status, size, xattrs=xattrs))
            yield from self._full(least=1)
            yield FileData(fd, size, path)
            _read_whole(fd, 0, path)
            self._out += bytes(tarformat.padding(size))
        finally:
            os.close(fd)
        yield from self._full()

    def _special(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        target = b""
        if kind == tarformat.SYMLINK:
            try:
                target = os.readlink(name, dir_fd=directory)
            except OSError as error:
                raise _unreadable(path, error) from error
        member = self._member(path, kind, status, target=target)
        if kind in (tarformat.CHARACTER, tarformat.BLOCK_DEVICE):
            member.major, member.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._out += tarformat.encode(member)

    def _member(
        self,
        path: bytes,
        kind: bytes,
        status: os.stat_result,
        size: int = 0,
        target: bytes = b"",
        xattrs: Mapping[str, bytes] | None = None,
    ) -> Member:
        uid, gid = status.st_uid, status.st_gid
        if self._ids is not None:
            uid, gid = self._owner(self._ids, path, status)
        user, group = self._user_names.get(uid), self._group_names.get(gid)
        if user is None:
            user = self._user_names[uid] = os.fsencode(_user_name(uid))
        if group is None:
            group = self._group_names[gid] = os.fsencode(_group_name(gid))
        mode = stat.S_IMODE(status.st_mode)
        xattrs = xattrs or tarformat.NO_XATTRS
        return Member(path, kind, mode, uid, gid, size, status.st_mtime_ns, target, user, group, 0, 0, xattrs)

    def _owner(self, ids: IdMaps, path: bytes, status: os.stat_result) -> tuple[int, int]:
        uid, gid = ids.uid_to_container(status.st_uid), ids.gid_to_container(status.st_gid)
        if uid is None or gid is None:
            raise UnreadableLayer(
                f"{path!r} belongs to {status.st_uid}:{status.st_gid}, which the id maps do not map; chown it, or"
                " open the driver with maps that reach it"
            )
        return uid, gid

    def _earlier_name(self, path: bytes, status: os.stat_result) -> bytes | None:
        """The first name of an inode that was packed before; it is forgotten with its last link."""
        key = (status.st_dev, status.st_ino)
        first, left = self._first_names.pop(key, (None, status.st_nlink))
        if left > 1:
            self._first_names[key] = (first or path, left - 1)
        return first

    def _xattrs(self, fd: int, path: bytes, names: list[str] | None = None) -> dict[str, bytes]:
        found = {}
        for name in _listxattr(fd, path) if names is None else names:
            if is_carried(name):
                if "=" in name:
                    raise UnreadableLayer(
                        f"{path!r} has an attribute {name!r}, and PAX has no way to write its '='"
                    )
                try:
                    found[name] = os.getxattr(fd, name)
                except OSError as error:
                    raise _unreadable(path, error) from error
        return found


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def _listxattr(fd: int, path: bytes) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_whole(fd: int, size: int, path: bytes) -> bytes:
    """The next ``size`` bytes, which must be the last ones of the file."""
    try:
        data = os.read(fd, size + 1)
        if len(data) == size:
            return data
        if data and len(data) < size:  # a filesystem may give less at a time
            while more := os.read(fd, size + 1 - len(data)):
                data += more
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) != size:
        raise UnreadableLayer(f"{path!r} changed its size while it was read; nobody may change a layer meanwhile")
    return data
