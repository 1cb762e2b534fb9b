"""What must be true: a pure tree of inodes, and what each operation does to it.

The model is a filesystem as POSIX and the kernel's overlay documentation have it. Three answers are possible
to an operation: it is done; it fails with an errno; or it is *unspecified*, because overlay documents that it
differs there from other filesystems (a hard link of a lower layer that is broken by copy-up, a rename of a
directory that lies in a lower layer, which may say EXDEV).
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, assert_never

from conformance.operations import ops
from conformance.operations.trees import CAPABILITY, Node, Snapshot

ROOT: Final = b""


class Refused(Exception):
    """The operation fails with one of these errnos and changes nothing."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(" or ".join(errno.errorcode[number] for number in numbers))
        self.numbers = frozenset(numbers)


class Unspecified(Exception):
    """Overlay documents that the outcome differs from other filesystems; the operation is not to be tried."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What may come of an operation: ``errors`` are errnos that are right; ``done`` if success is."""

    done: bool
    errors: frozenset[int] = frozenset()


_DONE: Final = Outcome(True)
_DONE_OR_EXDEV: Final = Outcome(True, frozenset({errno.EXDEV}))


class Tree:
    """The tree of one layer over its parents, open for operations.

    ``privileged`` says whether what is done in it is done with the capabilities of real root: without CAP_FSETID in
    the initial user namespace, a write clears setuid, and setgid where the group may execute (capabilities(7)).
    """

    def __init__(self, *, privileged: bool = True) -> None:
        self._privileged = privileged
        self._names: dict[bytes, int] = {ROOT: 0}
        self._nodes: dict[int, Node] = {0: Node(stat.S_IFDIR | 0o755)}
        self._fresh: set[int] = {0}  # inodes that this layer made; all others lie in a lower layer
        self._next = 1

    def child(self) -> Tree:
        """The tree of a new layer on this one."""
        other = Tree(privileged=self._privileged)
        other._names = dict(self._names)
        other._nodes = dict(self._nodes)
        other._fresh = set()
        other._next = self._next
        return other

    def copy(self) -> Tree:
        """The same tree, to try something in."""
        other = self.child()
        other._fresh = set(self._fresh)
        return other

    def permits(self, operation: ops.Operation) -> bool:
        """Whether an operation may succeed."""
        try:
            return self.expect(operation).done
        except Unspecified:
            return False

    def snapshot(self) -> Snapshot:
        """The tree as a value, without its root."""
        groups: dict[int, set[bytes]] = {}
        for path, inode in self._names.items():
            groups.setdefault(inode, set()).add(path)
        return Snapshot(
            {path: self._nodes[inode] for path, inode in self._names.items() if path},
            frozenset(frozenset(group) for group in groups.values() if len(group) > 1),
        )

    def expect(self, operation: ops.Operation) -> Outcome:
        """What may come of an operation, without doing it; raises Unspecified."""
        trial = self.copy()
        try:
            trial.apply(operation)
        except Refused as refused:
            beside = {errno.EXDEV} if self._moves_lower_directory(operation) else set()
            return Outcome(False, refused.numbers | beside)
        return _DONE_OR_EXDEV if self._moves_lower_directory(operation) else _DONE

    def apply(self, operation: ops.Operation) -> None:  # noqa: C901 - one flat table of operations
        """Do an operation; raises Refused or Unspecified and then changes nothing."""
        match operation:
            case ops.CreateFile(path, content, mode):
                self._create(path, Node(stat.S_IFREG | mode, content=content))
            case ops.MakeDirectory(path, mode):
                self._create(path, Node(stat.S_IFDIR | mode))
            case ops.MakeSymlink(path, target):
                self._create(path, Node(stat.S_IFLNK | 0o777, target=target))
            case ops.MakeFifo(path, mode):
                self._create(path, Node(stat.S_IFIFO | mode))
            case ops.MakeDevice(path, kind, major, minor, mode):
                file_type = stat.S_IFCHR if kind == ops.CHARACTER else stat.S_IFBLK
                self._create(path, Node(file_type | mode, device=(major, minor)))
            case ops.MakeHardLink(path, existing):
                self._link(existing, path)
            case ops.Rename(path, to):
                self._rename(path, to)
            case ops.Unlink(path):
                self._unlink(path)
            case ops.RemoveDirectory(path):
                self._rmdir(path)
            case ops.RemoveTree(path):
                self._lookup(path)
                for name in [*self._below(path), path]:
                    self._drop(name)
            case ops.Chmod(path, mode):
                self._chmod(path, mode)
            case ops.Chown(path, uid, gid):
                self._chown(path, uid, gid)
            case ops.SetTimes(path, mtime_ns):
                self._change(path, mtime_ns=mtime_ns)
            case ops.SetXattr(path, name, value):
                self._set_xattr(path, name, value)
            case ops.Truncate(path, size):
                content = self._regular(path).content
                self._write(path, content[:size].ljust(size, b"\0"))
            case ops.WriteAt(path, offset, data):
                content = self._regular(path).content.ljust(offset, b"\0")
                self._write(path, content[:offset] + data + content[offset + len(data) :])
            case _:
                assert_never(operation)

    def _parent(self, path: bytes) -> bytes:
        """The parent directory, which must be reached without symlinks."""
        parent = path.rpartition(b"/")[0]
        reached = ROOT
        for part in filter(None, parent.split(b"/")):
            reached = reached + b"/" + part if reached else part
            if reached not in self._names:
                raise Refused(errno.ENOENT)
            if not self._nodes[self._names[reached]].is_directory:
                raise Refused(errno.ENOTDIR)
        return parent

    def _lookup(self, path: bytes) -> Node:
        self._parent(path)
        if path not in self._names:
            raise Refused(errno.ENOENT)
        return self._nodes[self._names[path]]

    def _below(self, path: bytes) -> list[bytes]:
        return sorted((name for name in self._names if name.startswith(path + b"/")), reverse=True)

    def _create(self, path: bytes, node: Node) -> None:
        parent = self._parent(path)
        if path in self._names:
            raise Refused(errno.EEXIST)
        above = self._nodes[self._names[parent]]
        if above.mode & stat.S_ISGID:
            node = replace(node, gid=above.gid)
        inode, self._next = self._next, self._next + 1
        self._names[path], self._nodes[inode] = inode, node
        self._fresh.add(inode)
        self._touch(parent)

    def _touch(self, directory: bytes) -> None:
        inode = self._names[directory]
        self._nodes[inode] = replace(self._nodes[inode], mtime_ns=None)

    def _copy_up(self, path: bytes) -> int:
        """The inode of a path, in this layer; a lower one with other names would lose its links (overlayfs.rst)."""
        inode = self._names[path]
        if inode in self._fresh:
            return inode
        if list(self._names.values()).count(inode) > 1:
            raise Unspecified
        if not self._nodes[inode].is_directory:
            self._fresh.add(inode)
        return inode

    def _link(self, existing: bytes, path: bytes) -> None:
        parent = self._parent(path)
        node = self._lookup(existing)
        if path in self._names:
            raise Refused(errno.EEXIST)
        if node.is_directory:
            raise Refused(errno.EPERM)
        self._names[path] = self._copy_up(existing)
        self._touch(parent)

    def _rename(self, path: bytes, to: bytes) -> None:
        parents = self._parent(path), self._parent(to)
        node = self._lookup(path)
        if to == path or self._names.get(to) == self._names[path]:
            raise Unspecified  # nothing happens, or one of two broken links goes
        if to.startswith(path + b"/"):
            raise Refused(errno.EINVAL)
        if path.startswith(to + b"/"):
            raise Refused(errno.ENOTEMPTY)
        self._check_replaceable(node, to)
        inode = self._copy_up(path)
        if to in self._names:
            self._drop(to)
        for name in [path, *self._below(path)]:
            self._names[to + name[len(path) :]] = self._names.pop(name)
        if node.is_directory:
            self._nodes[inode] = replace(node, mtime_ns=None)
        for parent in parents:
            self._touch(parent)

    def _check_replaceable(self, node: Node, to: bytes) -> None:
        if to not in self._names:
            return
        there = self._nodes[self._names[to]]
        if node.is_directory and not there.is_directory:
            raise Refused(errno.ENOTDIR)
        if there.is_directory and not node.is_directory:
            raise Refused(errno.EISDIR)
        if self._below(to):
            raise Refused(errno.ENOTEMPTY, errno.EEXIST)  # rename(2) names both; xfs says the latter

    def _moves_lower_directory(self, operation: ops.Operation) -> bool:
        if not isinstance(operation, ops.Rename) or operation.path not in self._names:
            return False
        inode = self._names[operation.path]
        return self._nodes[inode].is_directory and inode not in self._fresh

    def _unlink(self, path: bytes) -> None:
        if self._lookup(path).is_directory:
            raise Refused(errno.EISDIR)
        self._drop(path)

    def _rmdir(self, path: bytes) -> None:
        if not self._lookup(path).is_directory:
            raise Refused(errno.ENOTDIR)
        if self._below(path):
            raise Refused(errno.ENOTEMPTY)
        self._drop(path)

    def _drop(self, path: bytes) -> None:
        inode = self._names.pop(path)
        if inode not in self._names.values():
            del self._nodes[inode]
        self._touch(path.rpartition(b"/")[0])

    def _chmod(self, path: bytes, mode: int) -> None:
        node = self._lookup(path)
        if node.is_symlink:
            raise Refused(errno.ELOOP)
        self._change(path, mode=stat.S_IFMT(node.mode) | mode)

    def _chown(self, path: bytes, uid: int, gid: int) -> None:
        node = self._lookup(path)
        mode = node.mode
        if not node.is_directory:  # chown(2): the bits that would give the new owner's rights away are cleared
            mode = _without_set_ids(mode)
        self._change(
            path,
            uid=uid,
            gid=gid,
            mode=mode,
            xattrs=_without_capability(node) if not node.is_directory else node.xattrs,
        )

    def _set_xattr(self, path: bytes, name: str, value: bytes) -> None:
        node = self._lookup(path)
        if name == CAPABILITY and not node.is_regular:
            raise Unspecified  # the kernel takes it, and it means nothing there
        if not (node.is_regular or node.is_directory):
            raise Refused(errno.EPERM)
        self._change(path, xattrs={**node.xattrs, name: value})

    def _regular(self, path: bytes) -> Node:
        node = self._lookup(path)
        if node.is_directory:
            raise Refused(errno.EISDIR)
        if not node.is_regular:
            raise Refused(errno.EINVAL)
        return node

    def _write(self, path: bytes, content: bytes) -> None:
        node = self._lookup(path)
        mode = node.mode if self._privileged else _without_set_ids(node.mode)
        self._change(path, content=content, mtime_ns=None, mode=mode, xattrs=_without_capability(node))

    def _change(self, path: bytes, **fields: object) -> None:
        self._lookup(path)
        inode = self._copy_up(path)
        self._nodes[inode] = replace(self._nodes[inode], **fields)  # type: ignore[arg-type]  # names of fields

    def paths(self) -> Iterator[bytes]:
        """Every path but the root."""
        return (path for path in self._names if path)

    def inode(self, path: bytes) -> int | None:
        """The number of what a path names, the same in all trees that came of one; None if there is none."""
        return self._names.get(path)

    def node(self, path: bytes) -> Node:
        """What a path names; raises KeyError."""
        return self._nodes[self._names[path]]

    def names(self) -> dict[int | None, set[bytes]]:
        """All names of each inode."""
        found: dict[int | None, set[bytes]] = {}
        for path, inode in self._names.items():
            found.setdefault(inode, set()).add(path)
        return found


def _without_set_ids(mode: int) -> int:
    """Without setuid, and without setgid unless the group may not execute, as inode(7) has it."""
    return mode & ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))


def _without_capability(node: Node) -> dict[str, bytes]:
    return {name: value for name, value in node.xattrs.items() if name != CAPABILITY}
