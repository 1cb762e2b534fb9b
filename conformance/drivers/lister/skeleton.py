"""A tree of empty files from a list of paths: ``python3 skeleton.py names|json LIST DIRECTORY``.

"names" are lines as GNU tar prints them (--quoting-style=escape, its default): a directory ends with a slash, and
of the others nobody knows the type. "json" are objects, a line each, with ``path`` or ``path_base64``, and with
``type``. The directories above a path need no line. The file stands alone, as reproducers have it in them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import sys

ESCAPES = {b"a": 7, b"b": 8, b"t": 9, b"n": 10, b"v": 11, b"f": 12, b"r": 13, b"\\": 92}
SPECIAL = {
    "fifo": (stat.S_IFIFO, 0),
    "character": (stat.S_IFCHR, os.makedev(1, 3)),
    "block": (stat.S_IFBLK, os.makedev(7, 0)),
}
TYPES = ("", "file", "directory", "symlink", *SPECIAL)


class Outside(Exception):
    """A path of the list is a path traversal."""


def unescaped(line: bytes) -> bytes:
    """A name as tar(1) escaped it: a letter, or three octal digits, behind a backslash."""

    def byte(found: re.Match[bytes]) -> bytes:
        letter = found[1]
        return bytes([int(letter, 8) & 255 if letter[:1].isdigit() else ESCAPES[letter]])

    return re.sub(rb"\\([0-7]{3}|[abtnvfr\\])", byte, line)


def listed(form: str, data: bytes) -> list[tuple[bytes, str]]:
    """Path and type of each line, the type "" if the line does not say it; raises ValueError."""
    lines = [line for line in data.split(b"\n") if line]
    if form == "names":
        names = [unescaped(line) for line in lines]
        return [(name, "directory" if name.endswith(b"/") else "") for name in names]
    found = []
    for line in lines:
        try:
            said = json.loads(line)
            encoded = said.get("path_base64")
            path = said["path"].encode("utf-8", "surrogateescape") if encoded is None else base64.b64decode(encoded)
            kind = said.get("type", "")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"a line is no object with a path: {line[:80]!r}") from error
        if kind not in TYPES:
            raise ValueError(f"the type {kind!r} is none of {', '.join(TYPES[1:])}")
        found.append((path, kind))
    return found


def cleaned(path: bytes) -> bytes:
    """A path without what does not count; raises Outside."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise Outside(f"the list has the path {path!r}, a path traversal")
    return b"/".join(parts)


def types_of(entries: list[tuple[bytes, str]]) -> dict[bytes, str]:
    """The type of each path, and of the directories above it; raises ValueError and Outside."""
    types: dict[bytes, str] = {}
    for path, kind in entries:
        if name := cleaned(path):
            types[name] = kind or types.get(name, "")
    for path in list(types):
        while path := path.rpartition(b"/")[0]:
            if types.get(path, "") not in ("", "directory"):
                raise ValueError(f"the list has paths below {path!r}, and says that this is a {types[path]}")
            types[path] = "directory"
    return types


def make(form: str, data: bytes, directory: str) -> None:
    """Make the tree in an empty directory; raises ValueError for what is no list, Outside, and OSError."""
    types = types_of(listed(form, data))
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)  # a path below it may be as long as PATH_MAX
    try:
        for path, kind in sorted(types.items()):
            _make(root, path, kind)
    finally:
        os.close(root)


def _make(root: int, path: bytes, kind: str) -> None:
    if kind == "directory":
        os.mkdir(path, dir_fd=root)
        os.chmod(path, 0o755, dir_fd=root)
    elif kind == "symlink":
        os.symlink("unknown", path, dir_fd=root)
    else:
        bits, device = SPECIAL.get(kind, (stat.S_IFREG, 0))
        os.mknod(path, bits | 0o600, device, dir_fd=root)
        os.chmod(path, 0o644, dir_fd=root)


if __name__ == "__main__":
    try:
        with open(sys.argv[2], "rb") as file:
            make(sys.argv[1], file.read(), sys.argv[3])
    except (ValueError, Outside) as error:
        sys.exit(str(error))
