"""Archives written by hand: what a driver would not write itself, and should read or refuse."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TIME: Final = 1_500_000_000
BLOCK: Final = 512
_CHECKSUM: Final = slice(148, 156)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an archive; ``kind`` is a type of ustar, such as tarfile.REGTYPE."""

    name: str
    kind: bytes = tarfile.REGTYPE
    content: bytes = b""
    target: str = ""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    mtime: int = TIME  # seconds
    device: tuple[int, int] = (0, 0)
    records: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """One readable line."""
        kinds = {
            tarfile.REGTYPE: "file",
            tarfile.DIRTYPE: "directory",
            tarfile.SYMTYPE: "symlink",
            tarfile.LNKTYPE: "hard link",
            tarfile.CHRTYPE: "character device",
        }
        to = f" -> {self.target!r}" if self.target else ""
        extra = f" {dict(self.records)}" if self.records else ""
        extra += f" mtime={self.mtime}" if self.mtime != TIME else ""
        extra += f" owner={self.owner[0]}:{self.owner[1]}" if any(self.owner) else ""
        return f"{kinds.get(self.kind, repr(self.kind))} {self.name[:80]!r}{to} mode={self.mode:04o}{extra}"


def file(name: str, content: bytes = b"content", mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, content=content, mode=mode)


def directory(name: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(name, tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Entry:
    """A symlink."""
    return Entry(name, tarfile.SYMTYPE, target=target, mode=0o777)


def hard_link(name: str, target: str) -> Entry:
    """A further name of an entry."""
    return Entry(name, tarfile.LNKTYPE, target=target)


def whiteout(name: str) -> Entry:
    """An entry that is empty and a file, as whiteouts are."""
    return Entry(name, mode=0o600)


def archive(
    entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT, records: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of an archive; ``records`` are of a global header (pax)."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=form, pax_headers=dict(records or {}), encoding="utf-8"
    ) as tar:
        for entry in entries:
            tar.addfile(_info(entry), io.BytesIO(entry.content))
    return buffer.getvalue()


def write(path: Path, entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT) -> Path:
    """Write an archive to a file; the file."""
    path.write_bytes(archive(entries, form))
    return path


def _info(entry: Entry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(entry.name)
    info.type, info.linkname, info.mode, info.mtime = entry.kind, entry.target, entry.mode, entry.mtime
    info.size = len(entry.content)
    info.uid, info.gid = entry.owner
    info.devmajor, info.devminor = entry.device
    info.pax_headers = dict(entry.records)
    return info


def with_field(data: bytes, offset: int, value: bytes) -> bytes:
    """An archive whose first header holds ``value`` at an offset (tar(5)), with the checksum made right again."""
    header = bytearray(data[:BLOCK])
    header[offset : offset + len(value)] = value
    header[_CHECKSUM] = b" " * 8
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header) + data[BLOCK:]
