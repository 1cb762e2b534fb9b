"""Mutants of diffs and of applying them of the reference driver."""

from __future__ import annotations

import dataclasses
import os
import stat
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from refdriver import changes, layermounts, layers, overlayxattr
from refdriver.archive import pack, source, stream, tarformat, unpack
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-DIFF-NATIVE-NAIVE",), source="containers/storage#217: where trees are compared", hard=True)
class NaiveDiffIgnoresXattrs(Patched):
    """Where trees are compared, attributes are left out."""

    @staticmethod
    @replaces(changes._carried_xattrs)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See none."""
        del original, args, kwargs
        return {}


@mutant(breaks=("OVL-DIFF-NATIVE-NAIVE",), source="moby/moby#20240", hard=True)
class NaiveDiffIgnoresOwners(Patched):
    """Where trees are compared, owners are left out."""

    @staticmethod
    @replaces(changes._differ)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Give both to one."""
        return original(*map(_of_nobody, args), **kwargs)


def _of_nobody(node: Any) -> Any:
    fields = {name: getattr(node.status, name) for name in dir(node.status) if name.startswith("st_")}
    status = SimpleNamespace(**{**fields, "st_uid": 0, "st_gid": 0})
    return type(node)(node.path, status, node.list_children, node.directories)


@mutant(breaks=("OVL-DIFF-NATIVE-NAIVE",), source="moby/moby#24913; moby/moby#28391", hard=True)
class NaiveDiffIgnoresModesOfDirectories(Patched):
    """Where trees are compared, a directory is one whatever its mode is."""

    @staticmethod
    @replaces(changes._differ)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Compare what both are."""
        old, new = args
        both = stat.S_ISDIR(old.status.st_mode) and stat.S_ISDIR(new.status.st_mode)
        return False if both else original(*args, **kwargs)


@mutant(breaks=("OVL-DIFF-NATIVE-NAIVE",), source="containerd/continuity@5a839c7", hard=True)
class NaiveDiffMissortsNeighbours(Patched):
    """Two lists of paths are merged that are sorted in two ways, so what sorts beside 'd/' is lost: 'd-'."""

    @staticmethod
    @replaces(changes._compare)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Lose it."""
        prefix, before, after = args
        directories = [name for name, node in after.items() if node.is_directory]

        def kept(name: bytes) -> bool:
            return not any(name.startswith(one) and one < name < one + b"/" for one in directories)

        return original(
            prefix,
            {name: node for name, node in before.items() if kept(name)},
            {name: node for name, node in after.items() if kept(name)},
            **kwargs,
        )


