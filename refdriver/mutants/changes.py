"""Mutants of changes and sizes of the reference driver."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from refdriver import changes, errors, reading, sizes
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-CHANGES-ADDED-AGAIN",), source="containers/storage@c21a98e79")
class ChangesIgnoreLowerWhiteouts(Patched):
    """What a layer below deleted is seen in the layer under that, so what is recreated is modified."""

    @staticmethod
    @replaces(changes._OverlayWalk._visible)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out the lowers that have a whiteout."""
        walk, lowers, name = args

        def deletes(lower: bytes) -> bool:
            path = lower + b"/" + name
            return os.path.lexists(path) and walk.overlay.is_whiteout(os.lstat(path), path)

        return original(walk, [lower for lower in lowers if not deletes(lower)], name, **kwargs)


@mutant(
    breaks=("OVL-CHANGES-ADDED-AGAIN",),
    source="containers/storage@c21a98e79: hidden by an opaque whiteout",
    hard=True,
)
class ChangesIgnoreLowerOpaque(Patched):
    """What a layer below made opaque is transparent: what it hides is seen."""

    @staticmethod
    @replaces(changes._OverlayWalk._visible)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See no marks."""
        walk, lowers, name = args
        return original(_seeing_no_marks(walk), lowers, name, **kwargs)


@mutant(breaks=("OVL-CHANGES-OPAQUE",), source="moby/moby#37880")
class ChangesIgnoreOwnOpaque(Patched):
    """What a directory that was recreated hides is not listed."""

    @staticmethod
    @replaces(changes._OverlayWalk._compare_one)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See no marks."""
        walk, *rest = args
        return original(_seeing_no_marks(walk), *rest, **kwargs)


def _seeing_no_marks(walk: Any) -> Any:
    overlay = SimpleNamespace(is_whiteout=walk.overlay.is_whiteout, is_opaque=lambda _: False)
    return type(walk)(overlay)


@mutant(breaks=("OVL-CHANGES-OPAQUE",), source="moby/moby#37313")
class ChangesDeleteOpaqueDirectory(Patched):
    """A directory that was recreated is listed as deleted."""

    @staticmethod
    @replaces(changes._OverlayWalk._compare_one)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take the mark for a whiteout."""
        walk, path, upper, below = args
        if os.path.isdir(upper) and not os.path.islink(upper) and below and walk.overlay.is_opaque(upper):
            return changes.Change(path, changes.ChangeKind.DELETE)
        return original(*args, **kwargs)


@mutant(
    breaks=("OVL-CHANGES-SYMLINK",), source="behaviour#changes: the Go driver looks at lowers with stat", hard=True
)
class ChangesFollowLowerSymlinks(Patched):
    """Whether something is below is asked with stat(2), which says of a symlink to nothing that it is not."""

    @staticmethod
    @replaces(changes._OverlayWalk._visible)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow."""
        found = original(*args, **kwargs)
        return found if found is None or os.path.exists(found.path) else None


@mutant(breaks=("OVL-CHANGES-EXPLAIN",), source="containerd/containerd@d778dd15d", hard=True)
class ChangesRepeatParents(Patched):
    """The directory of a change is listed for each change in it, but for those that follow one another."""

    @staticmethod
    @replaces(changes._in_order)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """List it again after what was in a directory in it."""
        last = b""
        for change in original(*args, **kwargs):
            parent = change.path.rpartition(b"/")[0]
            if parent and last.startswith(parent + b"/") and last.count(b"/") > change.path.count(b"/"):
                yield type(change)(parent, changes.ChangeKind.MODIFY)
            last = change.path
            yield change


@mutant(breaks=("OVL-CHANGES-ORDER",), source="containerd/continuity@5a839c7: another order")
class ChangesAreSortedByDepth(Patched):
    """Changes are sorted by their depth."""

    @staticmethod
    @replaces(changes._in_order)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Sort."""
        return iter(sorted(original(*args, **kwargs), key=lambda change: (change.path.count(b"/"), change.path)))


class _Naive(Patched):
    """Trees are compared, always."""

    @staticmethod
    @replaces(reading.LayerReader._native_diff_tells)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Never say that the upper tells."""
        del original, args, kwargs
        return False


