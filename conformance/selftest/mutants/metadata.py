"""Mutants of owners, bits, attributes, times and kinds of file, each where one of them is read or set."""

from __future__ import annotations

import os
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import IO, Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault
from conformance.selftest.mutants.rewriting import lowers_of, rewritten

_CAPABILITY: Final = "security.capability"


class ChownsLast(Patched):
    """A file gets its owner after its mode, and chown(2) clears the bits."""

    place = "archive.unpack:_Unpacker._regular"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set the owner once more."""
        unpacker, directory, name, member = args
        original(*args, **kwargs)
        unpacker._chown(name, member, directory)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=directory)


class SetsCapabilitiesBeforeOwners(Patched):
    """A file gets its attributes before its owner, and chown(2) clears its capabilities."""

    place = "archive.unpack:_Unpacker._set_xattrs"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set the owner once more."""
        unpacker, target, member = args
        original(*args, **kwargs)
        if isinstance(target, int):
            unpacker._chown(target, member)


class LeavesSymlinksToRoot(Patched):
    """A symlink belongs to whoever unpacks it: chown without lchown."""

    place = "archive.unpack:_Unpacker._own"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give it back."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind == b"2":
            os.chown(name, 0, 0, dir_fd=directory, follow_symlinks=False)


class LeavesTimesOfSymlinks(Patched):
    """A symlink has the time at which it is unpacked: utime without AT_SYMLINK_NOFOLLOW is left out for it."""

    place = "archive.unpack:_Unpacker._own"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set it to now."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind == b"2":
            os.utime(name, dir_fd=directory, follow_symlinks=False)


class LosesTimesOfDevices(Patched):
    """What is no file, directory or symlink has the time at which it is unpacked."""

    place = "archive.unpack:_Unpacker._own"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set it to now."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind != b"2":
            os.utime(name, dir_fd=directory)


class TakesTheEpochForUnset(Patched):
    """A time of 0 is taken for none, and becomes now."""

    place = "archive.tarformat:decode"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask the clock."""
        member = original(*args, **kwargs)
        if member is not None and not member.mtime:
            member.mtime = time.time_ns()
        return member


class CutsTimesTo32Bits(Patched):
    """Seconds are kept in 32 bits, and begin anew in 2106."""

    place = "archive.pack:_Packer._member"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out what is above."""
        member = original(*args, **kwargs)
        seconds, rest = divmod(member.mtime, 10**9)
        member.mtime = seconds % 2**32 * 10**9 + rest
        return member


class RoundsTimesUp(Patched):
    """An archive has whole seconds, and a half is rounded up."""

    place = "archive.pack:_Packer._member"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Round."""
        member = original(*args, **kwargs)
        member.mtime = (member.mtime + 500_000_000) // 10**9 * 10**9
        return member


class KeepsTimesAsFloats(Patched):
    """A time is a number of seconds in floating point, which has no room for nanoseconds."""

    place = "archive.pack:_Packer._member"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """There and back."""
        member = original(*args, **kwargs)
        member.mtime = int(member.mtime / 10**9 * 10**9)
        return member


class LosesAttributesOfDirectories(Patched):
    """Attributes are read of files only."""

    place = "archive.pack:_Packer._xattrs"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at what it is."""
        return original(*args, **kwargs) if not stat.S_ISDIR(os.fstat(args[1]).st_mode) else {}


class KeepsOneAttribute(Patched):
    """Of several attributes the last one stays."""

    place = "archive.pack:_Packer._xattrs"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Keep that."""
        return dict(list(original(*args, **kwargs).items())[-1:])


class CutsAttributesAtNul(Patched):
    """The value of an attribute ends where a string of C does."""

    place = "archive.unpack:_Unpacker._set_xattr"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut it."""
        unpacker, target, name, value, owner = args
        kept = value if name == _CAPABILITY or name.startswith("trusted.") else value.partition(b"\0")[0]
        return original(unpacker, target, name, kept, owner, **kwargs)


class ReadsAttributesOf1024(Patched):
    """An attribute is read into 1,024 bytes, and left out if it needs more."""

    place = "archive.pack:_Packer._xattrs"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave it out."""
        return {name: value for name, value in original(*args, **kwargs).items() if len(value) <= 1024}


class LosesCapabilitiesOfLowerFiles(Faithful):
    """What was copied up comes without the capability that it has in the layer below."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Leave out what the layer did not set itself."""
        lowers = lowers_of(self, layer_id)
        record = f"SCHILY.xattr.{_CAPABILITY}"

        def bare(member: tarfile.TarInfo) -> Iterator[tarfile.TarInfo]:
            if record in member.pax_headers and any(os.path.isfile(f"{one}/{member.name}") for one in lowers):
                member.pax_headers = {key: value for key, value in member.pax_headers.items() if key != record}
            yield member

        with self.inner.diff(layer_id, parent) as stream:
            return rewritten(stream, bare)


