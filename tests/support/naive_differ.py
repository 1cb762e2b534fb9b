"""A correct differ in few lines: ``python naive_differ.py LOWER UPPER ARCHIVE``.

tests/conformance/test_differs.py replaces single words of it: each mutant breaks one requirement.
"""

from __future__ import annotations

import os
import stat
import sys
import tarfile
from collections import defaultdict
from decimal import Decimal

lower, upper, archive = map(os.fsencode, sys.argv[1:])
TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def walk(root: bytes, above: bytes = b"") -> dict[bytes, os.stat_result]:
    """All paths of a tree, each directory before what is in it; sockets are in no archive."""
    found = {}
    for name in sorted(os.listdir(os.path.join(root, above))):
        path = os.path.join(above, name)
        status = os.lstat(os.path.join(root, path))
        if stat.S_IFMT(status.st_mode) in TYPES and not name.startswith(b".wh."):
            found[path] = status
            if stat.S_ISDIR(status.st_mode):
                found |= walk(root, path)
    return found


def about(root: bytes, path: bytes, status: os.stat_result) -> tuple[object, ...]:
    """What of an inode makes it another: attributes, content or target, and the time of all but directories."""
    at, kind = os.path.join(root, path), stat.S_IFMT(status.st_mode)
    content = b""
    if kind == stat.S_IFREG:
        with open(at, "rb") as file:
            content = file.read()
    elif kind == stat.S_IFLNK:
        content = os.readlink(at)
    time = 0 if kind == stat.S_IFDIR else status.st_mtime_ns
    return status.st_mode, status.st_uid, status.st_gid, status.st_rdev, time, content, attributes(at)


def attributes(at: bytes) -> dict[str, bytes]:
    names = os.listxattr(at, follow_symlinks=False)
    mine = [name for name in names if name.startswith(("user.", "security.capability"))]
    return {name: os.getxattr(at, name) for name in mine if not name.startswith("user.overlay.")}


def groups(tree: dict[bytes, os.stat_result]) -> dict[bytes, frozenset[bytes]]:
    names = defaultdict(set)
    for path, status in tree.items():
        names[(status.st_dev, status.st_ino)].add(path)
    return {path: frozenset(names[(status.st_dev, status.st_ino)]) for path, status in tree.items()}


def entry(path: bytes, status: os.stat_result) -> tarfile.TarInfo:
    info, at = tarfile.TarInfo(os.fsdecode(path)), os.path.join(upper, path)
    info.type = TYPES[stat.S_IFMT(status.st_mode)]
    info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    info.mtime = status.st_mtime_ns // 10**9
    info.size = status.st_size if info.isreg() else 0
    info.linkname = os.fsdecode(os.readlink(at)) if info.issym() else ""
    info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    info.pax_headers = {f"SCHILY.xattr.{key}": os.fsdecode(value) for key, value in attributes(at).items()}
    if status.st_mtime_ns % 10**9:
        info.pax_headers["mtime"] = str(Decimal(status.st_mtime_ns).scaleb(-9))
    return info


old, new = walk(lower), walk(upper)
old_groups, new_groups = groups(old), groups(new)
linked = {path for path in new if not stat.S_ISDIR(new[path].st_mode)}
same = {path for path in new if path in old and about(lower, path, old[path]) == about(upper, path, new[path])}
changed = new.keys() - same
changed |= {path for path in linked if new_groups[path] != old_groups.get(path, new_groups[path]) & new.keys()}
kept = {path for path in new if path in old and stat.S_ISDIR(new[path].st_mode) == stat.S_ISDIR(old[path].st_mode)}
gone = {path for path in old if path not in new and (os.path.dirname(path) in kept or b"/" not in path)}
wanted = set(changed)
for path in changed | gone:
    while path := os.path.dirname(path):
        wanted.add(path)
first: dict[frozenset[bytes], bytes] = {}
with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
    for path in sorted(wanted):
        info = entry(path, new[path])
        names = new_groups[path]
        if path in linked and names in first:
            info.type, info.size, info.linkname = tarfile.LNKTYPE, 0, os.fsdecode(first[names])
        first.setdefault(names, path)
        if info.isreg():
            with open(os.path.join(upper, path), "rb") as file:
                tar.addfile(info, file)
        else:
            tar.addfile(info)
    for path in sorted(gone):
        above, name = os.path.split(path)
        mark = tarfile.TarInfo(os.fsdecode(os.path.join(above, b".wh." + name)))
        mark.mode = 0o600
        tar.addfile(mark)