@mutant(breaks=("OVL-APPLY-HARD-LINKS",), source="containers/storage@6147ac0c3", hard=True)
class DiffCopiesLinkedSymlinks(Patched):
    """Only regular files are looked for among the names that were packed already."""

    @staticmethod
    @replaces(pack._Packer._earlier_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take a symlink for a new one."""
        return original(*args, **kwargs) if not stat.S_ISLNK(args[2].st_mode) else None


@mutant(breaks=("OVL-APPLY-HARD-LINKS",), source="containers/storage@8aad48ae2: of what is no file", hard=True)
class DiffCopiesLinkedPipes(Patched):
    """A pipe that has several names is several pipes."""

    @staticmethod
    @replaces(pack._Packer._earlier_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take it for a new one."""
        return original(*args, **kwargs) if not stat.S_ISFIFO(args[2].st_mode) else None


@mutant(breaks=("OVL-APPLY-HARD-LINKS",), source="containerd/containerd@3b1534c47", hard=True)
class ApplyLinksToTargetOfSymlink(Patched):
    """A hard link to a symlink becomes one to what the symlink points at."""

    @staticmethod
    @replaces(unpack._Unpacker._hard_link)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As link does on some systems."""
        unpacker, directory, name, _, member = args
        target = unpacker._root.path + b"/" + member.target
        if os.path.islink(target):
            os.symlink(os.readlink(target), name, dir_fd=directory)
            return None
        return original(*args, **kwargs)


@mutant(breaks=("OVL-DIFF-LINKS",), source="containers/storage@8aad48ae2: a link to a link", hard=True)
class DiffLinksToLink(Patched):
    """The third name of an inode is a link to the second, which is a link itself."""

    @staticmethod
    @replaces(pack._Packer._earlier_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Remember the last one."""
        packer, path, status = args
        first = original(*args, **kwargs)
        last = packer.__dict__.setdefault("last", {})
        before = last.get(status.st_ino)
        last[status.st_ino] = path
        return before if first else None


@mutant(breaks=("OVL-APPLY-HARD-LINKS",), source="boundary: the third name of an inode", hard=True)
class DiffCopiesThirdHardLink(Patched):
    """An inode is forgotten when its second name was packed, so the third is a file of its own."""

    @staticmethod
    @replaces(pack._Packer._earlier_name)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count to two."""
        packer, path, status = args
        first = original(packer, path, status, **kwargs)
        if first:
            packer._first_names.pop((status.st_dev, status.st_ino), None)
        return first


@mutant(breaks=("OVL-DIFF-ANCESTOR",), source="behaviour#native-diff: for the direct parent only", hard=True)
class DiffTakesAncestorForParent(Patched):
    """Any layer of the chain is taken for the direct parent, so a diff against a grandparent lacks the parent."""

    @staticmethod
    @replaces(layers.LayerStore.is_direct_parent)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Somewhere in the chain."""
        store, layer, parent = args
        named = any(lower.layer.layer_id == parent for lower in store.lowers(layer))
        return named or original(*args, **kwargs)


@mutant(breaks=("OVL-APPLY-ROUND-TRIP",), source="moby/moby@49c3a7c4ba", hard=True)
class MountEnablesRedirectDir(Patched):
    """Layers are mounted with redirect_dir=on, and diffs are taken from the upper: a renamed directory is empty."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add the option."""
        mounts, request = args
        return original(
            mounts, dataclasses.replace(request, options=(*request.options, "redirect_dir=on")), **kwargs
        )


@mutant(breaks=("OVL-DIFF-COPY-UP-DATA",), source="containers/storage#640; containers/storage#815", hard=True)
class MountEnablesMetacopy(Patched):
    """Layers are mounted with metacopy=on, and diffs are taken from the upper: what was only chmodded is a hole."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add the option."""
        mounts, request = args
        return original(mounts, dataclasses.replace(request, options=(*request.options, "metacopy=on")), **kwargs)


@mutant(breaks=("OVL-APPLY-FILE-TIMES",), source="utimensat(2): AT_SYMLINK_NOFOLLOW", hard=True)
class ApplyIgnoresTimesOfSymlinks(Patched):
    """A symlink has the time at which it is unpacked: utime without AT_SYMLINK_NOFOLLOW is left out for it."""

    @staticmethod
    @replaces(unpack._Unpacker._own)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set it to now."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind == b"2":
            os.utime(name, dir_fd=directory, follow_symlinks=False)


@mutant(breaks=("OVL-APPLY-FILE-TIMES",), source="behaviour#entry-metadata: headers carry mtime", hard=True)
class ApplyIgnoresTimesOfDevices(Patched):
    """What is no file, directory or symlink has the time at which it is unpacked."""

    @staticmethod
    @replaces(unpack._Unpacker._own)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set it to now."""
        _, directory, name, member = args
        original(*args, **kwargs)
        if member.kind != b"2":
            os.utime(name, dir_fd=directory)


@mutant(breaks=("OVL-DIFF-SOCKETS",), source="containerd/containerd#2222")
class DiffPacksSocketsAsPipes(Patched):
    """A socket goes into the archive as the pipe that is nearest to it."""

    @staticmethod
    @replaces(pack._Packer.entry)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Change what it is."""
        packer, directory, name, path, status = args
        if stat.S_ISSOCK(status.st_mode):
            fields = {key: getattr(status, key) for key in dir(status) if key.startswith("st_")}
            status = SimpleNamespace(**{**fields, "st_mode": stat.S_IFIFO | stat.S_IMODE(status.st_mode)})
        return original(packer, directory, name, path, status, **kwargs)


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


@mutant(breaks=("OVL-DIFF-DETERMINISTIC",), source="containers/storage@cbef82ca7")
class DiffStampsWhiteoutsWithNow(Patched):
    """A whiteout has the time at which the archive is written, rounded to a second."""

    @staticmethod
    @replaces(tarformat.encode)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask the clock."""
        member = args[0]
        if member.name.rpartition(b"/")[2].startswith(b".wh."):
            member.mtime = round(time.time()) * 10**9
        return original(member, **kwargs)


@mutant(breaks=("OVL-DIFF-DETERMINISTIC",), source="derived: a reader that wants less than a block", hard=True)
class DiffLosesRestOfShortReads(Patched):
    """A read of less than a block takes the rest of the block along."""

    @staticmethod
    @replaces(stream.ArchiveStream.readinto)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read on, and give the first part."""
        archive, buffer = args
        count = original(archive, buffer, **kwargs)
        if 0 < len(buffer) < tarformat.BLOCK and count == len(buffer):
            original(archive, bytearray(tarformat.BLOCK - count))
        return count


@mutant(
    breaks=("OVL-DIFF-NATIVE-NAIVE",),
    source="behaviour#pax-extensions: where trees are compared",
    hard=True,
)
class NaiveDiffCutsTimes(Patched):
    """Where trees are compared, times in the archive are whole seconds."""

    @staticmethod
    @replaces(pack._Packer._member)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Cut them where the tree is no layer's own directory."""
        packer, *_ = args
        member = original(*args, **kwargs)
        if packer._overlay is None:
            member.mtime -= member.mtime % 10**9
        return member


@mutant(
    breaks=("OVL-DIFF-NATIVE-NAIVE",),
    source="containerd/containerd@51b8e468e: where trees are compared",
    hard=True,
)
class NaiveDiffMissesLinks(Patched):
    """Where trees are compared, a file that got another name is the file that it was."""

    @staticmethod
    @replaces(changes._joined)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See no links."""
        del original, args, kwargs
        return frozenset()


@mutant(breaks=("OVL-DIFF-TAR",), source="containers/storage#1847")
class DiffCarriesMarksOfOtherMounts(Patched):
    """Attributes user.overlay.* are carried by root: a user namespace takes them for its own."""

    @staticmethod
    @replaces(overlayxattr.is_carried)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Only trusted.overlay.* are overlay's."""
        return original(*args, **kwargs) or args[0].startswith("user.")
