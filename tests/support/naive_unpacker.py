"""A correct unpacker in few lines: ``python naive_unpacker.py LAYOUT TAG DIRECTORY``.

tests/conformance/test_unpackers.py replaces single words of it: each mutant breaks one requirement.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tarfile
from decimal import Decimal
from pathlib import Path

layout, root = Path(sys.argv[1]), Path(sys.argv[3])
LAST_ID = 2**32 - 2  # chown(2) takes the next one for "leave as it is"
SPECIAL = {tarfile.FIFOTYPE: stat.S_IFIFO, tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK}


def is_directory(path: Path) -> bool:
    return not path.is_symlink() and path.is_dir()


def inside(name: str) -> Path:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        sys.exit(f"{name!r} leads out of the layer")
    return root.joinpath(*parts)


def remove(path: Path) -> None:
    if is_directory(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def is_reached(path: Path, own: set[Path] | None = None) -> bool:
    """Whether a path is below directories only, never through a symlink; with ``own`` they are made."""
    for above in [*reversed(path.parents)][len(root.parts) :]:
        if not is_directory(above):
            if own is None:
                return False
            remove(above)
            above.mkdir(0o755)
        if own is not None:
            own.add(above)
    return True


def hide(path: Path, own: set[Path]) -> None:
    """Remove what lower layers brought, and nothing of this one."""
    if is_directory(path):
        for below in path.iterdir():
            hide(below, own)
    if path not in own:
        remove(path)


def delete(path: Path, own: set[Path]) -> None:
    name = path.name.removeprefix(".wh.")
    if name in ("", ".", ".."):
        sys.exit(f"{path.name!r} names nothing")
    if is_reached(path):
        hidden = list(path.parent.iterdir()) if name == ".wh..opq" else [path.parent / name]
        for one in hidden if name == ".wh..opq" or not name.startswith(".wh.") else []:
            hide(one, own)


def put(entry: tarfile.TarInfo, path: Path, target: Path, content: bytes) -> None:
    if entry.islnk() and not (is_reached(target) and os.path.lexists(target)):
        sys.exit(f"{entry.name!r} is a link to nothing")
    if not (entry.islnk() and target == path) and not (entry.isdir() and is_directory(path)):
        remove(path)
    if entry.islnk():
        if target != path:
            os.link(target, path, follow_symlinks=False)
        return
    if entry.isdir():
        path.mkdir(exist_ok=True)
    elif entry.issym():
        path.symlink_to(entry.linkname)
    elif entry.type in SPECIAL:
        os.mknod(path, SPECIAL[entry.type], os.makedev(entry.devmajor, entry.devminor))
    else:
        path.write_bytes(content)
    if max(entry.uid, entry.gid) > LAST_ID:
        raise ValueError(f"{entry.name}: no file has the owner {entry.uid}:{entry.gid}")
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if not entry.issym():
        path.chmod(entry.mode & 0o7777)
        for key, value in entry.pax_headers.items():
            if key.startswith(("SCHILY.xattr.user.", "SCHILY.xattr.security.")):
                os.setxattr(path, key.removeprefix("SCHILY.xattr."), os.fsencode(value))


def apply(tar: tarfile.TarFile) -> None:
    own: set[Path] = set()
    times: dict[Path, int] = {}
    for entry in tar:
        path, content = inside(entry.name), b""
        if entry.isreg():
            file = tar.extractfile(entry) if entry.size > 0 else None
            content = file.read() if file else b""
            if len(content) != entry.size:
                sys.exit(f"{entry.name!r} is cut")
        if path == root:
            if not entry.isdir():
                sys.exit("the root is a directory")
        elif path.name.startswith(".wh."):
            delete(path, own)
        else:
            is_reached(path, own)
            put(entry, path, inside(entry.linkname) if entry.islnk() else path, content)
            own.add(path)
            mtime = int(Decimal(entry.pax_headers.get("mtime", int(entry.mtime))) * 10**9)
            if not entry.islnk():
                os.utime(path, ns=(mtime, mtime), follow_symlinks=False)
                times[path] = mtime
    for path in filter(is_directory, times):
        os.utime(path, ns=(times[path], times[path]))


def blob(descriptor: dict[str, str]) -> Path:
    return layout / "blobs" / descriptor["digest"].replace(":", "/")


index = json.loads((layout / "index.json").read_text())
os.umask(0)
for layer in json.loads(blob(index["manifests"][0]).read_text())["layers"]:
    with tarfile.open(blob(layer), "r:", encoding="utf-8") as tar:
        apply(tar)
        if blob(layer).read_bytes()[tar.offset :][:512].strip(b"\0"):
            sys.exit("the archive is damaged")
