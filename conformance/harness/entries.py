"""What an archive of a driver says, read by another implementation than any driver's."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from pathlib import Path
from typing import Final

from conformance.harness.deviation import Deviation

_LARGE: Final = 4 << 20  # bytes of an archive
_LISTED: Final = 20  # entries
_NAME: Final = 80  # characters
_KINDS: Final = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}


def members(archive: Path) -> list[tarfile.TarInfo]:
    """The entries of an archive, read by another implementation than any driver's; "./x/" is called "x"."""
    try:
        with tarfile.open(archive) as tar:
            found = tar.getmembers()
    except (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise Deviation(f"Python's tarfile cannot read the diff: {error}") from error
    for member in found:
        member.name = member.name.removeprefix("./").rstrip("/") or "."
        member.linkname = member.linkname.removeprefix("./") if member.islnk() else member.linkname
    return found


def entry_names(archive: Path) -> list[str]:
    """The names of an archive but for that of the root."""
    return [member.name for member in members(archive) if member.name != "."]


def listing_of(archive: Path) -> tuple[str, ...]:
    """The first entries of an archive for people, a line each, with type, name, size, target and mode.

    Of an archive that tarfile cannot read to its end, the last line says so. One of more than 4 MiB is not read.
    """
    if (size := archive.stat().st_size) > _LARGE:
        return (f"an archive of {size} bytes, too large to be listed",)
    lines: list[str] = []
    try:
        with tarfile.open(archive, errors="surrogateescape") as tar:
            for member in tar:
                if len(lines) == _LISTED:
                    return (*lines, "and more entries")
                lines.append(_line_of(member))
    except (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        lines.append(f"what follows cannot be read: {type(error).__name__}: {error}")
    return tuple(lines) or ("no entries",)


def _line_of(member: tarfile.TarInfo) -> str:
    kind = _KINDS.get(member.type, f"type {member.type!r}")
    size = f" {member.size} bytes" if member.isreg() else ""
    to = f" -> {member.linkname!r}" if member.linkname else ""
    device = f" {member.devmajor}:{member.devminor}" if member.ischr() or member.isblk() else ""
    owner = f" owner={member.uid}:{member.gid}" if member.uid or member.gid else ""
    more = sorted(name for name in member.pax_headers if name.startswith("SCHILY.xattr."))
    attributes = f" xattrs={','.join(name.removeprefix('SCHILY.xattr.') for name in more)}" if more else ""
    return f"{kind} {member.name[:_NAME]!r}{size}{to}{device} mode={member.mode:04o}{owner}{attributes}"


def content_of(archive: Path) -> list[tuple[object, ...]]:
    """What an archive says, entry by entry, but for the times of whiteouts, which some writers make up."""
    return [
        (
            member.name,
            member.type,
            member.mode,
            (member.uid, member.gid),
            member.size,
            member.linkname,
            0 if "/.wh." in f"/{member.name}" else member.mtime,
        )
        for member in members(archive)
    ]
