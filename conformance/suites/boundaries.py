"""Chains of layers at the boundaries of what an archive has room for."""

from __future__ import annotations

from typing import Final

from conformance.operations import ops
from conformance.operations.standard import CAPABILITY
from conformance.suites.cases import Case, Layer

_OLD: Final = 1_400_000_000 * 10**9
_LATER: Final = _OLD + 10**9


def _file(path: bytes, content: bytes = b"content", mode: int = 0o644) -> ops.CreateFile:
    return ops.CreateFile(path, content, mode)


def _mkdir(path: bytes, mode: int = 0o755) -> ops.MakeDirectory:
    return ops.MakeDirectory(path, mode)


def _values(*lengths: int) -> tuple[ops.Operation, ...]:
    """A file for each length, with an attribute as long."""
    return tuple(
        operation
        for length in lengths
        for operation in (_file(b"%d" % length), ops.SetXattr(b"%d" % length, "user.colour", b"v" * length))
    )


def _prefixes(*lengths: int) -> tuple[ops.Operation, ...]:
    """A file in a directory whose path is as long: what ustar keeps in its prefix field (POSIX.1-2017, pax)."""
    made: list[ops.Operation] = []
    for length in lengths:
        path = b"%d" % length
        made.append(_mkdir(path))
        while len(path) < length:
            path += b"/" + b"d" * min(59, length - len(path) - 1)
            made.append(_mkdir(path))
        made.append(_file(path + b"/f"))
    return tuple(made)


_KINDS_OF_OLD: Final[Layer] = (
    _file(b"f"),
    ops.MakeSymlink(b"s", b"f"),
    ops.MakeFifo(b"p", 0o600),
    ops.SetTimes(b"f", _OLD),
    ops.SetTimes(b"s", _OLD),
    ops.SetTimes(b"p", _OLD),
)

BOUNDARIES: Final = (
    Case(
        "OVL-APPLY-ROUND-TRIP",
        "sizes-around-blocks",
        (
            tuple(_file(b"%d" % size, b"x" * size) for size in (511, 512, 513, 1024, 65535, 65536, 65537)),
            tuple(_file(b"more-%d" % size, b"y" * size) for size in (131_072, 262_143, 262_144, 262_145)),
        ),
    ),
    Case(
        "OVL-APPLY-ROUND-TRIP",
        "a-lower-directory-moved",  # a kernel may refuse this with EXDEV
        ((_mkdir(b"d"), _file(b"d/f"), _mkdir(b"d/e")), (ops.Rename(b"d", b"t"),)),
    ),
    Case(
        "OVL-APPLY-ROUND-TRIP",
        "deletions-of-every-kind",
        (
            (
                *(_file(path) for path in (b"f", b"g", b"h", b"again")),
                *(_mkdir(path) for path in (b"d", b"d/d", b"empty", b"stays", b"other", b"other/d")),
                *(_file(path) for path in (b"d/f", b"d/d/f", b"stays/f", b"stays/g", b"other/d/f")),
                ops.MakeSymlink(b"s", b"d"),
                ops.MakeFifo(b"p", 0o600),
                ops.MakeHardLink(b"stays/link", b"stays/g"),
            ),
            (
                *(
                    ops.Unlink(path)
                    for path in (b"f", b"s", b"p", b"stays/f", b"stays/link", b"other/d/f", b"again")
                ),
                ops.RemoveDirectory(b"empty"),
                ops.RemoveTree(b"d"),
            ),
            (ops.Unlink(b"g"), _file(b"again", b"once more"), ops.Unlink(b"stays/g"), ops.RemoveTree(b"other")),
        ),
    ),
    Case("OVL-APPLY-FILE-TIMES", "of-every-kind", (_KINDS_OF_OLD, (ops.SetTimes(b"s", _LATER),)), times="files"),
    Case(
        "OVL-OPAQUE-DEEP",
        "what-two-layers-hold",
        (
            (_mkdir(b"d"), _file(b"d/lowest")),
            (_file(b"d/middle"),),
            (ops.RemoveTree(b"d"), _mkdir(b"d"), _file(b"d/new")),
            (_file(b"d/lowest", b"again"),),
        ),
    ),
    Case(
        "OVL-OPAQUE-METADATA",
        "owner",
        (
            (_mkdir(b"d", 0o755), _file(b"d/old")),
            (ops.RemoveTree(b"d"), _mkdir(b"d", 0o711), ops.Chown(b"d", 1000, 2000)),
        ),
    ),
    Case(
        "OVL-META-CAPABILITY",
        "copied-up",
        (
            (_file(b"f", b"#!", 0o755), ops.SetXattr(b"f", "security.capability", CAPABILITY)),
            (ops.Chmod(b"f", 0o750),),
        ),
    ),
    Case(
        "OVL-META-OWNERS",
        "seven-octal-digits",
        (
            (_file(b"f"), ops.Chown(b"f", 2**21 - 1, 2**21)),
            (_file(b"g"), ops.Chown(b"g", 2**21, 2**21 - 1)),
        ),
    ),
    # A record of pax begins with its length, which counts its own digits: 99 and 100 are not far apart.
    Case("OVL-META-XATTRS", "every-length", (_values(*range(60, 76)),)),
    Case("OVL-NAMES-LONG-PATHS", "prefixes", (_prefixes(153, 154, 155, 156), ())),
)
