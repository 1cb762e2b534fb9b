"""A real tree as the same value that the model makes, and the differences between two of them in words."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from conformance.model import CAPABILITY, Node, Snapshot

# A name that is listed and cannot be looked up: a whiteout, say, in a directory that is not merged.
GHOST = Node(0)
_SECOND = 10**9
_SHOWN = 12


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


def differences(expected: Snapshot, actual: Snapshot, *, times: str = "known") -> list[str]:
    """What differs, a line each, nothing if nothing does.

    ``times`` says which modification times count: "known" those that the expected tree knows, exactly;
    "files" those of non-directories in whole seconds; "none".
    """
    found = list(_differing_paths(expected, actual, times))
    missing = sorted(map(sorted, expected.link_groups - actual.link_groups))
    found += [f"expected to be hard links of one inode: {_shown_paths(group)}" for group in missing]
    wrong = sorted(map(sorted, actual.link_groups - expected.link_groups))
    found += [f"hard links of one inode, and should not be: {_shown_paths(group)}" for group in wrong]
    if len(found) > _SHOWN:
        return [*found[:_SHOWN], f"and {len(found) - _SHOWN} more differences"]
    return found


def shown(path: bytes) -> str:
    """A path on one line, whatever its bytes are."""
    return repr(path)[1:]


def _shown_paths(paths: list[bytes]) -> str:
    return ", ".join(shown(path) for path in paths)


def _differing_paths(expected: Snapshot, actual: Snapshot, times: str) -> Iterator[str]:
    for path in sorted(expected.nodes.keys() | actual.nodes.keys()):
        if path not in actual.nodes:
            yield f"missing: {shown(path)}"
        elif actual.nodes[path] is GHOST:
            yield f"is listed and cannot be looked up: {shown(path)}"
        elif path not in expected.nodes:
            yield f"should not be there: {shown(path)}"
        else:
            for what, want, got in _differing_fields(expected.nodes[path], actual.nodes[path], times):
                yield f"{shown(path)}: {what} is {got}, expected {want}"


def _differing_fields(want: Node, got: Node, times: str) -> Iterator[tuple[str, str, str]]:
    if want.mode != got.mode:
        yield "mode", stat.filemode(want.mode), stat.filemode(got.mode)
    if (want.uid, want.gid) != (got.uid, got.gid):
        yield "owner", f"{want.uid}:{want.gid}", f"{got.uid}:{got.gid}"
    if want.content != got.content:
        yield "content", _brief(want.content), _brief(got.content)
    if want.target != got.target:
        yield "target", repr(want.target), repr(got.target)
    if want.device != got.device:
        yield "device", str(want.device), str(got.device)
    if dict(want.xattrs) != dict(got.xattrs):
        yield "xattrs", str(dict(want.xattrs)), str(dict(got.xattrs))
    if not _same_time(want, got, times):
        yield "mtime in ns", str(want.mtime_ns), str(got.mtime_ns)


def _same_time(want: Node, got: Node, times: str) -> bool:
    if want.mtime_ns is None or got.mtime_ns is None or times == "none":
        return True
    if times == "files":
        return want.is_directory or want.mtime_ns // _SECOND == got.mtime_ns // _SECOND
    return want.mtime_ns == got.mtime_ns


def _brief(content: bytes) -> str:
    return repr(content) if len(content) <= 40 else f"{content[:32]!r}... ({len(content)} bytes)"
