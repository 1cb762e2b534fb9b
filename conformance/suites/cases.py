"""Chains of layers that show one thing each, as operations; carrying.py does the same with all of them.

A case is a chain, the base first. Every layer is looked at where it was made, brought to another store by its
diff, and looked at there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conformance.operations import ops
from conformance.operations.standard import CAPABILITY

_OLD: Final = 1_400_000_000 * 10**9
_LONG: Final = b"n" * 255
Layer = tuple[ops.Operation, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """``times`` says which modification times count (see observe.compared); only cases about times look at them.

    ``held`` says that values which the backing filesystem does not hold are left out (see held.py).
    """

    requirement: str
    name: str
    chain: tuple[Layer, ...]
    times: str = "none"
    held: bool = False


def _file(path: bytes, content: bytes = b"content", mode: int = 0o644) -> ops.CreateFile:
    return ops.CreateFile(path, content, mode)


def _mkdir(path: bytes, mode: int = 0o755) -> ops.MakeDirectory:
    return ops.MakeDirectory(path, mode)


_KINDS: Final[tuple[Case, ...]] = (
    Case(
        "OVL-TREE-KINDS-CHANGE",
        "file-directory-file",
        (
            (_file(b"x", b"below"),),
            (ops.Unlink(b"x"), _mkdir(b"x"), _file(b"x/in")),
            (ops.RemoveTree(b"x"), _file(b"x", b"file again")),
        ),
    ),
    Case(
        "OVL-TREE-KINDS-CHANGE",
        "directory-symlink-directory",
        (
            (_mkdir(b"x"), _file(b"x/old"), _mkdir(b"y"), _file(b"y/target")),
            (ops.RemoveTree(b"x"), ops.MakeSymlink(b"x", b"y")),
            (ops.Unlink(b"x"), _mkdir(b"x", 0o700), _file(b"x/new")),
        ),
    ),
    Case(
        "OVL-TREE-KINDS-CHANGE",
        "file-fifo-nothing-file",
        (
            (_file(b"x"),),
            (ops.Unlink(b"x"), ops.MakeFifo(b"x", 0o640)),
            (ops.Unlink(b"x"),),
            (_file(b"x", b"last"),),
        ),
    ),
    Case(
        "OVL-TREE-COPY-UP",
        "one-byte",
        (
            (_file(b"x", b"x" * 9000, 0o4711), ops.SetXattr(b"x", "user.colour", b"red"), ops.SetTimes(b"x", _OLD)),
            (ops.WriteAt(b"x", 4000, b"y"), ops.Chmod(b"x", 0o4711), ops.SetTimes(b"x", _OLD + 10**9)),
        ),
    ),
    Case(
        "OVL-TREE-COPY-UP",
        "mode-only",
        (
            (_file(b"x", b"x" * 9000), ops.SetTimes(b"x", _OLD), _mkdir(b"d", 0o755), _file(b"d/f")),
            (ops.Chmod(b"x", 0o600), ops.Chmod(b"d", 0o711)),
        ),
    ),
    Case(
        "OVL-TREE-COPY-UP",
        "rename",
        ((_file(b"x", b"x" * 9000), ops.SetTimes(b"x", _OLD), _mkdir(b"d")), (ops.Rename(b"x", b"d/y"),)),
    ),
)

_WHITEOUTS: Final[tuple[Case, ...]] = (
    Case(
        "OVL-WHITEOUT-SYMLINK",
        "to-a-directory",
        ((_mkdir(b"d"), _file(b"d/f"), ops.MakeSymlink(b"link", b"d")), (ops.Unlink(b"link"),)),
    ),
    Case(
        "OVL-WHITEOUT-SYMLINK",
        "absolute",
        (
            (_file(b"f"), ops.MakeSymlink(b"link", b"/f"), ops.MakeSymlink(b"up", b"../f")),
            (ops.Unlink(b"link"), ops.Unlink(b"up")),
        ),
    ),
    Case(
        "OVL-WHITEOUT-OWN-DIRECTORY",
        "same-name-below",
        (
            (_file(b"x"), _mkdir(b"d"), _file(b"d/x"), _mkdir(b"d/d"), _file(b"d/d/x")),
            (ops.Unlink(b"x"),),
            (ops.Unlink(b"d/x"),),
        ),
    ),
    Case(
        "OVL-WHITEOUT-REPLACED", "by-a-file", ((_file(b"x", b"old"),), (ops.Unlink(b"x"),), (_file(b"x", b"new"),))
    ),
    Case(
        "OVL-WHITEOUT-REPLACED",
        "by-a-symlink",
        ((_file(b"x"), _file(b"y")), (ops.Unlink(b"x"),), (ops.MakeSymlink(b"x", b"y"),)),
    ),
    Case(
        "OVL-WHITEOUT-REPLACED",
        "by-a-rename",
        ((_file(b"x", b"x"), _file(b"y", b"other")), (ops.Unlink(b"x"),), (ops.Rename(b"y", b"x"),)),
    ),
    Case(
        "OVL-WHITEOUT-REPLACED",
        "in-one-layer",
        ((_file(b"x", b"x"), _file(b"y", b"other")), (ops.Unlink(b"x"), ops.Rename(b"y", b"x"))),
    ),
    Case(
        "OVL-WHITEOUT-REPLACED",
        "by-a-hard-link",
        ((_file(b"x", b"x"), _file(b"y", b"other")), (ops.Unlink(b"x"), ops.MakeHardLink(b"x", b"y"))),
    ),
    Case(
        "OVL-WHITEOUT-LONG-NAME",
        "255-bytes",
        (
            (_file(_LONG), _mkdir(b"d"), _file(b"d/" + b"m" * 252)),
            (ops.Unlink(_LONG), ops.Unlink(b"d/" + b"m" * 252)),
        ),
    ),
    Case(
        "OVL-WHITEOUT-MANY",
        "two-hundred",
        (
            (_mkdir(b"d"), *(_file(b"d/%d" % number) for number in range(200))),
            tuple(ops.Unlink(b"d/%d" % number) for number in range(0, 200, 2)),
        ),
    ),
    Case(
        "OVL-OPAQUE-METADATA",
        "mode-and-attribute",
        (
            (_mkdir(b"d", 0o755), _file(b"d/old")),
            (ops.RemoveTree(b"d"), _mkdir(b"d", 0o2711), ops.SetXattr(b"d", "user.colour", b"red")),
        ),
    ),
    Case(
        "OVL-OPAQUE-NOT-INHERITED",
        "a-file-more",
        (
            (_mkdir(b"d"), _file(b"d/hidden")),
            (ops.RemoveTree(b"d"), _mkdir(b"d"), _file(b"d/kept")),
            (_file(b"d/more"), ops.Chmod(b"d", 0o700)),
        ),
    ),
    Case(
        "OVL-OPAQUE-DEEP",
        "three-deep",
        (
            (_mkdir(b"a"), _mkdir(b"a/b"), _mkdir(b"a/b/c"), _file(b"a/b/c/f"), _file(b"a/f")),
            (ops.RemoveTree(b"a"), _mkdir(b"a")),
            (_mkdir(b"a/b"),),
            (_mkdir(b"a/b/c"), _file(b"a/b/c/new")),
        ),
    ),
    Case(
        "OVL-OPAQUE-DEEP",
        "parent-and-child",
        (
            (_mkdir(b"a"), _mkdir(b"a/b"), _file(b"a/b/f"), _file(b"a/f")),
            (ops.RemoveTree(b"a/b"), _mkdir(b"a/b"), _file(b"a/b/g")),
            (ops.RemoveTree(b"a"), _mkdir(b"a"), _mkdir(b"a/b")),
        ),
    ),
    Case(
        "OVL-OPAQUE-MOVED",
        "of-this-layer",
        ((), (_mkdir(b"a"), _file(b"a/f"), ops.Rename(b"a", b"t"), ops.Rename(b"t", b"a"))),
    ),
    Case(
        "OVL-OPAQUE-MOVED",
        "of-a-lower",  # a kernel may refuse the first rename with EXDEV; then the second finds nothing
        ((_mkdir(b"a"), _mkdir(b"a/d"), _file(b"a/d/f")), (ops.Rename(b"a", b"t"), ops.Rename(b"t", b"a"))),
    ),
)

_METADATA: Final[tuple[Case, ...]] = (
    Case(
        "OVL-META-MODES",
        "all-triples",
        (
            tuple(_file(b"%03o" % mode, b"", mode) for mode in (0, 0o444, 0o640, 0o755, 0o777)),
            (*(_mkdir(b"d%03o" % mode, mode) for mode in (0o700, 0o555, 0o777)), ops.Chmod(b"444", 0o400)),
        ),
    ),
    Case(
        "OVL-META-SPECIAL-BITS",
        "files-and-directories",
        (
            tuple(_file(b"%04o" % mode, b"", mode) for mode in (0o4755, 0o2755, 0o1755, 0o7777)),
            tuple(_mkdir(b"d%04o" % mode, mode) for mode in (0o2755, 0o1777, 0o3711)),
        ),
    ),
    Case(
        "OVL-META-OWNERS",
        "every-kind",
        (
            (
                _file(b"f"),
                _mkdir(b"d"),
                ops.MakeSymlink(b"s", b"f"),
                ops.MakeFifo(b"p", 0o600),
                *(ops.Chown(path, 1000, 2000) for path in (b"f", b"d", b"s", b"p")),
            ),
            (_file(b"large"), ops.Chown(b"large", 2**31, 2**32 - 2), ops.Chown(b"f", 65534, 0)),
        ),
    ),
    Case(
        "OVL-META-OWNERS-AND-BITS",
        "setuid-of-another",
        ((_file(b"f", b"#!"), ops.Chown(b"f", 1000, 1000), ops.Chmod(b"f", 0o6755)), (ops.Chmod(b"f", 0o4711),)),
    ),
    Case(
        "OVL-META-TIMES",
        "past-and-future",
        (
            tuple(
                operation
                for number, seconds in enumerate((0, 1, _OLD // 10**9, 2**31 - 1, 2**32 + 5))
                for operation in (_file(b"%d" % number), ops.SetTimes(b"%d" % number, seconds * 10**9))
            ),
            (ops.SetTimes(b"0", _OLD),),
        ),
        times="files",
    ),
    Case(
        "OVL-META-TIMES-FINE",
        "nanoseconds",
        (
            tuple(
                operation
                for number, fraction in enumerate((1, 123_456_789, 500_000_000, 999_999_999))
                for operation in (_file(b"%d" % number), ops.SetTimes(b"%d" % number, _OLD + fraction))
            ),
        ),
        times="fine",
    ),
    Case(
        "OVL-META-XATTRS",
        "values",
        (
            (
                _file(b"f"),
                _mkdir(b"d"),
                # Not an empty value: in a pax record that says that there is none (POSIX.1-2017, pax).
                ops.SetXattr(b"f", "user.changed", b"once"),
                ops.SetXattr(b"f", "user.binary", b"\x00\xff\n=\x00"),
                ops.SetXattr(b"d", "user.colour", b"red"),
            ),
            (ops.SetXattr(b"f", "user.changed", b"twice"),),
        ),
    ),
    Case(
        "OVL-META-XATTRS-LARGE",
        "long-name-and-value",
        ((_file(b"f"), ops.SetXattr(b"f", "user." + "n" * 200, b"v" * 1500)),),
    ),
    Case(
        "OVL-META-CAPABILITY",
        "of-another-owner",
        (
            (
                _file(b"f", b"#!", 0o755),
                ops.Chown(b"f", 1000, 1000),
                ops.SetXattr(b"f", "security.capability", CAPABILITY),
            ),
            (_file(b"g", b"#!", 0o755), ops.SetXattr(b"g", "security.capability", CAPABILITY)),
        ),
    ),
    Case(
        "OVL-META-HARD-LINKS",
        "changed-through-one",
        (
            (_file(b"unrelated"),),
            (_file(b"x"), ops.MakeHardLink(b"y", b"x"), ops.WriteAt(b"y", 7, b" more"), ops.Chmod(b"x", 0o600)),
        ),
    ),
    Case(
        "OVL-META-HOLES",
        "begin-middle-end",
        (
            (_file(b"f", b""), ops.WriteAt(b"f", 100_000, b"x"), ops.Truncate(b"f", 300_000)),
            (ops.WriteAt(b"f", 200_000, b"y"), _file(b"only", b""), ops.Truncate(b"only", 70_000)),
        ),
    ),
    Case(
        "OVL-META-DEVICES",
        "numbers",
        (
            (
                ops.MakeDevice(b"null", ops.CHARACTER, 1, 3, 0o666),
                ops.MakeDevice(b"block", ops.BLOCK, 7, 200, 0o660),
                ops.MakeDevice(b"large", ops.CHARACTER, 511, 262143, 0o600),
            ),
            (ops.Unlink(b"null"), ops.MakeDevice(b"null", ops.BLOCK, 1, 3, 0o600)),
        ),
    ),
    Case(
        "OVL-META-FIFOS", "two", ((ops.MakeFifo(b"p", 0o644),), (ops.MakeFifo(b"q", 0o600), ops.Chmod(b"p", 0o600)))
    ),
    Case(
        "OVL-META-DIRECTORIES",
        "empty-and-changed",
        ((_mkdir(b"a"), _mkdir(b"a/b"), _mkdir(b"c", 0o700)), (ops.Chmod(b"a/b", 0o711), _mkdir(b"c/d"))),
    ),
)


def _names(*names: bytes) -> tuple[Layer, ...]:
    """A file, a directory, a symlink of each name, and then half of them deleted."""
    made: list[ops.Operation] = [_mkdir(b"f"), _mkdir(b"d"), _mkdir(b"s")]
    for name in names:
        made += [_file(b"f/" + name), _mkdir(b"d/" + name), ops.MakeSymlink(b"s/" + name, name)]
    gone: list[ops.Operation] = []
    for name in names:
        gone += [ops.Unlink(b"f/" + name), ops.RemoveDirectory(b"d/" + name)]
    return tuple(made), tuple(gone)


def _long_paths() -> tuple[Layer, ...]:
    made: list[ops.Operation] = []
    for length in (99, 100, 101, 155, 156, 255, 256, 257, 1000):
        path = b"p%d" % length
        made.append(_mkdir(path))
        while len(path) < length - 61:
            path += b"/" + b"d" * 59
            made.append(_mkdir(path))
        path += b"/" + b"f" * (length - len(path) - 1)
        made.append(_file(path))
        made.append(ops.MakeSymlink(b"to%d" % length, b"t" * length))
    deepest = [operation.path for operation in made if isinstance(operation, ops.CreateFile)]
    return tuple(made), tuple(ops.Unlink(path) for path in deepest)


_NAMES: Final[tuple[Case, ...]] = (
    Case("OVL-NAMES-255", "255", _names(_LONG, b"x" * 254)),
    Case("OVL-NAMES-BYTES", "not-utf-8", _names(b"\xff", b"a\x80b", b"\xc3\x28", bytes(range(0x81, 0xA0)))),
    Case(
        "OVL-NAMES-UTF8",
        "scripts",
        _names("ä".encode(), "a\u0308".encode(), "層".encode(), "\U0001f40b".encode(), "\u202e".encode()),
    ),
    Case(
        "OVL-NAMES-CONTROL",
        "control",
        _names(
            b"new\nline", b"tab\t", b'"quoted"', b"back\\slash", b"\x01", b"\x7f", b" ", b"a b ", b"'", b"$x", b"-r"
        ),
    ),
    Case("OVL-NAMES-LONG-PATHS", "ustar-and-beyond", _long_paths()),
    Case(
        "OVL-NAMES-ORDER",
        "around-a-slash",
        (
            (
                _mkdir(b"d"),
                _file(b"d/d"),
                _file(b"d-"),
                _file(b"d."),
                _file(b"d0"),
                _mkdir(b"d d"),
                _file(b"d d/d"),
            ),
            (ops.Unlink(b"d/d"), ops.Chmod(b"d-", 0o600), ops.Unlink(b"d d/d"), _file(b"d!")),
        ),
    ),
    Case(
        "OVL-NAMES-CASE",
        "case",
        ((_file(b"a", b"1"), _file(b"A", b"2"), _mkdir(b"D")), (ops.Unlink(b"A"), _mkdir(b"d"))),
    ),
)

CASES: Final = (*_KINDS, *_WHITEOUTS, *_METADATA, *_NAMES)
