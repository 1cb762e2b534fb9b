"""Mutants of changes: what is seen below, what counts as another entry, and how two trees are compared."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from refdriver import changes, driver
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
    @replaces(driver.Driver._native_diff_tells)
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
