"""Trees as the entries of an expected file: of the model, of a directory, or of a tar archive of one."""

from __future__ import annotations

import base64
import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from conformance.corpus.values import Entry, Time, text_or_base64
from conformance.operations.applying import applied
from conformance.operations.members import Member, members_of
from conformance.operations.observe import observe
from conformance.operations.readers import cleaned
from conformance.operations.trees import Node, Snapshot

_SECOND: Final = 10**9
_TYPES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFSOCK: "socket",
}
UNKNOWN: Final = "listed, and not found"  # the type of a name that readdir gives and lstat does not find


def entries_of(tree: Snapshot) -> tuple[Entry, ...]:
    """The entries of a tree, in the order of their names."""
    groups = sorted(tuple(sorted(group)) for group in tree.link_groups)
    number = {path: index for index, group in enumerate(groups, 1) for path in group}
    return tuple(_entry(path, tree.nodes[path], number.get(path)) for path in sorted(tree.nodes))


def _entry(path: bytes, node: Node, links: int | None) -> Entry:
    text, encoded = text_or_base64(path)
    target, target_encoded = text_or_base64(node.target) if node.is_symlink else (None, None)
    device = stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode)
    return Entry(
        text,
        encoded,
        _TYPES.get(stat.S_IFMT(node.mode), UNKNOWN),
        f"{stat.S_IMODE(node.mode):04o}",
        node.uid,
        node.gid,
        None if node.mtime_ns is None else Time(*divmod(node.mtime_ns, _SECOND)),
        len(node.content) if node.is_regular else None,
        hashlib.sha256(node.content).hexdigest() if node.is_regular else None,
        target,
        target_encoded,
        node.device[0] if device else None,
        node.device[1] if device else None,
        {name: base64.b64encode(value).decode() for name, value in sorted(node.xattrs.items())},
        links,
    )


def seen(path: Path) -> tuple[Entry, ...]:
    """The entries of a directory or of a tar archive; raises OSError and NotRead."""
    return entries_of(observe(str(path)) if path.is_dir() else tree_of(members_of(path.read_bytes())))


def made(archives: Sequence[Path]) -> tuple[Entry, ...]:
    """The entries of what archives of layers make, the base first, by the model; raises OSError and NotRead."""
    return entries_of(applied([members_of(one.read_bytes()) for one in archives]).tree)


def tree_of(members: list[Member]) -> Snapshot:
    """The tree of an archive of a whole tree, in which a whiteout is a file like any other.

    A directory without an entry is there with mode 0755 and any time, as tar(1) makes it.
    """
    nodes: dict[bytes, Node] = {}
    first: dict[bytes, bytes] = {}
    for member in members:
        path = cleaned(member.name)
        if not path:
            continue
        if member.is_link:
            target = cleaned(member.node.target)
            target = first.get(target, target)
            if target in nodes:
                first[path], nodes[path] = target, nodes[target]
        else:
            first.pop(path, None)
            nodes[path] = member.node
    for path in list(nodes):
        while path := path.rpartition(b"/")[0]:
            nodes.setdefault(path, Node(stat.S_IFDIR | 0o755))
    groups: dict[bytes, set[bytes]] = {}
    for path, target in first.items():
        groups.setdefault(target, {target}).add(path)
    return Snapshot(nodes, frozenset(map(frozenset, groups.values())))
