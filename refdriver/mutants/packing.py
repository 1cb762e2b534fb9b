"""Mutants of the blocks of an archive: lengths, boundaries of fields, and what does not fit in them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, Final

from refdriver.archive import reader, source, tarformat
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant

_BLOCK: Final = 512


@mutant(breaks=("OVL-DIFF-TAR",), source="boundary: a file of whole blocks, POSIX pax", hard=True)
class DiffPadsWholeBlocks(Patched):
    """A file of whole blocks is followed by one more; this driver reads it like that too."""

    @staticmethod
    @replaces(tarformat.padding)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Fill up to the block after the last."""
        size = args[0]
        return _BLOCK if size and size % _BLOCK == 0 else original(*args, **kwargs)


@mutant(breaks=("OVL-META-XATTRS",), source="boundary: a record of 99 bytes, POSIX pax", hard=True)
class DiffMiscountsPaxRecords(Patched):
    """The length of a record is taken without what its own digits add when there is one more of them."""

    @staticmethod
    @replaces(tarformat._record)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count the digits of the rest."""
        del original, kwargs
        key, value = args
        rest = b" %b=%b\n" % (key.encode("utf-8", "surrogateescape"), value)
        return b"%d%b" % (len(rest) + len(b"%d" % len(rest)), rest)


@mutant(breaks=("OVL-NAMES-LONG-PATHS",), source="boundary: 100 bytes of a name, POSIX ustar", hard=True)
class DiffTruncatesNamesOf100(Patched):
    """A name of exactly 100 bytes loses its last: there is to be a NUL behind it."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        if len(args[0].name) == 100:
            args[0].name = args[0].name[:99]
        return original(*args, **kwargs)


@mutant(breaks=("OVL-NAMES-LONG-PATHS",), source="boundary: 155 bytes of a prefix, POSIX ustar", hard=True)
class DiffTruncatesPrefixesOf155(Patched):
    """A prefix of exactly 155 bytes loses its last: there is to be a NUL behind it."""

    @staticmethod
    @replaces(tarformat._split_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        name, prefix = original(*args, **kwargs)
        return name, prefix[:154]


@mutant(breaks=("OVL-NAMES-LONG-PATHS",), source="boundary: 100 bytes of a target, POSIX ustar", hard=True)
class DiffTruncatesTargetsOf100(Patched):
    """The target of a symlink is kept in a record from 101 bytes on, and loses its last byte at exactly 100."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        if len(args[0].target) == 100:
            args[0].target = args[0].target[:99]
        return original(*args, **kwargs)


@mutant(breaks=("OVL-NAMES-LONG-PATHS",), source="readlink(2): a buffer that is too small")
class DiffTruncatesTargetsTo512(Patched):
    """The target of a symlink is read into 512 bytes."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        args[0].target = args[0].target[:512]
        return original(*args, **kwargs)


@mutant(breaks=("OVL-META-OWNERS",), source="boundary: 2^21, seven octal digits, POSIX ustar", hard=True)
class DiffOverflowsIds(Patched):
    """The first id that does not fit in seven octal digits is taken to fit, and overflows."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Keep seven digits of it."""
        if args[0].uid == 2**21:
            args[0].uid = 0
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-ROUND-TRIP",), source="boundary: a file of whole chunks", hard=True)
class DiffZeroesLastChunk(Patched):
    """A file of whole chunks of 256 KiB loses the last of them, and has zeros there."""

    @staticmethod
    @replaces(source.Source.copy_to)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on until less than a chunk is left."""
        source, fd, size, what = args
        if size and size % 2**18 == 0:
            original(source, fd, size - 2**18, what)
            source.skip(2**18, what)
            os.write(fd, bytes(2**18))
            return
        original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-FORMATS",), source="boundary: 100 bytes of a name, in the form of GNU")
class ApplyTruncatesGnuNames(Patched):
    """A long name in the form of GNU is cut to the 100 bytes of a header."""

    @staticmethod
    @replaces(reader.ArchiveReader._extra)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        extra = original(*args, **kwargs)
        return extra[:100] if args[1].kind == b"L" else extra


@mutant(breaks=("OVL-APPLY-FORMATS",), source="POSIX/utilities/pax: global headers")
class ApplySkipsOnlyHeaderOfGlobalRecords(Patched):
    """A global header is passed over without what it says, which is then read as an entry."""

    @staticmethod
    @replaces(reader.ArchiveReader._extra)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave the records where they are."""
        return b"" if args[1].kind == b"g" else original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-TRUNCATED",), source="CVE-2021-20291: half a header")
class ApplyEndsAtTruncatedHeader(Patched):
    """Less than a header at the end of the data is taken for the end of the archive."""

    @staticmethod
    @replaces(source.Source.take)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Say that there are zeros."""
        source, size, what = args
        try:
            return original(source, size, what, **kwargs)
        except Exception:
            if "header" not in what:
                raise
            return bytes(size)


@mutant(breaks=("OVL-APPLY-TRUNCATED",), source="CVE-2021-20291: half a file")
class ApplyKeepsTruncatedFile(Patched):
    """A file that the archive breaks off in is kept as far as it goes."""

    @staticmethod
    @replaces(source.Source.copy_to)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on, and take the rest for the end."""
        try:
            original(*args, **kwargs)
        except Exception:
            source = args[0]
            source._archive = io.BytesIO(bytes(2**20))


@mutant(breaks=("OVL-HOSTILE-CHECKSUM",), source="behaviour#damaged-archives: a wrong checksum")
class ApplyChecksFirstSumOnly(Patched):
    """The checksum of the first header is checked, to see whether it is an archive."""

    checked: set[str] = set()  # noqa: RUF012 - of the archive that is read, which is the mutation

    @staticmethod
    @replaces(reader.ArchiveReader.members)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A new archive."""
        ApplyChecksFirstSumOnly.checked.clear()
        return original(*args, **kwargs)

    @staticmethod
    @replaces(tarformat._check_sum)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Check one."""
        if not ApplyChecksFirstSumOnly.checked:
            original(*args, **kwargs)
        ApplyChecksFirstSumOnly.checked.add("first")


@mutant(breaks=("OVL-HOSTILE-SIZE",), source="boundary: a size of -1")
class ApplyAcceptsNegativeSize(Patched):
    """A size below nothing is nothing."""

    @staticmethod
    @replaces(tarformat._size)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Lift it."""
        return original(max(0, args[0]), **kwargs)
