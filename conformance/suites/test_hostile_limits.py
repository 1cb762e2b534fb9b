"""Archives at and beyond the limits of system calls: each is refused, or stays in its layer."""

from __future__ import annotations

from typing import Final

import pytest

from conformance.harness.bench import Bench
from conformance.operations.tarforms import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    GNU,
    HARD_LINK,
    PAX,
    SYMLINK,
    Form,
    Tarred,
    archive_of,
    entry_of,
    pax_header,
)
from conformance.suites.outside import still_well, targets

_FIRST: Final = Tarred(b"first", content=b"first")
_LAST: Final = Tarred(b"last", content=b"last")
_NAME_MAX: Final = 255
_PATH_MAX: Final = 4096
_IN_PAX: Final = Form(PAX)
_IN_GNU: Final = Form(GNU)
_XATTR: Final = b"SCHILY.xattr."


def _between(*entries: Tarred) -> bytes:
    return archive_of([_FIRST, *entries, _LAST])


def _saying(key: bytes, value: bytes) -> bytes:
    """A file with a record of pax."""
    return _between(Tarred(b"f", content=b"f", form=_IN_PAX, records=((key, value),)))


def _behind(body: bytes) -> bytes:
    """A file behind an extended header with these bytes."""
    return entry_of(_FIRST) + pax_header(body) + archive_of([Tarred(b"f"), _LAST])


def _deep(length: int) -> bytes:
    return (b"d/" * (length // 2))[: length - 1] + b"f"


NAMES: Final = {
    "a name with a NUL": _saying(b"path", b"a\0b"),
    "a target with a NUL": _between(
        Tarred(b"s", SYMLINK, target=b"t", form=_IN_PAX, records=((b"linkpath", b"a\0b"),))
    ),
    "a name of 256 bytes": _saying(b"path", b"n" * (_NAME_MAX + 1)),
    "a whiteout of 256 bytes": _saying(b"path", b".wh." + b"n" * (_NAME_MAX + 1)),
    "a path of 4,097 bytes": _saying(b"path", _deep(_PATH_MAX + 1)),
    "a path of 9,000 bytes": _saying(b"path", _deep(9000)),
    "a name below a whiteout": _between(Tarred(b".wh.gone/f", content=b"f")),
    "dots within the layer": _between(Tarred(b"d/../inside", content=b"f"), Tarred(b"d/d/../../a/../b2")),
    "a symlink without a target": _between(Tarred(b"s", SYMLINK)),
    "a symlink with a target of 4,000 bytes": _between(Tarred(b"s", SYMLINK, target=_deep(4000), form=_IN_PAX)),
    "a symlink with a target of 4,096 bytes": _between(
        Tarred(b"s", SYMLINK, target=_deep(_PATH_MAX), form=_IN_PAX)
    ),
    "a way through a symlink with dots": _between(
        Tarred(b"d/s", SYMLINK, target=b"../d/./../e"), Tarred(b"d/s/inside", content=b"f")
    ),
    "a way through 41 symlinks": _between(
        *(Tarred(b"s%d" % one, SYMLINK, target=b"s%d" % (one + 1)) for one in range(41)),
        Tarred(b"s0/inside", content=b"f"),
    ),
    "a way through a symlink to itself": _between(Tarred(b"s", SYMLINK, target=b"s"), Tarred(b"s/inside")),
}

KINDS: Final = {
    "a hard link to a directory": _between(Tarred(b"d", DIRECTORY), Tarred(b"h", HARD_LINK, target=b"d")),
    "a hard link to what the archive deletes": _between(Tarred(b".wh.a"), Tarred(b"h", HARD_LINK, target=b"a")),
    "a hard link to itself": _between(Tarred(b"a", HARD_LINK, target=b"a")),
    "a hard link to a missing file": _between(Tarred(b"h", HARD_LINK, target=b"missing/a")),
    "a hard link to what is below a file": _between(Tarred(b"h", HARD_LINK, target=b"a/a")),
    "a hard link to AUFS's own": _between(Tarred(b"h", HARD_LINK, target=b".wh..wh.plnk/1.2")),
    "a device of overlay's": _between(Tarred(b"c", CHARACTER)),
    "a major number of 13 bits": _between(Tarred(b"c", CHARACTER, major=1 << 12, minor=1)),
    "a minor number of 21 bits": _between(Tarred(b"b", BLOCK_DEVICE, major=1, minor=1 << 20)),
    "a negative minor number": _between(Tarred(b"c", CHARACTER, major=1, minor=-1, form=_IN_GNU)),
    "zeros between two entries": entry_of(_FIRST) + bytes(BLOCK) + archive_of([_LAST]),
    "an unknown type": _between(Tarred(b"f", b"!", content=b"f")),
}

NUMBERS: Final = {
    "an owner who is not root": _between(Tarred(b"f", uid=70_000, gid=70_001)),
    "a uid of 2^32 - 1": _saying(b"uid", b"4294967295"),
    "a gid of 2^32": _saying(b"gid", b"4294967296"),
    "a negative uid": _between(Tarred(b"f", uid=-1, form=_IN_GNU)),
    "a uid that is no number": _saying(b"uid", b"0x10"),
    "a uid of 30 digits": _saying(b"uid", b"1" * 30),
    "a negative size": _saying(b"size", b"-1"),
    "a time of 2^63 - 1": _saying(b"mtime", b"9223372036854775807"),
    "a time of 2^63": _saying(b"mtime", b"9223372036854775808"),
    "a time below -2^63": _saying(b"mtime", b"-9223372036854775809"),
    "a time of 30 digits": _saying(b"mtime", b"9" * 30),
    "a time that is no number": _saying(b"mtime", b"now"),
}

RECORDS: Final = {
    "an attribute without a name": _saying(_XATTR, b"x"),
    "an attribute with a namespace only": _saying(_XATTR + b"user.", b"x"),
    "an attribute with a name of 256 bytes": _saying(_XATTR + b"user." + b"n" * 251, b"x"),
    "an attribute of 60,000 bytes": _saying(_XATTR + b"user.large", b"x" * 60_000),
    "an attribute of 65,537 bytes": _saying(_XATTR + b"user.large", b"x" * 65_537),
    "capabilities of 3 bytes": _saying(_XATTR + b"security.capability", b"\1\0\0"),
    "attributes of a directory": _between(
        Tarred(b"e", DIRECTORY, form=_IN_PAX, records=((_XATTR + b"user.large", b"x" * 65_537),))
    ),
    "a record without a length": _behind(b"path=f\n"),
    "a record without an equals sign": _behind(b"7 path\n"),
    "a record that is too long": _behind(b"99 path=f\n"),
    "a record that is too short": _behind(b"6 path=f\n"),
    "a record with a length of a hundred digits": _behind(b"1" * 100 + b" path=f\n"),
}


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-MUTATED")
@pytest.mark.parametrize("cases", [NAMES, KINDS, NUMBERS, RECORDS], ids=["names", "kinds", "numbers", "records"])
def test_limits_are_held(bench: Bench, cases: dict[str, bytes]) -> None:
    """Each archive is of a layer of its own: what is refused leaves no layer that others stumble upon."""
    with targets(bench) as (store, outside):
        for number, (what, data) in enumerate(cases.items()):
            layer_id = store.create(f"layer-{number}", "base")
            archive = store.bytes_of_archive(data, f"a file, {what}, and another file")
            store.may_refuse(store.applying(layer_id, archive))
            outside.check()
        still_well(store)