@mutant(breaks=("OVL-CHANGES-SAME-SECOND",), source="moby/moby#21555", hard=True)
class ChangesCompareSeconds(_Naive):
    """Trees are compared, and two times in one second are the same."""

    @staticmethod
    @replaces(changes._same_time)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave the rest out."""
        del original, kwargs
        return args[0] // 10**9 == args[1] // 10**9


@mutant(breaks=("OVL-CHANGES-SYMLINK",), source="containers/buildah#5861", hard=True)
class ChangesCompareSymlinksByLength(_Naive):
    """Trees are compared, and a symlink with a target as long and a time as old is the same."""

    @staticmethod
    @replaces(changes._differ)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read no links."""
        old, new = (one.status for one in args)
        if stat.S_ISLNK(old.st_mode) and stat.S_ISLNK(new.st_mode):
            return (old.st_size, old.st_mtime_ns) != (new.st_size, new.st_mtime_ns)
        return original(*args, **kwargs)


@mutant(
    breaks=("OVL-CHANGES-EXPLAIN",),
    source="docker/for-linux#307: ENOTDIR is an answer, and no failure; moby/moby#37313",
)
class ChangesFailOnFileBelowDirectory(Patched):
    """Changes fail where a lower has a file in the place of a directory that was made with something in it."""

    @staticmethod
    @replaces(changes._OverlayWalk._compare_one)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Look below it all the same."""
        _, _, upper, below = args
        if below is not None and not below.is_directory and os.path.isdir(upper) and os.listdir(upper):
            raise errors.UnreadableLayer(f"lstat {below.path!r}: not a directory")
        return original(*args, **kwargs)


@mutant(breaks=("OVL-CHANGES-EXPLAIN",), source="stat(2): ELOOP of a symlink in a lower")
class ChangesFailOnSymlinkLoop(Patched):
    """Changes fail where a lower has a symlink that leads to itself."""

    @staticmethod
    @replaces(changes._OverlayWalk._visible)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow."""
        found = original(*args, **kwargs)
        if found is not None:
            try:
                os.stat(found.path)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise errors.UnreadableLayer(f"stat {found.path!r}: {error.strerror}") from error
        return found


@mutant(breaks=("OVL-CHANGES-METADATA",), source="moby/moby#24913: of a directory; field-bugs#chown-of-directory")
class ChangesOmitOwnersOfDirectories(Patched):
    """A directory with another owner, and nothing else that is new, is not among the changes."""

    @staticmethod
    @replaces(changes._differ)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Compare modes of directories only."""
        old, new = args
        if stat.S_ISDIR(old.status.st_mode) and stat.S_ISDIR(new.status.st_mode):
            return old.status.st_mode != new.status.st_mode
        return original(*args, **kwargs)


@mutant(breaks=("OVL-SIZE-HARD-LINKS",), source="boundary: the third name; moby/moby#9283")
class DiffSizeCountsThirdName(Patched):
    """The third name of an inode is counted again."""

    @staticmethod
    @replaces(sizes._Inodes.size_once)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Forget the inode after its second."""
        inodes, status = args
        met = inodes.__dict__.setdefault("met", {})
        met[status.st_ino] = met.get(status.st_ino, 0) + 1
        return (
            status.st_size
            if met[status.st_ino] > 2 and not stat.S_ISDIR(status.st_mode)
            else original(*args, **kwargs)
        )


@mutant(breaks=("OVL-SIZE-HOLES",), source="moby/moby#31944")
class DiffSizeCountsBlocks(Patched):
    """The size of a file is what it takes on disk, if that is less than its length."""

    @staticmethod
    @replaces(sizes._Inodes.size_once)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Ask for the blocks."""
        size = original(*args, **kwargs)
        return min(size, args[1].st_blocks * 512) if stat.S_ISREG(args[1].st_mode) else size


@mutant(
    breaks=("OVL-CHANGES-ANCESTOR",),
    source="containers/storage@f5c1ad912: only another target is a change",
    hard=True,
)
class ComparedSymlinksAlwaysDiffer(Patched):
    """Where trees are compared, a symlink with another inode is another one, whatever its target is."""

    @staticmethod
    @replaces(changes._differ)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Compare no targets."""
        old, new = (one.status for one in args)
        if stat.S_ISLNK(old.st_mode) and stat.S_ISLNK(new.st_mode):
            return (old.st_dev, old.st_ino) != (new.st_dev, new.st_ino)
        return original(*args, **kwargs)
