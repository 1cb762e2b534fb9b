"""Trees as lists of paths have them: names and types, and no more."""

from __future__ import annotations

import stat
from typing import Final

from conformance.operations.trees import Node, Snapshot

# Permissions of the files that stand for the paths of a list (conformance/drivers/lister/skeleton.py).
_PERMISSIONS: Final = {stat.S_IFDIR: 0o755, stat.S_IFLNK: 0o777}
_OF_OTHERS: Final = 0o644


def as_listed(tree: Snapshot, *, types: bool) -> Snapshot:
    """The tree of which each node has its type alone, or whether it is a directory if not ``types``."""
    return Snapshot({path: _listed(node, types=types) for path, node in tree.nodes.items()}, frozenset())


def _listed(node: Node, *, types: bool) -> Node:
    kind = stat.S_IFMT(node.mode)
    if not kind:
        return node  # a name that is listed, and cannot be looked up
    kind = kind if types or node.is_directory else stat.S_IFREG
    return Node(kind | _PERMISSIONS.get(kind, _OF_OTHERS))
