"""Archives entry by entry, with everything refused that is damaged, lying or cannot be understood."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from refdriver.archive import limits, tarformat
from refdriver.archive.source import Readable, Source
from refdriver.archive.tarformat import BLOCK, Member
from refdriver.errors import BadArchive

_EXTRA_MAX: Final = 1 << 20  # bytes of the PAX headers and long names of one entry; a dozen large xattrs fit
_WITH_DATA: Final = frozenset({tarformat.REGULAR, tarformat.CONTIGUOUS})
_WITHOUT_DATA: Final = frozenset(
    {
        tarformat.HARD_LINK,
        tarformat.SYMLINK,
        tarformat.CHARACTER,
        tarformat.BLOCK_DEVICE,
        tarformat.DIRECTORY,
        tarformat.FIFO,
    }
)


class ArchiveReader:
    """The entries of one archive, once. Between two entries the data of the first may be copied."""

    def __init__(self, archive: Readable) -> None:
        self._source = Source(archive)
        self._data_left = 0
        self._padding = 0
        self._extra_left = _EXTRA_MAX
        self._name = b""

    def members(self) -> Iterator[Member]:
        """Every entry up to the end of the archive; raises BadArchive.

        What follows the end is read and ignored, so that the writer of a pipe is not cut off.
        """
        while (member := self._next()) is not None:
            yield member
        self._source.drain()

    def copy_data(self, fd: int) -> None:
        """Write the data of the entry that came last to an open file."""
        self._source.copy_to(fd, self._data_left, self._name)
        self._data_left = 0

    def _next(self) -> Member | None:
        self._source.skip(self._data_left + self._padding, self._name)
        self._data_left = self._padding = 0
        self._extra_left = _EXTRA_MAX
        records: dict[str, bytes] = {}
        long_name = long_target = b""
        take, decode = self._source.take, tarformat.decode
        while True:
            member = decode(take(BLOCK, "a header (no end-of-archive blocks)"))
            if member is None:
                self._end()
                return None
            kind = member.kind
            if kind == tarformat.PAX_HEADER:
                records |= tarformat.decode_pax(self._extra(member))
            elif kind == tarformat.PAX_GLOBAL:
                self._extra(member)  # says things about the archive as a whole, such as a git commit
            elif kind == tarformat.GNU_LONG_NAME:
                long_name = self._extra(member).rstrip(b"\0")
            elif kind == tarformat.GNU_LONG_LINK:
                long_target = self._extra(member).rstrip(b"\0")
            else:
                member.name = long_name or member.name
                member.target = long_target or member.target
                return self._checked(tarformat.with_pax(member, records) if records else member)

    def _end(self) -> None:
        # One block of zeros is half an end; at the end of the file everybody takes it for a whole one.
        if not self._source.at_end() and any(self._source.take(BLOCK, "the end-of-archive blocks")):
            raise BadArchive("the archive has a block of zeros between its entries; it is damaged")

    def _extra(self, member: Member) -> bytes:
        # Together, not each: a thousand headers of one entry would take as much memory as one large one.
        if member.size > self._extra_left:
            raise BadArchive(
                f"the archive has an entry whose extended headers are longer than {_EXTRA_MAX} bytes in all, which"
                " is the most that is read"
            )
        self._extra_left -= member.size
        data = self._source.take(member.size, "an extended header")
        self._source.skip(tarformat.padding(member.size), "an extended header")
        return data

    def _checked(self, member: Member) -> Member:
        limits.check(member)
        if member.kind in _WITH_DATA:
            member.kind = tarformat.REGULAR
            self._data_left, self._padding = member.size, tarformat.padding(member.size)
        elif member.kind in _WITHOUT_DATA:
            member.size = 0  # some writers give a hard link the size of its target, and no data
        else:
            raise BadArchive(
                f"the archive has an entry {member.name!r} of type {member.kind!r}, which a layer cannot hold"
                " (sparse, multi-volume or unknown); write it as plain ustar or PAX"
            )
        self._name = member.name
        return member
