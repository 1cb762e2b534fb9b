"""A real tree as the same value that the model makes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Final

from conformance.operations.comparing import GHOST
from conformance.operations.trees import CAPABILITY, Node, Snapshot

_PATH_MAX: Final = 4096  # bytes, with the one of zero at the end (path_resolution(7))


def observe(root: str) -> Snapshot:
    """Everything below ``root`` that a layer carries; user.overlay.* is the driver's own and left out."""
    nodes: dict[bytes, Node] = {}
    groups: dict[tuple[int, int], set[bytes]] = {}
    pending = [b""]
    while pending:
        directory = pending.pop()
        for name in os.listdir(os.path.join(os.fsencode(root), directory)):
            path = directory + b"/" + name if directory else name
            real = os.path.join(os.fsencode(root), path)
            try:
                status = os.lstat(real)
            except FileNotFoundError:
                nodes[path] = GHOST
                continue
            nodes[path] = _node(real, status)
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)
            else:
                groups.setdefault((status.st_dev, status.st_ino), set()).add(path)
    return Snapshot(nodes, frozenset(frozenset(group) for group in groups.values() if len(group) > 1))


def hidden(nodes: Mapping[bytes, Node], names: Iterable[bytes]) -> set[bytes]:
    """Those of the names in lower layers that a tree of these nodes does not have, in directories that it has."""
    return {
        path
        for path in names
        if path not in nodes
        and (not (above := path.rpartition(b"/")[0]) or (above in nodes and nodes[above].is_directory))
    }


def found_again(root: str, names: Iterable[bytes]) -> dict[bytes, bool]:
    """Which of these paths are there, and whether they are listed; each directory is listed before the lookups.

    Paths that are too long for a system call are left out. Raises OSError.
    """
    found: dict[bytes, bool] = {}
    lists: dict[bytes, set[bytes]] = {}
    for path in sorted(names):
        above, _, name = path.rpartition(b"/")
        real = os.path.join(os.fsencode(root), path)
        if len(real) + 1 > _PATH_MAX:
            continue
        if above not in lists:
            lists[above] = set(os.listdir(os.path.dirname(real)))
        if os.path.lexists(real):
            found[path] = name in lists[above]
    return found


def _node(path: bytes, status: os.stat_result) -> Node:
    mode = status.st_mode
    content = target = b""
    device = (0, 0)
    xattrs: dict[str, bytes] = {}
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            content = file.read()
    elif stat.S_ISLNK(mode):
        target = os.readlink(path)
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        xattrs = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
            if name == CAPABILITY or (name.startswith("user.") and not name.startswith("user.overlay."))
        }
    return Node(mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, target, device, xattrs)
