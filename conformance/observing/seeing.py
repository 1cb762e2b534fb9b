"""Words for what a tree shows: each function makes one that a question asks."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from conformance.operations.comparing import GHOST
from conformance.operations.trees import Node, Snapshot

KEPT = "kept"
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Seen:
    """A tree, and its root; ``xattrs`` are all extended attributes by path, those of ``trusted`` too."""

    tree: Snapshot
    root: Node
    xattrs: Mapping[bytes, Mapping[str, bytes]]

    def node(self, path: bytes) -> Node | None:
        """The node of a path, None if the tree does not show it; a name that is only listed is not shown."""
        found = self.tree.nodes.get(path)
        return None if found is None or found == GHOST else found

    def names(self) -> list[str]:
        """All names that the tree shows or lists, as text."""
        return sorted(path.decode("utf-8", "backslashreplace") for path in self.tree.nodes)


Reading = Callable[[Seen], str]


def kind_of(node: Node) -> str:
    """The file type, in a word."""
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "symlink",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFIFO: "FIFO",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(node.mode), "unknown type")


def _of(path: bytes, read: Callable[[Node], str]) -> Reading:
    def answer(seen: Seen) -> str:
        node = seen.root if path == b"" else seen.node(path)
        return GONE if node is None else read(node)

    return answer


def mode(path: bytes, expected: int) -> Reading:
    """Whether a path has these permission bits, else which; "" is the root."""
    return _of(path, lambda node: KEPT if stat.S_IMODE(node.mode) == expected else f"{stat.S_IMODE(node.mode):o}")


def owner(path: bytes, expected: tuple[int, int]) -> Reading:
    """Whether a path has this owner, else which."""
    return _of(path, lambda node: KEPT if (node.uid, node.gid) == expected else f"{node.uid}:{node.gid}")


def time(path: bytes, expected_ns: int) -> Reading:
    """Whether a path has this modification time, else how it differs."""

    def said(node: Node) -> str:
        found = node.mtime_ns
        assert found is not None, "a tree that was read has all times"
        if found == expected_ns:
            return KEPT
        if found // 10**9 == expected_ns // 10**9:
            return "fraction cut" if found % 10**9 == 0 else "fraction changed"
        if found == 0:
            return "1970"
        if abs(found - expected_ns) < 2 * 10**9:
            return "another second"
        return "another time" if found < expected_ns or found < 1_600_000_000 * 10**9 else "time of the call"

    return _of(path, said)


def xattr(path: bytes, name: str, expected: bytes) -> Reading:
    """Whether a path has this extended attribute."""

    def answer(seen: Seen) -> str:
        found = seen.xattrs.get(path, {}).get(name)
        return "dropped" if found is None else KEPT if found == expected else "changed"

    return answer


def kind(path: bytes) -> Reading:
    """The file type of a path."""
    return _of(path, kind_of)


def one_of(**paths: bytes) -> Reading:
    """The first word whose path the tree shows, "nothing" if it shows none; underscores are spaces."""

    def answer(seen: Seen) -> str:
        for word, path in paths.items():
            if seen.node(path) is not None:
                return word.replace("_", " ")
        return "nothing"

    return answer


def content(path: bytes, **words: bytes) -> Reading:
    """The word of a file's content; underscores are spaces."""

    def said(node: Node) -> str:
        if not node.is_regular:
            return kind_of(node)
        found = (word.replace("_", " ") for word, data in words.items() if data == node.content)
        return next(found, "empty file" if not node.content else "other content")

    return _of(path, said)


def linked(path: bytes, other: bytes, data: bytes) -> Reading:
    """Whether two paths are names of one inode, or copies."""

    def answer(seen: Seen) -> str:
        node, target = seen.node(path), seen.node(other)
        if node is None:
            return "missing"
        if any({path, other} <= group for group in seen.tree.link_groups):
            return "linked"
        if node.is_regular and node.content == data:
            return "copied" if target else "kept, target gone"
        return "empty file" if node.is_regular and not node.content else f"other {kind_of(node)}"

    return answer


def names(expected: Mapping[str, Iterable[str]], below: str = "") -> Reading:
    """The word for exactly these names below a directory, else the names."""

    def answer(seen: Seen) -> str:
        found = [name for name in seen.names() if not below or name == below or name.startswith(f"{below}/")]
        for word, wanted in expected.items():
            if sorted(wanted) == found:
                return word
        return ", ".join(found) or "nothing"

    return answer


def whiteout(name: bytes, target: bytes) -> Reading:
    """What became of an entry with the name of a whiteout, and of what it names."""

    def answer(seen: Seen) -> str:
        hidden = seen.node(target) is None
        shown = seen.node(name)
        listed = seen.tree.nodes.get(target) == GHOST or seen.tree.nodes.get(name) == GHOST
        if shown is not None:
            return f"{kind_of(shown)} with this name" + (", and deletes" if hidden else "")
        return ("deletes, still listed" if listed else "deletes") if hidden else "ignored"

    return answer
