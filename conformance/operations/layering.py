"""The archive of a layer, written from the model: what its tree changes in its parent's.

It stands for the diff of a driver that writes none, and fills the layers of a driver whose trees nobody changes. It
is what builders write: an entry for each new or changed name and for the directories above it, whiteouts for
what is gone, and an opaque whiteout in a directory that was removed and made again (image-spec, layer.md).
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import Final

from conformance.operations.model import ROOT, Tree
from conformance.operations.tarforms import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    PAX,
    SYMLINK,
    TIME,
    Form,
    Tarred,
)
from conformance.operations.trees import Node

_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_IN_PAX: Final = Form(PAX)
_KINDS: Final = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
}


def layer_entries(below: Tree, tree: Tree) -> list[Tarred]:
    """The entries that make ``tree`` of ``below``, each directory before what is in it; none if both are equal.

    ``tree`` came of ``below`` by operations, so an inode with the number of one below is that one. All names of an
    inode are there if one of them is. A time that the model leaves open is TIME.
    """
    opaque = {path for path in tree.paths() if _is_opaque(below, tree, path)}
    changed = {path for path in tree.paths() if _differs(below, tree, path) or _within(path, opaque)}
    names = tree.names()
    for path in list(changed):
        changed |= names[tree.inode(path)]
    gone = [path for path in below.paths() if _is_gone(tree, path) and not _within(path, opaque)]
    marks = [_beside(path, _WHITEOUT + path.rpartition(b"/")[2]) for path in gone]
    marks += [path + b"/" + _OPAQUE for path in opaque]
    wanted = changed | {above for path in (*changed, *marks) for above in _above(path)}
    entries = [_entry(tree, path, min(names[tree.inode(path)], key=_order)) for path in wanted]
    entries += [Tarred(mark, mode=0o600, form=_IN_PAX) for mark in marks]
    return sorted(entries, key=lambda entry: _order(entry.name))


def _order(name: bytes) -> list[bytes]:
    return name.rstrip(b"/").split(b"/")


def _is_opaque(below: Tree, tree: Tree, path: bytes) -> bool:
    """Whether a directory replaced one of the same name that had something in it."""
    if not tree.node(path).is_directory or below.inode(path) is None or below.inode(path) == tree.inode(path):
        return False
    return below.node(path).is_directory and any(one.startswith(path + b"/") for one in below.paths())


def _differs(below: Tree, tree: Tree, path: bytes) -> bool:
    return below.inode(path) != tree.inode(path) or below.node(path) != tree.node(path)


def _is_gone(tree: Tree, path: bytes) -> bool:
    """Whether a name is gone from a directory that is still one; what is in a deleted directory goes with it."""
    if tree.inode(path) is not None:
        return False
    above = path.rpartition(b"/")[0]
    return above == ROOT or (tree.inode(above) is not None and tree.node(above).is_directory)


def _within(path: bytes, directories: Iterable[bytes]) -> bool:
    return any(path.startswith(one + b"/") for one in directories)


def _above(path: bytes) -> list[bytes]:
    parts = path.split(b"/")[:-1]
    return [b"/".join(parts[: number + 1]) for number in range(len(parts))]


def _beside(path: bytes, name: bytes) -> bytes:
    above = path.rpartition(b"/")[0]
    return above + b"/" + name if above else name


def _entry(tree: Tree, path: bytes, first: bytes) -> Tarred:
    node = tree.node(path)
    kind = _KINDS[stat.S_IFMT(node.mode)]
    if path != first:
        return _tarred(path, HARD_LINK, node, target=first)
    if kind == DIRECTORY:
        return _tarred(path + b"/", kind, node)
    return _tarred(path, kind, node, content=node.content, target=node.target)


def _tarred(name: bytes, kind: bytes, node: Node, *, content: bytes = b"", target: bytes = b"") -> Tarred:
    return Tarred(
        name,
        kind,
        content,
        target,
        stat.S_IMODE(node.mode),
        node.uid,
        node.gid,
        TIME * 10**9 if node.mtime_ns is None else node.mtime_ns,
        *node.device,
        form=_IN_PAX,
        records=tuple(
            (b"SCHILY.xattr." + key.encode(), value) for key, value in node.xattrs.items() if kind != HARD_LINK
        ),
    )
