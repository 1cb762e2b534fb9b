"""What a chain of archives makes: the model of applying, by the layer rules of the image specification.

The model of operations (model.py) says what a mounted layer holds; this one says what an unpacker makes of
archives, those included that no driver writes. Both agree on every archive that layering.py writes from operations,
which tests/conformance/test_applying.py holds.

A layer is applied in two steps: whiteouts and opaque whiteouts remove what lower layers brought, wherever in the
archive they are (image-spec, layer.md: a whiteout applies to lower layers only); then the other entries are applied
in their order. Where the specification is silent, choices.py has the possibilities, and the reasons for which
an unpacker may refuse an archive are collected. A time of None is any time: no entry says it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from conformance.operations.choices import Choices
from conformance.operations.members import Member
from conformance.operations.trees import Node, Snapshot

_ROOT: Final = b""
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_OWN: Final = b".wh..wh."  # names of AUFS, metadata but for the opaque whiteout
_SECOND: Final = 10**9
_MOST_SYMLINKS: Final = 40  # of one path, as in the kernel (path_resolution(7))
_IMPLIED: Final = Node(stat.S_IFDIR | 0o755)
_ENTRY_IN_LOOP: Final = "an entry below a symlink that leads to nothing"
_WHITEOUT_IN_LOOP: Final = "a whiteout below a symlink that leads to itself"
IN_LOOP: Final = frozenset({_ENTRY_IN_LOOP, _WHITEOUT_IN_LOOP})  # reasons to refuse, of who follows symlinks


@dataclass(frozen=True, slots=True)
class Applied:
    """What a chain makes: ``refusable`` says for what an unpacker may refuse one of its archives."""

    tree: Snapshot
    refusable: frozenset[str]


def applied(layers: Iterable[Sequence[Member]], choices: Choices | None = None) -> Applied:
    """The tree of a chain, the base first."""
    tree = _Tree(choices or Choices())
    for layer in layers:
        tree.apply(layer)
    return Applied(tree.snapshot(), frozenset(tree.refusable))


@dataclass(slots=True)
class _Layer:
    """What is known of the layer that is being applied."""

    entries: set[bytes] = field(default_factory=set)  # directories that have an entry in it
    implied: set[bytes] = field(default_factory=set)  # directories that it needs
    hidden: dict[bytes, Node] = field(default_factory=dict)  # directories that it deleted
    own: set[int] = field(default_factory=set)  # inodes that it made
    named: set[bytes] = field(default_factory=set)


class _Tree:
    """A tree that archives are applied to, one after the other."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._names: dict[bytes, int] = {_ROOT: 0}
        self._nodes: dict[int, Node] = {0: _IMPLIED}
        self._next = 1
        self.refusable: set[str] = set()

    def snapshot(self) -> Snapshot:
        groups: dict[int, set[bytes]] = {}
        for path, inode in self._names.items():
            groups.setdefault(inode, set()).add(path)
        return Snapshot(
            {path: self._cut(self._nodes[inode]) for path, inode in self._names.items() if path},
            frozenset(frozenset(group) for group in groups.values() if len(group) > 1),
        )

    def _cut(self, node: Node) -> Node:
        if self._choices.kept_fractions or node.mtime_ns is None:
            return node
        return replace(node, mtime_ns=node.mtime_ns // _SECOND * _SECOND)

    def apply(self, members: Sequence[Member]) -> None:
        layer = _Layer()
        groups = self.snapshot().link_groups
        marks: set[bytes] = set()
        for member in members:
            path = self._inside(member.name)
            if path is not None and _is_whiteout(path):
                self._check_whiteout(path, member)
                if path in marks:
                    self.refusable.add("two entries of one name")
                marks.add(path)
                self._hide(path, layer)
        for member in members:
            path = self._inside(member.name)
            if path is None or path == _ROOT:
                self._check_root(member)
            elif _is_whiteout(path):
                self._need_for_whiteout(path, layer)
            elif not self._is_metadata(path):
                self._put(path, member, layer)
        self._finish(layer, groups)

    def _inside(self, name: bytes) -> bytes | None:
        """The path of a name within the layer; None if it is left out."""
        parts: list[bytes] = []
        if name.startswith(b"/"):
            self.refusable.add("an absolute name")
        for part in name.split(b"/"):
            if part == b"..":
                self.refusable.add("a name with '..'")
                if not self._choices.kept_names:
                    return None
                del parts[-1:]
            elif part not in (b"", b"."):
                parts.append(part)
        if name.startswith(b"/") and not self._choices.kept_names and parts:
            return None
        return b"/".join(parts)

    def _is_metadata(self, path: bytes) -> bool:
        """Whether an entry is of AUFS; what is below such a directory is silent."""
        *above, name = path.split(b"/")
        below = any(one.startswith(_OWN) for one in above)
        return name.startswith(_OWN) or (below and self._choices.no_aufs_metadata)

    def _check_root(self, member: Member) -> None:
        if not stat.S_ISDIR(member.node.mode):
            self.refusable.add("an entry of the root that is no directory")

    def _check_whiteout(self, path: bytes, member: Member) -> None:
        node, name = member.node, _last(path)
        if name in (_WHITEOUT, _WHITEOUT + b".", _WHITEOUT + b".."):
            self.refusable.add("a whiteout that names nothing")
        if not stat.S_ISREG(node.mode) or node.content:
            self.refusable.add("a whiteout that is no empty file")

    def _hide(self, path: bytes, layer: _Layer) -> None:
        """Remove what a whiteout names of the lower layers, if it is reached through directories only."""
        above = self._reached(_parent(path))
        if above is None:
            return
        name = _last(path)
        if name == _OPAQUE:
            gone = [one for one in self._names if one and _parent(one) == above]
        else:
            gone = [_join(above, name.removeprefix(_WHITEOUT))]
        if name != _OPAQUE and (name.startswith(_OWN) or name.removeprefix(_WHITEOUT) in (b"", b".", b"..")):
            return
        for one in gone:
            self._forget(one, layer)

    def _reached(self, directory: bytes) -> bytes | None:
        """A directory of the lower layers, through symlinks if they are followed; None if it is none."""
        found = directory if self._choices.replaced_symlinks else self._resolved(directory)
        if found is None:
            return None
        for above in (*_above(found), found):
            if above not in self._names or not self._node(above).is_directory:
                return None
        return found

    def _forget(self, path: bytes, layer: _Layer) -> None:
        if path not in self._names:
            return
        for one in [path, *self._below(path)]:
            if self._node(one).is_directory:
                layer.hidden[one] = self._node(one)
            self._drop(one)

    def _need_for_whiteout(self, path: bytes, layer: _Layer) -> None:
        if self._resolved(_parent(path)) is None:
            self.refusable.add(_WHITEOUT_IN_LOOP)
        above = self._reached(_parent(path))
        if above is not None:
            layer.implied |= {above, *_above(above)} - {_ROOT}
        elif _parent(path) in layer.hidden:
            self.refusable.add("a whiteout in a directory that the archive deletes")
        elif self._choices.whiteouts_make_parents:
            self._parents(path, layer)

    def _put(self, path: bytes, member: Member, layer: _Layer) -> None:
        path = self._parents(path, layer)
        if path in layer.named:
            self.refusable.add("two entries of one name")
        layer.named.add(path)
        if member.left_out:
            self.refusable.add("an attribute that a layer does not carry")
        if member.is_link:
            self._link(path, member, layer)
            return
        old = self._node(path) if path in self._names else None
        if old is not None and old.is_directory and stat.S_ISDIR(member.node.mode):
            kept = {} if self._choices.replaced_attributes else dict(old.xattrs)
            self._nodes[self._names[path]] = replace(member.node, xattrs={**kept, **member.node.xattrs})
        else:
            self._remove(path, layer)
            self._add(path, member.node, layer)
        if stat.S_ISDIR(member.node.mode):
            layer.entries.add(path)

    def _add(self, path: bytes, node: Node, layer: _Layer) -> None:
        self._names[path], self._nodes[self._next] = self._next, node
        layer.own.add(self._next)
        self._next += 1

    def _link(self, path: bytes, member: Member, layer: _Layer) -> None:
        """A further name of what is there; where there is nothing, there is no entry."""
        target = self._target(member.node.target)
        if target == path:
            return
        if target is None or target not in self._names or self._node(target).is_directory:
            self.refusable.add("a hard link to what is not there, or to a directory")
            return
        inode = self._names[target]
        if target.startswith(path + b"/"):
            self.refusable.add("a hard link that replaces the directory of its target")
        node = self._nodes[inode]
        self._remove(path, layer)
        if inode not in layer.own:
            self.refusable.add("a hard link to a file of a lower layer")
            if not self._choices.linked_to_lower:
                self._add(path, node, layer)
                return
        self._names[path], self._nodes[inode] = inode, node  # which the removal dropped, if it was of a directory

    def _target(self, name: bytes) -> bytes | None:
        """The path that a hard link names; None through a symlink, or outside."""
        if b".." in name.split(b"/") or name.startswith(b"/"):
            self.refusable.add("a hard link to a path outside")
        path = self._inside(name)
        if path is None:
            return None
        above = self._reached(_parent(path))
        return None if above is None else _join(above, _last(path))

    def _parents(self, path: bytes, layer: _Layer) -> bytes:
        """Make the directories above a path, and note that they are needed; the path within the directories."""
        above, name = _parent(path), _last(path)
        if not self._choices.replaced_symlinks:
            found = self._resolved(above)
            if found is None:
                self.refusable.add(_ENTRY_IN_LOOP)
            above = above if found is None else found
        for one in (*_above(above), above):
            if one == _ROOT:
                continue
            if one in self._names and not self._node(one).is_directory:
                self.refusable.add("an entry below what is no directory")
                self._remove(one, layer)
            if one not in self._names:
                lower = None if self._choices.hidden_directories else layer.hidden.get(one)
                self._add(one, replace(lower or self._implied_in(_parent(one)), mtime_ns=None), layer)
            layer.implied.add(one)
        return _join(above, name)

    def _implied_in(self, directory: bytes) -> Node:
        """A directory without an entry, as mkdir(2) makes it in another, or without what it inherits."""
        above = self._node(directory)
        if self._choices.plain_directories or not above.mode & stat.S_ISGID:
            return _IMPLIED
        return replace(_IMPLIED, mode=_IMPLIED.mode | stat.S_ISGID, gid=above.gid)

    def _resolved(self, directory: bytes) -> bytes | None:
        """A directory without symlinks, within the root; None for too many."""
        pending = [part for part in directory.split(b"/") if part]
        found: list[bytes] = []
        followed = 0
        while pending:
            part = pending.pop(0)
            if part == b"..":
                del found[-1:]
            elif part and part != b".":
                here = b"/".join([*found, part])
                if here in self._names and self._node(here).is_symlink:
                    followed += 1
                    if followed > _MOST_SYMLINKS:
                        return None
                    target = self._node(here).target
                    if target.startswith(b"/"):
                        found = []
                    pending[:0] = target.split(b"/")
                else:
                    found.append(part)
        return b"/".join(found)

    def _finish(self, layer: _Layer, groups: frozenset[frozenset[bytes]]) -> None:
        """The metadata of directories that the layer needs and has no entry of, and the links of lower names."""
        for path in layer.implied & self._names.keys():
            if path in layer.entries or not self._node(path).is_directory:
                continue
            inode = self._names[path]
            kept = self._nodes[inode] if self._choices.lower_directories or inode in layer.own else _IMPLIED
            self._nodes[inode] = replace(kept, mtime_ns=None)
        if not self._choices.linked_groups:
            for group in groups:
                self._split(group, layer)

    def _split(self, group: frozenset[bytes], layer: _Layer) -> None:
        """Give each lower name of an inode one of its own, where the layer replaced or deleted other names."""
        left = [path for path in sorted(group) if path in self._names and self._names[path] not in layer.own]
        if len(left) < len(group):
            for path in left[1:]:
                node = self._node(path)
                self._add(path, node, layer)

    def _remove(self, path: bytes, layer: _Layer) -> None:
        """Remove a name with all that is below it, whatever layer it is of."""
        if path in self._names:
            for one in [path, *self._below(path)]:
                layer.entries.discard(one)
                self._drop(one)

    def _drop(self, path: bytes) -> None:
        inode = self._names.pop(path)
        if inode not in self._names.values():
            del self._nodes[inode]

    def _below(self, path: bytes) -> list[bytes]:
        return sorted(one for one in self._names if one.startswith(path + b"/"))

    def _node(self, path: bytes) -> Node:
        return self._nodes[self._names[path]]


def _is_whiteout(path: bytes) -> bool:
    name = _last(path)
    return name.startswith(_WHITEOUT) and (name == _OPAQUE or not name.startswith(_OWN))


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _last(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _join(above: bytes, name: bytes) -> bytes:
    return above + b"/" + name if above else name


def _above(path: bytes) -> Iterator[bytes]:
    """The directories above a path, the highest first, without the root."""
    parts = path.split(b"/")[:-1]
    return (b"/".join(parts[: number + 1]) for number in range(len(parts)))