class CutsDevicesTo8Bits(Patched):
    """Device numbers have 8 bits each, as they had once."""

    place = "archive.unpack:_Unpacker._device"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out what is above."""
        member = args[3]
        member.major, member.minor = member.major & 0xFF, member.minor & 0xFF
        return original(*args, **kwargs)


class MakesAllDevicesCharacters(Patched):
    """A block device becomes a character device of its numbers."""

    place = "archive.unpack:_Unpacker._device"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Change the type."""
        args[3].kind = b"3"
        return original(*args, **kwargs)


class MakesPrivatePipes(Patched):
    """A pipe keeps the mode that it is made with."""

    place = "archive.unpack:_Unpacker._own"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Put it back."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind == b"6":
            os.chmod(name, 0o600, dir_fd=directory)


class PacksSocketsAsPipes(Patched):
    """A socket goes into the archive as the pipe that is nearest to it."""

    place = "archive.pack:_Packer.entry"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Change what it is."""
        packer, directory, name, path, status = args
        if stat.S_ISSOCK(status.st_mode):
            fields = {key: getattr(status, key) for key in dir(status) if key.startswith("st_")}
            status = SimpleNamespace(**{**fields, "st_mode": stat.S_IFIFO | stat.S_IMODE(status.st_mode)})
        return original(packer, directory, name, path, status, **kwargs)


class LosesTheLastHole(Patched):
    """A file that ends with a hole is as long as its data: the holes are skipped, and its length is not set."""

    place = "archive.unpack:_Unpacker._regular"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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


class MasksDirectories(Patched):
    """A directory is made with its mode by mkdir(2), which takes away what the umask says."""

    place = "archive.unpack:_Unpacker._finish_directory"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it away."""
        _, fd, member = args
        original(*args, **kwargs)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(f"/proc/self/fd/{fd}", member.mode & ~mask)


FAULTS: Final = (
    Fault(ChownsLast, ("OVL-META-OWNERS-AND-BITS",), "derived: chown(2) clears setuid and setgid", hard=True),
    Fault(
        SetsCapabilitiesBeforeOwners, ("OVL-META-CAPABILITY",), "containers/storage#217; moby/buildkit@0a36f1afe"
    ),
    Fault(LosesCapabilitiesOfLowerFiles, ("OVL-META-CAPABILITY",), "containers/buildah#3294: copied up", hard=True),
    Fault(LeavesSymlinksToRoot, ("OVL-META-OWNERS",), "lchown(2)"),
    Fault(LeavesTimesOfSymlinks, ("OVL-APPLY-FILE-TIMES",), "utimensat(2): AT_SYMLINK_NOFOLLOW", hard=True),
    Fault(
        LosesTimesOfDevices, ("OVL-APPLY-FILE-TIMES",), "behaviour#entry-metadata: headers carry mtime", hard=True
    ),
    Fault(TakesTheEpochForUnset, ("OVL-META-TIMES",), "boundary: second 0"),
    Fault(CutsTimesTo32Bits, ("OVL-META-TIMES",), "boundary: 32 bits of seconds"),
    Fault(RoundsTimesUp, ("OVL-META-TIMES-DOWN",), "containers/storage@15e07f827"),
    Fault(KeepsTimesAsFloats, ("OVL-META-TIMES-FINE",), "boundary: 53 bits of a double"),
    Fault(LosesAttributesOfDirectories, ("OVL-META-XATTRS",), "behaviour#pax-extensions: attributes of any entry"),
    Fault(KeepsOneAttribute, ("OVL-META-XATTRS",), "containers/storage@a8686fcb4"),
    Fault(CutsAttributesAtNul, ("OVL-META-XATTRS",), "xattr(7): a value is any bytes"),
    Fault(ReadsAttributesOf1024, ("OVL-META-XATTRS-LARGE",), "containers/storage@091491bbf"),
    Fault(CutsDevicesTo8Bits, ("OVL-META-DEVICES",), "boundary: 8 bits; containers/storage@f240cc75a"),
    Fault(MakesAllDevicesCharacters, ("OVL-META-DEVICES",), "containerd/containerd@0205398ac"),
    Fault(MakesPrivatePipes, ("OVL-META-FIFOS",), "derived: umask(2), on mkfifo(3)"),
    Fault(PacksSocketsAsPipes, ("OVL-DIFF-SOCKETS",), "containerd/containerd#2222"),
    Fault(LosesTheLastHole, ("OVL-META-HOLES",), "derived: lseek(2): SEEK_HOLE, the length of a sparse file"),
    Fault(MasksDirectories, ("OVL-APPLY-UMASK",), "derived: umask(2), on mkdir(2)"),
)
