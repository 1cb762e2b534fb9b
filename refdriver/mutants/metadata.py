"""Mutants of file metadata and names of the reference driver."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Any, Final

from refdriver.archive import pack, tarformat, unpack
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant

_CAPABILITY: Final = "security.capability"


@mutant(breaks=("OVL-META-OWNERS-AND-BITS",), source="derived: chown(2) clears setuid and setgid", hard=True)
class ApplyChownsLast(Patched):
    """A file gets its owner after its mode, and chown(2) clears the bits."""

    @staticmethod
    @replaces(unpack._Unpacker._regular)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set the owner once more."""
        unpacker, directory, name, member = args
        original(*args, **kwargs)
        unpacker._chown(name, member, directory)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=directory)


@mutant(breaks=("OVL-META-CAPABILITY",), source="containers/storage#217; moby/buildkit@0a36f1afe")
class ApplySetsCapabilitiesBeforeOwners(Patched):
    """A file gets its attributes before its owner, and chown(2) clears its capabilities."""

    @staticmethod
    @replaces(unpack._Unpacker._set_xattrs)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set the owner once more."""
        unpacker, target, member = args
        original(*args, **kwargs)
        if isinstance(target, int):
            unpacker._chown(target, member)


@mutant(breaks=("OVL-META-OWNERS",), source="lchown(2)")
class ApplyIgnoresOwnersOfSymlinks(Patched):
    """A symlink belongs to whoever unpacks it: chown without lchown."""

    @staticmethod
    @replaces(unpack._Unpacker._own)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give it back."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind == b"2":
            os.chown(name, 0, 0, dir_fd=directory, follow_symlinks=False)


@mutant(breaks=("OVL-META-TIMES",), source="boundary: second 0")
class ApplyTakesEpochForUnset(Patched):
    """A time of 0 is taken for none, and becomes now."""

    @staticmethod
    @replaces(tarformat.decode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask the clock."""
        member = original(*args, **kwargs)
        if member is not None and not member.mtime:
            member.mtime = time.time_ns()
        return member


@mutant(breaks=("OVL-META-TIMES",), source="boundary: 32 bits of seconds")
class DiffTruncatesTimesTo32Bits(Patched):
    """Seconds are kept in 32 bits, and begin anew in 2106."""

    @staticmethod
    @replaces(pack._Packer._member)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out what is above."""
        member = original(*args, **kwargs)
        seconds, rest = divmod(member.mtime, 10**9)
        member.mtime = seconds % 2**32 * 10**9 + rest
        return member


@mutant(breaks=("OVL-META-TIMES-DOWN",), source="containers/storage@15e07f827")
class DiffRoundsTimesUp(Patched):
    """An archive has whole seconds, and a half is rounded up."""

    @staticmethod
    @replaces(pack._Packer._member)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Round."""
        member = original(*args, **kwargs)
        member.mtime = (member.mtime + 500_000_000) // 10**9 * 10**9
        return member


@mutant(breaks=("OVL-META-TIMES-FINE",), source="boundary: 53 bits of a double")
class DiffWritesTimesAsFloats(Patched):
    """A time is a number of seconds in floating point, which has no room for nanoseconds."""

    @staticmethod
    @replaces(pack._Packer._member)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """There and back."""
        member = original(*args, **kwargs)
        member.mtime = int(member.mtime / 10**9 * 10**9)
        return member


@mutant(breaks=("OVL-META-XATTRS",), source="behaviour#pax-extensions: attributes of any entry")
class DiffOmitsXattrsOfDirectories(Patched):
    """Attributes are read of files only."""

    @staticmethod
    @replaces(pack._Packer._xattrs)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at what it is."""
        return original(*args, **kwargs) if not stat.S_ISDIR(os.fstat(args[1]).st_mode) else {}


@mutant(breaks=("OVL-META-XATTRS",), source="containers/storage@a8686fcb4")
class DiffKeepsLastXattrOnly(Patched):
    """Of several attributes the last one stays."""

    @staticmethod
    @replaces(pack._Packer._xattrs)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Keep that."""
        return dict(list(original(*args, **kwargs).items())[-1:])


@mutant(breaks=("OVL-META-XATTRS",), source="xattr(7): a value is any bytes")
class XattrsAreCutAtNul(Patched):
    """The value of an attribute ends where a string of C does."""

    @staticmethod
    @replaces(unpack._Unpacker._set_xattr)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        unpacker, target, name, value, owner = args
        kept = value if name == _CAPABILITY or name.startswith("trusted.") else value.partition(b"\0")[0]
        return original(unpacker, target, name, kept, owner, **kwargs)


@mutant(breaks=("OVL-META-XATTRS-LARGE",), source="containers/storage@091491bbf")
class DiffOmitsLargeXattrs(Patched):
    """An attribute is read into 1,024 bytes, and left out if it needs more."""

    @staticmethod
    @replaces(pack._Packer._xattrs)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave it out."""
        return {name: value for name, value in original(*args, **kwargs).items() if len(value) <= 1024}


@mutant(breaks=("OVL-META-DEVICES",), source="boundary: 8 bits; containers/storage@f240cc75a")
class ApplyTruncatesDeviceNumbers(Patched):
    """Device numbers have 8 bits each, as they had once."""

    @staticmethod
    @replaces(unpack._Unpacker._device)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out what is above."""
        member = args[3]
        member.major, member.minor = member.major & 0xFF, member.minor & 0xFF
        return original(*args, **kwargs)


@mutant(breaks=("OVL-META-DEVICES",), source="containerd/containerd@0205398ac")
class ApplyMakesCharacterDevicesOnly(Patched):
    """A block device becomes a character device of its numbers."""

    @staticmethod
    @replaces(unpack._Unpacker._device)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Change the type."""
        args[3].kind = b"3"
        return original(*args, **kwargs)


@mutant(breaks=("OVL-META-FIFOS",), source="derived: umask(2), on mkfifo(3)")
class ApplyIgnoresModesOfPipes(Patched):
    """A pipe keeps the mode that it is made with."""

    @staticmethod
    @replaces(unpack._Unpacker._own)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Put it back."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind == b"6":
            os.chmod(name, 0o600, dir_fd=directory)


@mutant(breaks=("OVL-META-HOLES",), source="derived: lseek(2): SEEK_HOLE, the length of a sparse file")
class ApplyDropsTrailingHole(Patched):
    """A file that ends with a hole is as long as its data: the holes are skipped, and its length is not set."""

    @staticmethod
    @replaces(unpack._Unpacker._regular)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut whole pages of zeros off its end."""
        _, directory, name, member = args
        original(*args, **kwargs)
        fd = os.open(name, os.O_RDWR, dir_fd=directory)
        end = member.size
        while end >= 4096 and not any(os.pread(fd, 4096, end - 4096)):
            end -= 4096
        os.ftruncate(fd, end)
        os.close(fd)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=directory)


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
