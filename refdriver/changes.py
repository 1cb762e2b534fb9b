"""What a layer changes: from its own directory (native), or from two whole trees (naive).

Changes come in the order of their paths, with ``/`` lowest. They explain the child: what is in the child and
not in the parent is ADD, what is in the parent only is DELETE (its content is not listed), what differs is
MODIFY, and the directories above a change are MODIFY, once each, before it.
"""

from __future__ import annotations

import enum
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Final

from refdriver.errors import UnreadableLayer
from refdriver.overlayxattr import OverlayXattrs, is_carried

_SECOND: Final = 10**9


class ChangeKind(enum.Enum):
    """The numbers are those of the Docker graph-driver protocol."""

    MODIFY = 0
    ADD = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One path, absolute within the layer, and what happened to it."""

    path: bytes
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class _Node:
    """An entry of a tree: where it is on disk, what lstat says, and its children by name.

    A directory that several lowers make up has them all in ``directories``, uppermost first. ``joined`` is a name
    that is a link of another one and was not before.
    """

    path: bytes
    status: os.stat_result
    list_children: Callable[[], dict[bytes, _Node]]
    directories: tuple[bytes, ...] = ()
    joined: bool = False

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


@dataclass(frozen=True, slots=True)
class _Descent:
    """A directory to look into: its own change, if it has one, comes before what is found in it."""

    path: bytes
    kind: ChangeKind | None
    inside: Iterator[Change | _Descent]


_Steps = Iterator[Change | _Descent]


def tree_changes(old: str | None, new: str) -> Iterator[Change]:
    """The changes from one tree to another, or from nothing; raises UnreadableLayer.

    A file that got a second name is a modification, as it is in an upper: an archive with the new name alone could
    not tell of what it is a link.
    """
    root = os.fsencode(new)
    before = _plain_node(os.fsencode(old)).list_children() if old is not None else {}
    joined = _joined(os.fsencode(old), root) if old is not None else frozenset[bytes]()
    yield from _in_order(_compare(b"", before, _plain_node(root, joined).list_children()))


def overlay_changes(diff: str, lowers: Sequence[str], overlay: OverlayXattrs) -> Iterator[Change]:
    """The changes that an upper makes to the tree that ``lowers`` (uppermost first) show.

    Only what the upper holds is looked at. Raises UnreadableLayer.
    """
    walk = _OverlayWalk(overlay)
    return _in_order(walk.compare(b"", os.fsencode(diff), [os.fsencode(lower) for lower in lowers]))


def _in_order(steps: _Steps) -> Iterator[Change]:
    """All changes, each after the directories above it. Without recursion, so that a tree may be any depth."""
    # (what is still to come in a directory, the directory's own entry if it is not listed yet)
    stack: list[tuple[_Steps, Change | None]] = [(steps, None)]
    while stack:
        step = next(stack[-1][0], None)
        if step is None:
            stack.pop()
        elif isinstance(step, _Descent) and step.kind is None:
            stack.append((step.inside, Change(step.path, ChangeKind.MODIFY)))
        else:
            for place, (inside, unlisted) in enumerate(stack):
                if unlisted is not None:
                    yield unlisted
                    stack[place] = (inside, None)
            if isinstance(step, _Descent):
                yield Change(step.path, step.kind or ChangeKind.MODIFY)
                stack.append((step.inside, None))
            else:
                yield step


def _compare(prefix: bytes, before: dict[bytes, _Node], after: dict[bytes, _Node]) -> _Steps:
    for name in sorted(before.keys() | after.keys()):
        step = _compare_one(prefix + b"/" + name, before.get(name), after.get(name))
        if step is not None:
            yield step


def _compare_one(path: bytes, old: _Node | None, new: _Node | None) -> Change | _Descent | None:
    if new is None:
        return Change(path, ChangeKind.DELETE)
    kind = None
    if old is None:
        kind = ChangeKind.ADD
    elif _differ(old, new):
        kind = ChangeKind.MODIFY
    if not new.is_directory:
        return Change(path, kind) if kind else None
    was = old if old is not None and old.is_directory else None
    return _Descent(path, kind, _compare_children(path, was, new))


def _compare_children(path: bytes, old: _Node | None, new: _Node) -> _Steps:
    # A generator, so that a directory is read only when the walk comes to it.
    yield from _compare(path, old.list_children() if old else {}, new.list_children())


def _differ(old: _Node, new: _Node) -> bool:
    """Whether two entries of one path differ in what an archive carries."""
    if new.joined:
        return True
    a, b = old.status, new.status
    if (a.st_ino, a.st_dev) == (b.st_ino, b.st_dev) and not old.is_directory:
        return False
    if (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev):
        return True
    if not old.is_directory and (a.st_size != b.st_size or not _same_time(a.st_mtime_ns, b.st_mtime_ns)):
        return True
    if stat.S_ISLNK(a.st_mode) and _target(old) != _target(new):
        return True
    return _carried_xattrs(old) != _carried_xattrs(new)


def _target(node: _Node) -> bytes:
    try:
        return os.readlink(node.path)
    except OSError as error:
        raise _unreadable(node.path, error) from error


def _same_time(a: int, b: int) -> bool:
    """Times of one second are equal when either was cut to whole seconds, as archives without PAX do."""
    return a == b or (a // _SECOND == b // _SECOND and (a % _SECOND == 0 or b % _SECOND == 0))


def _carried_xattrs(node: _Node) -> dict[str, bytes]:
    if not (stat.S_ISREG(node.status.st_mode) or node.is_directory):
        return {}
    try:
        return {
            name: os.getxattr(node.path, name, follow_symlinks=False)
            for name in os.listxattr(node.path, follow_symlinks=False)
            if is_carried(name)
        }
    except OSError as error:
        raise _unreadable(node.path, error) from error


def _plain_node(path: bytes, joined: Set[bytes] = frozenset()) -> _Node:
    def children() -> dict[bytes, _Node]:
        return {name: _plain_node(path + b"/" + name, joined) for name in _names(path)}

    return _Node(path, _lstat(path), children, joined=path in joined)


def _joined(old: bytes, new: bytes) -> frozenset[bytes]:
    """The paths in a tree that are links of one another, and were not all links of one another in the old one."""
    found = set[bytes]()
    for paths in _linked_paths(new):
        before = {_inode_at(old, path[len(new) :]) for path in paths}
        if len(before) > 1:
            found.update(paths)
    return frozenset(found)


def _linked_paths(root: bytes) -> Iterable[list[bytes]]:
    """The paths of each inode that has several names."""
    found = defaultdict[tuple[int, int], list[bytes]](list)
    pending = [root]
    while pending:
        directory = pending.pop()
        for path in (directory + b"/" + name for name in _names(directory)):
            status = _lstat(path)
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)
            elif status.st_nlink > 1:
                found[status.st_dev, status.st_ino].append(path)
    return found.values()


def _inode_at(root: bytes, path: bytes) -> tuple[int, int] | None:
    """The device and inode of what is there, if it is no directory; no symlink is followed on the way."""
    at = root
    *above, last = path.strip(b"/").split(b"/")
    for name in above:
        at += b"/" + name
        status = _lstat_or_none(at)
        if status is None or not stat.S_ISDIR(status.st_mode):
            return None
    status = _lstat_or_none(at + b"/" + last)
    return None if status is None or stat.S_ISDIR(status.st_mode) else (status.st_dev, status.st_ino)


def _lstat_or_none(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def _names(directory: bytes) -> list[bytes]:
    try:
        return os.listdir(directory)
    except OSError as error:
        raise _unreadable(directory, error) from error


def _lstat(path: bytes) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: bytes, error: OSError) -> UnreadableLayer:
    return UnreadableLayer(f"cannot read {path!r} to find the changes: {error.strerror}")


@dataclass(frozen=True, slots=True)
class _OverlayWalk:
    """Looks at an upper, and at its lowers through the eyes of the kernel."""

    overlay: OverlayXattrs

    def compare(self, prefix: bytes, upper: bytes, lowers: Sequence[bytes]) -> _Steps:
        """The changes in one directory; ``lowers`` are the directories that show through it, uppermost first."""
        for name in sorted(_names(upper)):
            below = self._visible(lowers, name)
            step = self._compare_one(prefix + b"/" + name, upper + b"/" + name, below)
            if step is not None:
                yield step

    def _compare_one(self, path: bytes, upper: bytes, below: _Node | None) -> Change | _Descent | None:
        status = _lstat(upper)
        if self._is_whiteout(status, upper):
            return Change(path, ChangeKind.DELETE) if below is not None else None
        if not stat.S_ISDIR(status.st_mode):
            return Change(path, ChangeKind.MODIFY if below is not None else ChangeKind.ADD)
        new = _Node(upper, status, lambda: self._merged_children([upper]))
        kind: ChangeKind | None = ChangeKind.ADD
        if below is not None:
            # The time of a directory is part of it: an archive carries it.
            same = not _differ(below, new) and _same_time(below.status.st_mtime_ns, status.st_mtime_ns)
            kind = None if same else ChangeKind.MODIFY
        shown = below if below is not None and below.is_directory else None
        if shown is None or self._is_opaque(upper):
            return _Descent(path, kind, _compare_children(path, shown, new))
        return _Descent(path, kind, self.compare(path, upper, shown.directories))

    def _visible(self, lowers: Sequence[bytes], name: bytes) -> _Node | None:
        """What the lowers show under a name: the uppermost entry, merged with the directories below it."""
        directories: list[bytes] = []
        first: os.stat_result | None = None
        for lower in lowers:
            path = lower + b"/" + name
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise _unreadable(path, error) from error
            if self._is_whiteout(status, path) or (directories and not stat.S_ISDIR(status.st_mode)):
                break
            if not stat.S_ISDIR(status.st_mode):
                return _Node(path, status, dict)
            directories.append(path)
            first = first or status
            if self._is_opaque(path):
                break
        if first is None:
            return None
        return _Node(directories[0], first, lambda: self._merged_children(directories), tuple(directories))

    def _is_opaque(self, path: bytes) -> bool:
        try:
            return self.overlay.is_opaque(path)
        except OSError as error:
            raise _unreadable(path, error) from error

    def _is_whiteout(self, status: os.stat_result, path: bytes) -> bool:
        try:
            return self.overlay.is_whiteout(status, path)
        except OSError as error:
            raise _unreadable(path, error) from error

    def _merged_children(self, directories: Sequence[bytes]) -> dict[bytes, _Node]:
        names = {name for directory in directories for name in _names(directory)}
        shown = {name: self._visible(directories, name) for name in names}
        return {name: node for name, node in shown.items() if node is not None}
