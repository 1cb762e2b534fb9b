"""What an archive of a driver says, read by another implementation than any driver's."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from pathlib import Path

from conformance.harness.deviation import Deviation


def members(archive: Path) -> list[tarfile.TarInfo]:
    """The entries of an archive, read by another implementation than any driver's."""
    try:
        with tarfile.open(archive) as tar:
            return tar.getmembers()
    except (tarfile.TarError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise Deviation(f"Python's tarfile cannot read the diff: {error}") from error


def entry_names(archive: Path) -> list[str]:
    """The names of an archive without what writers put around them."""
    return [
        member.name.removeprefix("./").rstrip("/") for member in members(archive) if member.name not in (".", "./")
    ]


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
