"""Mutants of applying archives of the reference driver."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Callable
from typing import Any

from refdriver import overlayxattr
from refdriver.archive import clearing, deleting, reader, source, tarformat, times, unpack
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-APPLY-KINDS",), source="tar(1): --unlink-first; open(2): O_TRUNC", hard=True)
class ApplyOverwritesLinkedInode(Patched):
    """A file that is there is written over, and with it its other names."""

    @staticmethod
    @replaces(unpack._Unpacker._make)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it and empty it."""
        _, directory, name, make = args
        if _is_regular(directory, name) and "open" in make.__code__.co_names:
            return os.open(name, os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-LAST-WINS",), source="open(2): O_TRUNC")
class ApplyKeepsTailOfEarlierFile(Patched):
    """A file that is there is written over from its beginning, and keeps what it had beyond the new end."""

    @staticmethod
    @replaces(unpack._Unpacker._make)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it without O_TRUNC."""
        _, directory, name, make = args
        if _is_regular(directory, name) and "open" in make.__code__.co_names:
            return os.open(name, os.O_WRONLY, dir_fd=directory)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-KINDS",), source="open(2): O_NOFOLLOW", hard=True)
class ApplyWritesThroughSymlinks(Patched):
    """A file is written where the symlink points that the layer has under its name."""

    @staticmethod
    @replaces(unpack._Unpacker._make)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Open it as it is, if that leads to something in the same directory."""
        _, directory, name, make = args
        there = _lstat(directory, name)
        if there and stat.S_ISLNK(there.st_mode) and "open" in make.__code__.co_names:
            target = os.readlink(name, dir_fd=directory)
            if b"/" not in target and _is_regular(directory, target):
                return os.open(target, os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-KINDS",), source="symlink(2): EEXIST, an errno that is ignored")
class ApplyKeepsDirectoryForSymlink(Patched):
    """A directory that is in the way of a symlink stays: an errno that is not looked at."""

    @staticmethod
    @replaces(unpack._Unpacker._entry)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go on."""
        _, directory, name, _, member = args
        there = _lstat(directory, name)
        if there and stat.S_ISDIR(there.st_mode) and member.kind == b"2":
            return None
        return original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-KINDS",), source="behaviour#applying: a directory is merged", hard=True)
class ApplyKeepsOldModeOfDirectory(Patched):
    """A directory that the layer has already keeps its mode when another archive brings it again."""

    @staticmethod
    @replaces(unpack._Unpacker._directory)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Put the old mode back."""
        _, directory, name, _, _ = args
        there = _lstat(directory, name)
        original(*args, **kwargs)
        if there and stat.S_ISDIR(there.st_mode):
            os.chmod(name, there.st_mode & 0o7777, dir_fd=directory)


def _lstat(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_regular(directory: int, name: bytes) -> bool:
    there = _lstat(directory, name)
    return there is not None and stat.S_ISREG(there.st_mode)


@mutant(breaks=("OVL-APPLY-OPAQUE-ORDER",), source="image-spec/layer.md#opaque-whiteout: wherever it stands")
class OpaqueRemovesEarlierEntries(Patched):
    """An opaque whiteout removes what the archive brought into the directory before it."""

    @staticmethod
    @replaces(deleting.Deletions._make_opaque)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Empty the directory."""
        original(*args, **kwargs)
        path = f"/proc/self/fd/{args[1]}"
        for name in os.listdir(path):
            held = f"{path}/{name}"
            shutil.rmtree(held) if os.path.isdir(held) and not os.path.islink(held) else os.unlink(held)


@mutant(breaks=("OVL-APPLY-UMASK",), source="derived: umask(2), on mkdir(2)")
class ApplyMasksModesOfDirectories(Patched):
    """A directory is made with its mode by mkdir(2), which takes away what the umask says."""

    @staticmethod
    @replaces(unpack._Unpacker._finish_directory)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it away."""
        _, fd, member = args
        original(*args, **kwargs)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(f"/proc/self/fd/{fd}", member.mode & ~mask)


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


@mutant(breaks=("OVL-APPLY-WHITEOUT-BEFORE",), source="behaviour#whiteouts; field-bugs#whiteout-and-entry")
class WhiteoutForgottenForNewDirectory(Patched):
    """A whiteout that a directory of its name follows is taken away for it, and what is below shows again."""

    @staticmethod
    @replaces(unpack._Unpacker._directory)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make room."""
        directory, name = args[1], args[2]
        if _is_whiteout(directory, name):
            os.unlink(name, dir_fd=directory)
        return original(*args, **kwargs)


@mutant(
    breaks=("OVL-APPLY-WHITEOUT-BEFORE",),
    source="behaviour#whiteouts: for a directory that has no entry of its own; field-bugs#whiteout-and-entry",
    hard=True,
)
class ImplicitParentIsNotOpaque(Patched):
    """A directory that was deleted and is recreated for an entry in it is not marked opaque."""

    @staticmethod
    @replaces(deleting.Deletions.replace_older)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take the mark away."""
        made = original(*args, **kwargs)
        overlay = args[0]._overlay
        if made and overlay:
            fd = os.open(args[2], os.O_RDONLY, dir_fd=args[1])
            if overlay.is_opaque(fd):
                os.removexattr(fd, overlay.opaque)
            os.close(fd)
        return made


@mutant(breaks=("OVL-APPLY-WHITEOUT-AFTER",), source="behaviour#whiteouts; field-bugs#whiteout-and-entry")
class WhiteoutDeletesOwnEntry(Patched):
    """A whiteout deletes what the same archive brought before it."""

    @staticmethod
    @replaces(deleting.Deletions._brought)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Remember nothing."""
        del original, args, kwargs
        return False


@mutant(breaks=("OVL-APPLY-WHITEOUT-UNSEEN",), source="overlayfs.rst: readdir merges directories only")
class ApplyMakesVisibleWhiteouts(Patched):
    """A whiteout is made wherever the archive has one, also where the kernel shows it as a device."""

    @staticmethod
    @replaces(deleting.Deletions._hides_lowers)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make it."""
        del original, args, kwargs
        return True


@mutant(
    breaks=("OVL-APPLY-WHITEOUT-UNSEEN",),
    source="overlayfs.rst: an opaque directory hides all that is below it",
    hard=True,
)
class HiddenWhiteoutSeeksOneDirectory(Patched):
    """Below a directory that an opaque whiteout hides, it is looked for in a whiteout's own directory only."""

    @staticmethod
    @replaces(deleting.Deletions._hides_lowers)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look no further up."""
        deletions, directory = args
        if original(deletions, directory, **kwargs) or not deletions._overlay:
            return True
        if deletions._overlay.is_opaque(os.path.join(deletions._root.path, directory)):
            return False
        parts = [part for part in directory.split(b"/") if part]
        return overlayxattr.is_directory_below(deletions._lowers, parts, deletions._overlay)

    @staticmethod
    @replaces(clearing.remove_whiteouts)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave them."""
        del original, args, kwargs


@mutant(
    breaks=("OVL-APPLY-WHITEOUT-UNSEEN",),
    source="overlayfs.rst: an opaque directory hides all that is below it",
    hard=True,
)
class OpaqueClearsTopDirectoryOnly(Patched):
    """An opaque whiteout removes earlier whiteouts of its own directory, and not those further down."""

    @staticmethod
    @replaces(clearing.remove_whiteouts)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Go no deeper."""
        del original, kwargs
        directory = os.open(args[0], os.O_RDONLY)
        for name in os.listdir(directory):
            if _is_whiteout(directory, os.fsencode(name)):
                os.unlink(name, dir_fd=directory)
        os.close(directory)


@mutant(breaks=("OVL-APPLY-NAME-FORMS",), source="behaviour#names")
class ApplyMissesWhiteoutsWithDotSlash(Patched):
    """A name that begins with './' is no whiteout, and becomes a file."""

    @staticmethod
    @replaces(unpack._Unpacker.add)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at the name as it is written."""
        unpacker, member = args
        if member.name.startswith(b"./.wh."):
            unpacker._entry(unpacker._root.fd, member.name[2:], member.name[2:], member)
            return
        original(unpacker, member, **kwargs)


def _is_whiteout(directory: int, name: bytes) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


@mutant(breaks=("OVL-APPLY-FORMATS",), source="pax(1): size, where the header says another", hard=True)
class ApplyIgnoresSizeRecords(Patched):
    """The size of a file is that of its header, whatever its record says."""

    @staticmethod
    @replaces(tarformat.with_pax)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave the record out."""
        member, records = args
        return original(member, {key: value for key, value in records.items() if key != "size"}, **kwargs)


@mutant(breaks=("OVL-APPLY-FORMATS",), source="derived: K before L, as some writers have them", hard=True)
class ApplyForgetsTargetBeforeName(Patched):
    """A long name ends what was said before it, so that a long target counts only behind it."""

    @staticmethod
    @replaces(reader.ArchiveReader._extra)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give an empty target where the header of a name follows."""
        archive, member = args
        data = original(archive, member, **kwargs)
        coming = archive._source
        follows = coming._buffer[coming._position + 156 : coming._position + 157]
        return b"" if member.kind == tarformat.GNU_LONG_LINK and follows == tarformat.GNU_LONG_NAME else data


@mutant(breaks=("OVL-APPLY-FORMATS",), source="tar(5): numbers that leading spaces fill", hard=True)
class ApplyReadsSpacesAsZero(Patched):
    """A number ends at its first space, and one that begins with a space is 0."""

    @staticmethod
    @replaces(tarformat._number)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Only for the mode, so that the checksum and the size are right."""
        value, what = args
        return 0 if what == "mode" and value.startswith(b" ") else original(value, what, **kwargs)


@mutant(breaks=("OVL-APPLY-TRUNCATED",), source="derived: the last byte before the padding", hard=True)
class ApplyTakesFileWithoutItsLastByte(Patched):
    """A file whose last byte is missing is taken, as its blocks are all there."""

    @staticmethod
    @replaces(source.Source.take)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Fill it up."""
        archive, size, what = args
        if size > len(archive._buffer) - archive._position and what.startswith("b'"):
            archive._buffer += archive._fill(1 << 20)
            if size == len(archive._buffer) - archive._position + 1:
                archive._buffer += bytes(1 + -size % tarformat.BLOCK + 2 * tarformat.BLOCK)
        return original(archive, size, what, **kwargs)


@mutant(breaks=("OVL-APPLY-DIRECTORY-TIMES",), source="composefs/composefs-rs#132; containers/podman#25101")
class ApplySetsDirectoryTimesAtOnce(Patched):
    """A directory gets its time when its entry comes, and the time of the call when something is made in it."""

    @staticmethod
    @replaces(times.DirectoryTimes.note)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set it, and note nothing."""
        del original, kwargs
        noted, path, mtime = args
        with noted._root.plain_directory(path, None, make_missing=False) as fd:
            if fd is not None:
                os.utime(f"/proc/self/fd/{fd}", ns=(mtime, mtime))


@mutant(breaks=("OVL-APPLY-LAST-WINS",), source="behaviour#applying-order: times are set after all entries")
class ApplyTakesDirectoryForRemoved(Patched):
    """What was noted of a directory is void when another one of its name was removed, whichever came first."""

    @staticmethod
    @replaces(times.DirectoryTimes._is_removed)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look at no position."""
        noted, path, _ = args
        return original(noted, path, -1, **kwargs)


@mutant(breaks=("OVL-APPLY-ENTRIES",), source="derived: an archive whose order is not the usual one")
class ApplyDeletesInFrontOnly(Patched):
    """A whiteout behind an entry deletes nothing."""

    @staticmethod
    @replaces(unpack._Unpacker.add)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave it out."""
        unpacker, member = args
        if not member.name.rpartition(b"/")[2].startswith(b".wh."):
            unpacker.has_entry = True
        elif hasattr(unpacker, "has_entry"):
            return
        original(*args, **kwargs)
