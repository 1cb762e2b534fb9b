"""Archives applied to a mounter's layer, by the harness: unpacked into its upper directory.

Whiteouts become those of overlay, so that what the layer shows is what the mounter makes of them. The archives are
those of the suite's tests of trees; hostile ones are of a capability that this kind declines. No name is followed
through a symlink all the same.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from conformance.drivers.mounter import marks
from conformance.drivers.protocol import DriverRefused

_NS: Final = 10**9
_XATTR: Final = "SCHILY.xattr."
_MOST: Final = 1 << 20  # bytes of content that are copied as one piece


def apply(archive: Path, upper: Path, lowers: Sequence[Path], namespace: str) -> None:
    """Unpack an archive into an upper directory; ``namespace`` is that of overlay's attributes.

    Raises DriverRefused for what is no archive of a layer, and OSError.
    """
    try:
        with tarfile.open(archive, "r:", encoding="utf-8") as tar:
            _Unpacking(tar, os.fsencode(upper), lowers, namespace).run()
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError) as error:
        raise DriverRefused(f"the archive cannot be read: {error}") from error


class _Unpacking:
    def __init__(self, tar: tarfile.TarFile, root: bytes, lowers: Sequence[Path], namespace: str) -> None:
        self._tar, self._root, self._lowers, self._namespace = tar, root, lowers, namespace
        self._made: set[bytes] = set()  # what this archive brought, which its whiteouts do not delete
        self._times: dict[bytes, int] = {}  # of directories, which later entries change

    def run(self) -> None:
        for member in self._tar:
            path = _cleaned(member)
            if path:
                self._entry(member, path)
        for directory, time_ns in sorted(self._times.items(), reverse=True):
            os.utime(directory, ns=(time_ns, time_ns), follow_symlinks=False)

    def _entry(self, member: tarfile.TarInfo, path: bytes) -> None:
        above, _, name = path.rpartition(b"/")
        self._make_parents(above)
        if name == marks.OPAQUE:
            self._hide(above)
        elif name.startswith(marks.PREFIX):
            self._white_out(above, name.removeprefix(marks.PREFIX))
        else:
            self._make(member, path)

    def _make_parents(self, above: bytes) -> None:
        path = b""
        for part in above.split(b"/") if above else ():
            path = path + b"/" + part if path else part
            kind = self._kind(path)
            if kind is None or self._is_whiteout(path):
                self._make_directory(path, 0o755)
            elif not stat.S_ISDIR(kind):
                raise DriverRefused(f"{path!r} is no directory, and the archive has an entry below it")

    def _kind(self, path: bytes) -> int | None:
        try:
            return os.lstat(self._at(path)).st_mode
        except FileNotFoundError:
            return None

    def _is_whiteout(self, path: bytes) -> bool:
        return marks.is_whiteout(os.lstat(self._at(path)))

    def _at(self, path: bytes) -> bytes:
        return os.path.join(self._root, path) if path else self._root

    def _make_directory(self, path: bytes, mode: int) -> None:
        """Make a directory in the place of whatever is there; one in the place of a whiteout is opaque."""
        hides = self._kind(path) is not None
        self._remove(path)
        os.mkdir(self._at(path))
        os.chmod(self._at(path), mode)
        if hides and marks.kind_below(self._lowers, path) == "directory":
            marks.make_opaque(self._at(path), self._namespace)
        self._made.add(path)

    def _remove(self, path: bytes) -> None:
        kind = self._kind(path)
        if kind is not None and stat.S_ISDIR(kind):
            shutil.rmtree(self._at(path))
        elif kind is not None:
            os.unlink(self._at(path))

    def _hide(self, path: bytes) -> None:
        for name in os.listdir(self._at(path)):
            entry = path + b"/" + name if path else name
            if entry not in self._made:
                self._remove(entry)
        if marks.kind_below(self._lowers, path) == "directory":
            marks.make_opaque(self._at(path), self._namespace)

    def _white_out(self, above: bytes, name: bytes) -> None:
        path = above + b"/" + name if above else name
        if not name or path in self._made:
            return
        self._remove(path)
        if marks.kind_below(self._lowers, path):
            marks.make_whiteout(self._at(path))

    def _make(self, member: tarfile.TarInfo, path: bytes) -> None:
        at, kind = self._at(path), self._kind(path)
        if not member.isdir():
            self._remove(path)
        elif kind is None or not stat.S_ISDIR(kind):
            self._make_directory(path, 0o700)
        self._made.add(path)
        if member.isreg():
            self._write(member, at)
        elif member.issym():
            os.symlink(member.linkname.encode("utf-8", "surrogateescape"), at)
        elif member.islnk():
            target = _parts(member.linkname)
            self._check_parents(target)
            os.link(self._at(target), at, follow_symlinks=False)
            return
        elif member.ischr() or member.isblk():
            file_type = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            os.mknod(at, file_type | 0o600, os.makedev(member.devmajor, member.devminor))
        elif member.isfifo():
            os.mkfifo(at, 0o600)
        elif not member.isdir():
            raise DriverRefused(f"{path!r} has an unknown type {member.type!r}")
        self._set_metadata(member, at)

    def _check_parents(self, path: bytes) -> None:
        parts = path.split(b"/")
        for number in range(1, len(parts)):
            above = b"/".join(parts[:number])
            if not stat.S_ISDIR(self._kind(above) or 0):
                raise DriverRefused(f"the archive has a hard link to {path!r}, and {above!r} is no directory")

    def _write(self, member: tarfile.TarInfo, at: bytes) -> None:
        source = self._tar.extractfile(member)
        with open(os.open(at, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            if source is not None:
                shutil.copyfileobj(source, file, _MOST)

    def _set_metadata(self, member: tarfile.TarInfo, at: bytes) -> None:
        """Owner before mode and attributes, as chown(2) clears setuid and security.capability."""
        os.chown(at, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            os.chmod(at, member.mode & 0o7777)
        for name, value in member.pax_headers.items():
            if name.startswith(_XATTR) and not name.removeprefix(_XATTR).startswith(marks.INTERNAL):
                data = value.encode("utf-8", "surrogateescape")
                os.setxattr(at, name.removeprefix(_XATTR), data, follow_symlinks=False)
        time_ns = int(Decimal(member.pax_headers.get("mtime", str(int(member.mtime)))) * _NS)
        if member.isdir():
            self._times[at] = time_ns
        else:
            os.utime(at, ns=(time_ns, time_ns), follow_symlinks=False)


def _cleaned(member: tarfile.TarInfo) -> bytes:
    """The path of an entry without what does not count; raises DriverRefused for one that leads upwards."""
    return _parts(member.name)


def _parts(name: str) -> bytes:
    parts = [one for one in name.encode("utf-8", "surrogateescape").split(b"/") if one not in (b"", b".")]
    if b".." in parts:
        raise DriverRefused(f"{name!r} leads upwards")
    return b"/".join(parts)
