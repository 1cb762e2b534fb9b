"""Mutants of the blocks of an archive: lengths, boundaries of fields, and what does not fit in them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from typing import IO, Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault

_BLOCK: Final = 512


class PadsWholeBlocks(Patched):
    """A file of whole blocks is followed by one more; this driver reads it like that too."""

    place = "archive.tarformat:padding"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Fill up to the block after the last."""
        size = args[0]
        return _BLOCK if size and size % _BLOCK == 0 else original(*args, **kwargs)


class CountsRecordsOnce(Patched):
    """The length of a record is taken without what its own digits add when there is one more of them."""

    place = "archive.tarformat:_record"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count the digits of the rest."""
        del original, kwargs
        key, value = args
        rest = b" %b=%b\n" % (key.encode("utf-8", "surrogateescape"), value)
        return b"%d%b" % (len(rest) + len(b"%d" % len(rest)), rest)


class CutsNamesOf100(Patched):
    """A name of exactly 100 bytes loses its last: there is to be a NUL behind it."""

    place = "archive.tarformat:encode"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        if len(args[0].name) == 100:
            args[0].name = args[0].name[:99]
        return original(*args, **kwargs)


class CutsPrefixesOf155(Patched):
    """A prefix of exactly 155 bytes loses its last: there is to be a NUL behind it."""

    place = "archive.tarformat:_split_name"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        name, prefix = original(*args, **kwargs)
        return name, prefix[:154]


class CutsTargetsOf100(Patched):
    """The target of a symlink is kept in a record from 101 bytes on, and loses its last byte at exactly 100."""

    place = "archive.tarformat:encode"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        if len(args[0].target) == 100:
            args[0].target = args[0].target[:99]
        return original(*args, **kwargs)


class CutsLongTargets(Patched):
    """The target of a symlink is read into 512 bytes."""

    place = "archive.tarformat:encode"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        args[0].target = args[0].target[:512]
        return original(*args, **kwargs)


class OverflowsIds(Patched):
    """The first id that does not fit in seven octal digits is taken to fit, and overflows."""

    place = "archive.tarformat:encode"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Keep seven digits of it."""
        if args[0].uid == 2**21:
            args[0].uid = 0
        return original(*args, **kwargs)


class LosesLastChunks(Patched):
    """A file of whole chunks of 256 KiB loses the last of them, and has zeros there."""

    place = "archive.source:Source.copy_to"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on until less than a chunk is left."""
        source, fd, size, what = args
        if size and size % 2**18 == 0:
            original(source, fd, size - 2**18, what)
            source.skip(2**18, what)
            os.write(fd, bytes(2**18))
            return
        original(*args, **kwargs)


class CutsGnuNames(Patched):
    """A long name in the form of GNU is cut to the 100 bytes of a header."""

    place = "archive.reader:ArchiveReader._extra"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        extra = original(*args, **kwargs)
        return extra[:100] if args[1].kind == b"L" else extra


class LeavesGlobalHeadersInTheWay(Patched):
    """A global header is passed over without what it says, which is then read as an entry."""

    place = "archive.reader:ArchiveReader._extra"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave the records where they are."""
        return b"" if args[1].kind == b"g" else original(*args, **kwargs)


class KeepsGlobalHeaders(Faithful):
    """A global header becomes a file 'pax_global_header', as with programs that do not know it."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Put the file in front."""
        data = archive.read()
        if data[156:157] == b"g":
            first = io.BytesIO()
            with tarfile.open(fileobj=first, mode="w") as tar:
                tar.addfile(tarfile.TarInfo("pax_global_header"))
            data = first.getvalue()[:_BLOCK] + data
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data)))


class EndsAtHalfAHeader(Patched):
    """Less than a header at the end of the data is taken for the end of the archive."""

    place = "archive.source:Source.take"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Say that there are zeros."""
        source, size, what = args
        try:
            return original(source, size, what, **kwargs)
        except Exception:
            if "header" not in what:
                raise
            return bytes(size)


class KeepsHalfFiles(Patched):
    """A file that the archive breaks off in is kept as far as it goes."""

    place = "archive.source:Source.copy_to"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on, and take the rest for the end."""
        try:
            original(*args, **kwargs)
        except Exception:
            source = args[0]
            source._archive = io.BytesIO(bytes(2**20))


class ChecksTheFirstSumOnly(Patched):
    """The checksum of the first header is checked, to see whether it is an archive."""

    place = "archive.reader:ArchiveReader.members"
    also = "archive.tarformat:_check_sum"
    checked: set[str] = set()  # noqa: RUF012 - of the archive that is read, which is the mutation

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A new archive."""
        ChecksTheFirstSumOnly.checked.clear()
        return original(*args, **kwargs)

    @staticmethod
    def wrong_too(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Check one."""
        if not ChecksTheFirstSumOnly.checked:
            original(*args, **kwargs)
        ChecksTheFirstSumOnly.checked.add("first")


class TakesNegativeSizesForNone(Patched):
    """A size below nothing is nothing."""

    place = "archive.tarformat:_size"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Lift it."""
        return original(max(0, args[0]), **kwargs)


FAULTS: Final = (
    Fault(PadsWholeBlocks, ("OVL-DIFF-TAR",), "boundary: a file of whole blocks, POSIX pax", hard=True),
    Fault(CountsRecordsOnce, ("OVL-META-XATTRS",), "boundary: a record of 99 bytes, POSIX pax", hard=True),
    Fault(CutsNamesOf100, ("OVL-NAMES-LONG-PATHS",), "boundary: 100 bytes of a name, POSIX ustar", hard=True),
    Fault(CutsPrefixesOf155, ("OVL-NAMES-LONG-PATHS",), "boundary: 155 bytes of a prefix, POSIX ustar", hard=True),
    Fault(CutsTargetsOf100, ("OVL-NAMES-LONG-PATHS",), "boundary: 100 bytes of a target, POSIX ustar", hard=True),
    Fault(CutsLongTargets, ("OVL-NAMES-LONG-PATHS",), "readlink(2): a buffer that is too small"),
    Fault(OverflowsIds, ("OVL-META-OWNERS",), "boundary: 2^21, seven octal digits, POSIX ustar", hard=True),
    Fault(LosesLastChunks, ("OVL-APPLY-ROUND-TRIP",), "boundary: a file of whole chunks", hard=True),
    Fault(CutsGnuNames, ("OVL-APPLY-FORMATS",), "boundary: 100 bytes of a name, in the form of GNU"),
    Fault(LeavesGlobalHeadersInTheWay, ("OVL-APPLY-FORMATS",), "POSIX/utilities/pax: global headers"),
    Fault(
        KeepsGlobalHeaders,
        ("OVL-APPLY-FORMATS",),
        "POSIX/utilities/pax: global headers, as ustar readers take them",
    ),
    Fault(EndsAtHalfAHeader, ("OVL-APPLY-TRUNCATED",), "CVE-2021-20291: half a header"),
    Fault(KeepsHalfFiles, ("OVL-APPLY-TRUNCATED",), "CVE-2021-20291: half a file"),
    Fault(ChecksTheFirstSumOnly, ("OVL-HOSTILE-CHECKSUM",), "behaviour#damaged-archives: a wrong checksum"),
    Fault(TakesNegativeSizesForNone, ("OVL-HOSTILE-SIZE",), "boundary: a size of -1"),
)
