"""Diffs of a mounter's layers, written by the harness as OCI layers (image-spec/layer.md).

The diff of a layer and its parent is its upper directory, with whiteouts and opaque directories in the form of
archives. It shows what the mounter stored. Any other diff, and one of an upper that refers to lowers for its
content (redirect_dir, metacopy), compares two mounted trees.
"""

from __future__ import annotations

import filecmp
import os
import stat
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.drivers.mounter import marks

_NS: Final = 10**9
_KINDS: Final = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}
_XATTR: Final = "SCHILY.xattr."
_HIDDEN: Final = (*marks.INTERNAL, "security.selinux", "trusted.")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree, or a whiteout if ``status`` is None."""

    path: bytes
    status: os.stat_result | None = None


def native(upper: Path, lowers: Sequence[Path], *, names_of_aufs: bool) -> list[Entry] | None:
    """What an upper directory has, in the order of an archive; None if some of its content is in lowers.

    An opaque directory gets an opaque whiteout if there is a directory below to hide. Names of AUFS are those of
    the mounter's whiteouts if ``names_of_aufs``, and left out if not: an archive has no other meaning for them.
    """
    root = os.fsencode(upper)
    found: list[Entry] = []
    pending = [b""]
    while pending:
        path = pending.pop()
        directory = os.path.join(root, path)
        names = os.listdir(directory)
        if path and marks.is_opaque(directory) and marks.kind_below(lowers, path) == "directory":
            found.append(Entry(_join(path, marks.OPAQUE)))
        for name in names:
            entry = _join(path, name)
            status = os.lstat(os.path.join(root, entry))
            if name.startswith(marks.PREFIX):
                # A whiteout device of such a name deletes what no archive can name.
                if names_of_aufs and name != marks.OPAQUE and stat.S_ISREG(status.st_mode):
                    found.append(Entry(entry))
                continue
            if marks.has_content_elsewhere(os.path.join(root, entry)):
                return None
            if marks.is_whiteout(status):
                found.append(Entry(_join(path, marks.PREFIX + name)))
                continue
            if not stat.S_ISSOCK(status.st_mode):
                found.append(Entry(entry, status))
            if stat.S_ISDIR(status.st_mode):
                pending.append(entry)
    return _in_order(found)


def compared(old: str, new: str) -> list[Entry]:
    """The difference of two mounted trees, in the order of an archive; ``old`` is "" for an empty one.

    All names of an inode are in it if one of them is, or if other names are linked than before.
    """
    found: list[Entry] = []
    _compare(os.fsencode(old), os.fsencode(new), b"", found)
    entries = {one.path: one for one in found}
    root = os.fsencode(new)
    before, after = _groups(os.fsencode(old)) if old else {}, _groups(root)
    for path, names in after.items():
        linked_before = before.get(path, frozenset((path,)))
        apart = (linked_before & after.keys()) - names
        if apart or names - linked_before or names & entries.keys():
            while path and path not in entries:
                entries[path] = Entry(path, os.lstat(os.path.join(root, path)))
                path = os.path.dirname(path)
    return _in_order(entries.values())


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    """By path, as the reproducers sort them, too: a directory comes before what is in it."""
    return sorted(entries, key=lambda one: one.path)


def _groups(root: bytes) -> dict[bytes, frozenset[bytes]]:
    """All names of the same inode, by each of them; whatever st_nlink is, which FUSE may not know."""
    inodes: dict[tuple[int, int], set[bytes]] = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        for name in os.listdir(os.path.join(root, path)):
            entry = _join(path, name)
            status = os.lstat(os.path.join(root, entry))
            if stat.S_ISDIR(status.st_mode):
                pending.append(entry)
            elif not name.startswith(marks.PREFIX):
                inodes.setdefault(_inode(status), set()).add(entry)
    return {name: frozenset(names) for names in inodes.values() for name in names}


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _compare(old: bytes, new: bytes, path: bytes, found: list[Entry]) -> None:
    before = set(os.listdir(os.path.join(old, path))) if old else set()
    after = sorted(os.listdir(os.path.join(new, path)))
    found += [Entry(_join(path, marks.PREFIX + name)) for name in sorted(before - set(after))]
    for name in after:
        if name.startswith(marks.PREFIX):
            continue
        entry = _join(path, name)
        status = os.lstat(os.path.join(new, entry))
        if stat.S_ISSOCK(status.st_mode):
            continue
        is_new = name not in before or stat.S_IFMT(os.lstat(os.path.join(old, entry)).st_mode) != stat.S_IFMT(
            status.st_mode
        )
        size = len(found)
        if stat.S_ISDIR(status.st_mode):
            _compare(b"" if is_new else old, new, entry, found)
        if is_new or len(found) > size or _differ(os.path.join(old, entry), os.path.join(new, entry), status):
            found.append(Entry(entry, status))


def _differ(old: bytes, new: bytes, status: os.stat_result) -> bool:
    before = os.lstat(old)
    fields = ("st_mode", "st_uid", "st_gid", "st_rdev")
    if any(getattr(before, one) != getattr(status, one) for one in fields) or _xattrs(old) != _xattrs(new):
        return True
    if stat.S_ISDIR(status.st_mode):
        return False
    if before.st_mtime_ns != status.st_mtime_ns or before.st_size != status.st_size:
        return True
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(old) != os.readlink(new)
    return stat.S_ISREG(status.st_mode) and not filecmp.cmp(old, new, shallow=False)


def write(root: str | Path, entries: Sequence[Entry], archive: Path) -> None:
    """Write entries of a tree to a file; raises OSError."""
    base = os.fsencode(root)
    first: dict[tuple[int, int], bytes] = {}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        for entry in entries:
            info = tarfile.TarInfo(os.fsdecode(entry.path))
            if entry.status is None:
                info.mode = 0o600
                tar.addfile(info)
                continue
            path = os.path.join(base, entry.path)
            _describe(info, path, entry.status)
            inode = _inode(entry.status)
            if not info.isdir():  # whatever st_nlink is, which FUSE may not know
                if inode in first:
                    info.type, info.size, info.linkname = tarfile.LNKTYPE, 0, os.fsdecode(first[inode])
                first.setdefault(inode, entry.path)
            if info.isreg():
                with open(path, "rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)


def _describe(info: tarfile.TarInfo, path: bytes, status: os.stat_result) -> None:
    info.type = _KINDS[stat.S_IFMT(status.st_mode)]
    info.mode = stat.S_IMODE(status.st_mode)
    info.uid, info.gid = status.st_uid, status.st_gid
    info.mtime = status.st_mtime_ns // _NS
    if info.isreg():
        info.size = status.st_size
    elif info.issym():
        info.linkname = os.fsdecode(os.readlink(path))
    elif info.ischr() or info.isblk():
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    values = _xattrs(path).items()
    records = {_XATTR + name: value.decode("utf-8", "surrogateescape") for name, value in values}
    if status.st_mtime_ns % _NS or info.mtime < 0:
        records["mtime"] = decimal(status.st_mtime_ns)
    info.pax_headers = records


def decimal(time_ns: int) -> str:
    """A time in seconds with all of its digits, as a pax record has it."""
    seconds, rest = divmod(abs(time_ns), _NS)
    return f"{'-' if time_ns < 0 else ''}{seconds}.{rest:09d}"


def _xattrs(path: bytes) -> dict[str, bytes]:
    """The attributes that a layer carries."""
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith(_HIDDEN)
    }


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
