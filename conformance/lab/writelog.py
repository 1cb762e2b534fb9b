"""The log of the device-mapper target log-writes: what a disk was told to write, in the order in which it was kept.

The form is the kernel's (Documentation/admin-guide/device-mapper/log-writes.rst, drivers/md/dm-log-writes.c): a
superblock in the first sector, then for each entry a sector that describes it, and its data. A write that no flush
followed is in the log only behind what a later flush kept; so the entries up to a flush are what a disk with a
volatile cache must still have when its power fails just after it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

FLUSH: Final = 1
FUA: Final = 2
DISCARD: Final = 4
MARK: Final = 8
MAGIC: Final = 0x6A736677736872
VERSION: Final = 1
_SUPER: Final = struct.Struct("<QQQI")  # magic, version, how many entries, bytes of a sector
_ENTRY: Final = struct.Struct("<QQQQ")  # sector, sectors, flags, bytes of a mark


class BadLog(ValueError):
    """This is no log of this form; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: ``offset`` and ``size`` in bytes of the disk, and where in the log its data begins."""

    offset: int
    size: int
    flags: int
    data: int
    mark: str = ""

    @property
    def keeps(self) -> bool:
        """Whether all that is in the log before it, and it, is on the disk for good when it is done."""
        return bool(self.flags & (FLUSH | FUA))

    @property
    def writes(self) -> bool:
        """Whether it changes the disk; what a discard leaves is anything, also what was there."""
        return bool(self.size) and not self.flags & (DISCARD | MARK)


def read_log(log: BinaryIO) -> Iterator[Entry]:
    """The entries of a log in their order; raises BadLog."""
    magic, version, count, sector = _SUPER.unpack(_exactly(log, 0, _SUPER.size))
    if (magic, version) != (MAGIC, VERSION):
        raise BadLog(f"no log of writes: magic {magic:#x} and version {version}, not {MAGIC:#x} and {VERSION}")
    if sector < 512 or sector & (sector - 1):
        raise BadLog(f"a log of writes in sectors of {sector} bytes")
    place = sector
    for _ in range(count):
        first, sectors, flags, words = _ENTRY.unpack(_exactly(log, place, _ENTRY.size))
        mark = ""
        if flags & MARK:
            if words > sector - _ENTRY.size:
                raise BadLog(f"a mark of {words} bytes at {place}, and a sector has {sector}")
            mark = _exactly(log, place + _ENTRY.size, words).rstrip(b"\0").decode(errors="replace")
        place += sector
        yield Entry(first * sector, sectors * sector, flags, place, mark)
        if not flags & DISCARD:
            place += sectors * sector


def _exactly(log: BinaryIO, place: int, size: int) -> bytes:
    log.seek(place)
    data = log.read(size)
    if len(data) != size:
        raise BadLog(f"the log of writes ends at {place + len(data)}, in the middle of an entry")
    return data


def between_marks(entries: Sequence[Entry], first: str, last: str) -> range:
    """The indices of the entries after the mark ``first`` up to the mark ``last``; raises BadLog without them."""
    marks = {entry.mark: index for index, entry in enumerate(entries) if entry.mark}
    if first not in marks or last not in marks:
        raise BadLog(f"the log has the marks {sorted(marks)}, and not {first!r} and {last!r}")
    return range(marks[first] + 1, marks[last] + 1)
