"""The differences between two trees, as values and in words."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from conformance.operations.trees import Node, Snapshot

# A name that is listed and cannot be looked up: a whiteout, say, in a directory that is not merged.
GHOST = Node(0)
_SECOND = 10**9
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a tree is not what it should be; ``text`` is the line for people.

    ``what`` is missing, unexpected, ghost (listed, and cannot be looked up), unlisted (the reverse), mode, owner,
    content, target, device, xattrs, mtime, linked (should be one inode, and are not) or apart (the reverse).
    ``want`` is of the expected tree; for names of one inode it is the tuple of them.
    """

    path: bytes
    what: str
    text: str
    want: Any = None


def differences(expected: Snapshot, actual: Snapshot, *, times: str = "known") -> list[str]:
    """What differs, a line each, nothing if nothing does; not more than a dozen lines."""
    found = [one.text for one in compared(expected, actual, times=times)]
    if len(found) > _SHOWN:
        return [*found[:_SHOWN], f"and {len(found) - _SHOWN} more differences"]
    return found


def compared(expected: Snapshot, actual: Snapshot, *, times: str = "known") -> list[Difference]:
    """All that differs.

    ``times`` says which modification times count: "known" those that the expected tree knows, exactly;
    "files" those of non-directories, to within a second, so that times that an archive cut or rounded to whole
    seconds are the same (that they are cut is OVL-META-TIMES-DOWN alone); "none".
    """
    found = list(_differing_paths(expected, actual, times))
    for group in sorted(map(sorted, expected.link_groups - actual.link_groups)):
        text = f"expected to be hard links of one inode: {_shown_paths(group)}"
        found.append(Difference(group[0], "linked", text, tuple(group)))
    for group in sorted(map(sorted, actual.link_groups - expected.link_groups)):
        text = f"hard links of one inode, and should not be: {_shown_paths(group)}"
        found.append(Difference(group[0], "apart", text, tuple(group)))
    return found


def names_differ(expected: Iterable[bytes], actual: Iterable[bytes]) -> list[Difference]:
    """The names that one tree has and another has not."""
    there = {path: Node(0) for path in actual}
    return list(
        _differing_paths(
            Snapshot(dict.fromkeys(expected, Node(0)), frozenset()), Snapshot(there, frozenset()), "none"
        )
    )


def shown(path: bytes) -> str:
    """A path on one line, whatever its bytes are."""
    return repr(path)[1:]


def _shown_paths(paths: list[bytes]) -> str:
    return ", ".join(shown(path) for path in paths)


def _differing_paths(expected: Snapshot, actual: Snapshot, times: str) -> Iterator[Difference]:
    for path in sorted(expected.nodes.keys() | actual.nodes.keys()):
        if path not in actual.nodes:
            yield Difference(path, "missing", f"missing: {shown(path)}")
        elif actual.nodes[path] is GHOST:
            yield Difference(path, "ghost", f"listed by readdir, and not found by lstat: {shown(path)}")
        elif path not in expected.nodes:
            yield Difference(path, "unexpected", f"unexpected: {shown(path)}")
        else:
            yield from _differing_fields(path, expected.nodes[path], actual.nodes[path], times)


def _differing_fields(path: bytes, want: Node, got: Node, times: str) -> Iterator[Difference]:
    def differ(what: str, wanted: Any, found: str, said: str, name: str = "") -> Difference:
        return Difference(path, what, f"{shown(path)}: {name or what} is {found}, expected {said}", wanted)

    if want.mode != got.mode:
        yield differ("mode", want.mode, stat.filemode(got.mode), stat.filemode(want.mode))
    if (want.uid, want.gid) != (got.uid, got.gid):
        yield differ("owner", (want.uid, want.gid), f"{got.uid}:{got.gid}", f"{want.uid}:{want.gid}")
    if want.content != got.content:
        yield differ("content", want.content, _brief(got.content), _brief(want.content))
    if want.target != got.target:
        yield differ("target", want.target, repr(got.target), repr(want.target))
    if want.device != got.device:
        yield differ("device", want.device, str(got.device), str(want.device))
    if dict(want.xattrs) != dict(got.xattrs):
        yield differ("xattrs", dict(want.xattrs), str(dict(got.xattrs)), str(dict(want.xattrs)))
    if not _same_time(want, got, times):
        exact = times == "known"
        wanted = (want.mtime_ns, exact)
        yield differ("mtime", wanted, str(got.mtime_ns), str(want.mtime_ns), "mtime in ns")


def _same_time(want: Node, got: Node, times: str) -> bool:
    if want.mtime_ns is None or got.mtime_ns is None or times == "none":
        return True
    if times == "files":
        return want.is_directory or abs(want.mtime_ns - got.mtime_ns) < _SECOND
    return want.mtime_ns == got.mtime_ns


def _brief(content: bytes) -> str:
    return repr(content) if len(content) <= 40 else f"{content[:32]!r}... ({len(content)} bytes)"
