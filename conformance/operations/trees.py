"""Trees as values: what a layer shows, whether the model says it or a mount.

An ``mtime_ns`` of None means that any time is right: the operation took place "now".
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

CAPABILITY: Final = "security.capability"


@dataclass(frozen=True, slots=True)
class Node:
    """One inode: ``mode`` with its type bits, content or target or device, and carried attributes."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int | None = None
    content: bytes = b""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether this is a symlink."""
        return stat.S_ISLNK(self.mode)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole tree as a value: nodes by path, and the groups of paths that share an inode."""

    nodes: Mapping[bytes, Node]
    link_groups: frozenset[frozenset[bytes]]

    def with_times(self, of: Callable[[Node], int | None]) -> Snapshot:
        """The same tree with other modification times."""
        nodes = {path: replace(node, mtime_ns=of(node)) for path, node in self.nodes.items()}
        return Snapshot(nodes, self.link_groups)

    def without_directory_times(self) -> Snapshot:
        """The same tree without the times of its directories: see behaviour#directory-times."""
        return self.with_times(lambda node: None if node.is_directory else node.mtime_ns)

    def without_links(self) -> Snapshot:
        """The same tree, of which nobody knows which names share an inode."""
        return Snapshot(self.nodes, frozenset())
