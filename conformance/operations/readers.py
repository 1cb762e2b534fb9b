"""What an archive means, as programs say that no driver has a part in: Python's tarfile, and GNU tar by its list.

Each gives the entries in order and the contents of all files, one behind the other. Where the two agree, that is
what the archive means; where they do not, nobody is to blame for what a driver makes of it.
"""

from __future__ import annotations

import codecs
import io
import re
import stat
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from conformance.operations.trees import Node, Snapshot

_SECOND: Final = 10**9
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Final = {
    tarfile.DIRTYPE: "d",
    tarfile.SYMTYPE: "l",
    tarfile.LNKTYPE: "h",
    tarfile.CHRTYPE: "c",
    tarfile.BLKTYPE: "b",
    tarfile.FIFOTYPE: "p",
}
_BITS: Final = {"d": stat.S_IFDIR, "l": stat.S_IFLNK, "c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_LINE: Final = re.compile(
    r"(?P<kind>[-dlhcbpC])(?P<mode>[-rwxsStT]{9}) (?P<uid>-?\d+)/(?P<gid>-?\d+) +"
    r"(?P<size>\d+(?:,\d+)?) (?P<day>\S+) (?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d+))? +"
    r'"(?P<name>(?:[^"\\]|\\.)*)"(?: (?:->|link to) "(?P<target>(?:[^"\\]|\\.)*)")?'
)


class NotRead(Exception):
    """A reader refuses the archive, or says something of it that cannot be understood; the text says what."""


@dataclass(frozen=True, slots=True)
class Read:
    """An entry as a reader has it. ``kind`` is a letter of ls, h for a hard link; ``mtime`` is in nanoseconds."""

    name: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    target: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a reader says."""

    entries: tuple[Read, ...]
    contents: bytes

    def tree(self) -> Snapshot:
        """The tree of a layer that has these entries and no other; parents without an entry have any metadata.

        Raises NotRead if a hard link has no target among them.
        """
        nodes: dict[bytes, Node] = {}
        groups: dict[bytes, set[bytes]] = {}
        first: dict[bytes, bytes] = {}
        begin = 0
        for entry in self.entries:
            size = entry.size if entry.kind == "-" else 0
            content, begin = self.contents[begin : begin + size], begin + size
            if entry.kind == "h":
                first[entry.name] = first.get(entry.target, entry.target)
                if first[entry.name] not in nodes:
                    raise NotRead(f"a hard link to {entry.target[:60]!r}, of which there is no entry")
                groups.setdefault(first[entry.name], {first[entry.name]}).add(entry.name)
                nodes[entry.name] = nodes[first[entry.name]]
            elif entry.name:
                nodes[entry.name] = _node(entry, content)
        return Snapshot(nodes, frozenset(map(frozenset, groups.values())))


def _node(entry: Read, content: bytes) -> Node:
    mode = 0o777 if entry.kind == "l" else entry.mode
    bits = _BITS.get(entry.kind, stat.S_IFREG)
    return Node(bits | mode, entry.uid, entry.gid, entry.mtime, content, entry.target, entry.device)


def by_tarfile(data: bytes) -> Reading:
    """As Python's tarfile reads it; raises NotRead."""
    found: list[Read] = []
    contents: list[bytes] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8") as tar:
            for member in tar:
                found.append(_of_member(member))
                if found[-1].kind == "-" and (file := tar.extractfile(member)):
                    contents.append(file.read())
    except (tarfile.TarError, EOFError, ValueError, OverflowError, InvalidOperation, KeyError) as error:
        raise NotRead(f"tarfile: {type(error).__name__}: {error}") from error
    return Reading(tuple(found), b"".join(contents))


def _of_member(member: tarfile.TarInfo) -> Read:
    kind = _KINDS.get(member.type, "-")
    whole = member.pax_headers.get("mtime", str(int(member.mtime)))
    return Read(
        cleaned(member.name.encode("utf-8", "surrogateescape")),
        kind,
        member.mode & 0o7777,
        member.uid,
        member.gid,
        member.size if kind == "-" else 0,
        int(Decimal(whole) * _SECOND),
        _target(kind, member.linkname.encode("utf-8", "surrogateescape")),
        (member.devmajor, member.devminor) if kind in "cb" else (0, 0),
    )


def by_gnu_tar(listing: str, contents: bytes) -> Reading:
    """As GNU tar lists it (lab.gnutar), and the contents that it gives; raises NotRead."""
    found = []
    for line in listing.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise NotRead(f"GNU tar: {line[:200]}")
        kind = match["kind"].replace("C", "-")
        size = match["size"].split(",")
        found.append(
            Read(
                cleaned(_unquoted(match["name"])),
                kind,
                _mode(match["mode"]),
                int(match["uid"]),
                int(match["gid"]),
                int(size[0]) if kind == "-" else 0,
                _time(match["day"], match["time"], match["fraction"]),
                _target(kind, _unquoted(match["target"] or "")),
                (int(size[0]), int(size[-1])) if kind in "cb" else (0, 0),
            )
        )
    return Reading(tuple(found), contents)


def _target(kind: str, target: bytes) -> bytes:
    return cleaned(target) if kind == "h" else target if kind == "l" else b""


def cleaned(name: bytes) -> bytes:
    """A name without what does not count: doubled slashes, dots, a slash at its end."""
    return b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))


def _unquoted(text: str) -> bytes:
    """What ``--quoting-style=c`` of GNU tar wrote; the escapes are those of a Python string."""
    return codecs.escape_decode(text.encode("ascii", "replace"))[0]


def _mode(text: str) -> int:
    mode = 0
    for index, letter in enumerate(text):
        if letter not in "-ST":
            mode |= 0o400 >> index
        if letter in "sStT":
            mode |= 0o4000 >> (index // 3)
    return mode


def _time(day: str, time: str, fraction: str | None) -> int:
    try:
        moment = datetime.fromisoformat(f"{day}T{time}+00:00")
    except ValueError as error:
        raise NotRead(f"GNU tar: the time {day} {time}") from error
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * _SECOND + int((fraction or "").ljust(9, "0")[:9])


def names_of(entries: Iterable[Read]) -> set[bytes]:
    """The names of a tree that these entries make: their own, and those of the directories above them."""
    found: set[bytes] = set()
    for entry in entries:
        name = entry.name
        while name and name not in found:
            found.add(name)
            name = name.rpartition(b"/")[0]
    return found


def disagreement(one: Reading, other: Reading) -> str:
    """In what two readings differ, a line; "" if they agree."""
    if len(one.entries) != len(other.entries):
        return f"{len(one.entries)} and {len(other.entries)} entries"
    for first, second in zip(one.entries, other.entries, strict=True):
        if _shown(first) != _shown(second):
            return f"{first} and {second}"
    return "" if one.contents == other.contents else "other contents"


def _shown(entry: Read) -> Sequence[object]:
    # Nobody sees the mode of a symlink, and a hard link has what its target has.
    if entry.kind == "h":
        return entry.name, entry.kind, entry.target
    mode = 0 if entry.kind == "l" else entry.mode
    fields = entry.kind, entry.name, entry.target, entry.uid, entry.gid, entry.size, entry.mtime, entry.device
    return (*fields, mode)
