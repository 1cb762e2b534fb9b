"""Archives that are written down: each rare construct of tar, so that finding it is not luck.

Both readers (conformance.operations.readers) agree on each of them, which tests/conformance/test_readers.py holds.
Those of which no text says what they mean are in opencases.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from conformance.operations.tarforms import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIGITS,
    DIRECTORY,
    FIFO,
    FILE,
    GNU,
    HARD_LINK,
    PAX,
    RECORD,
    SYMLINK,
    USTAR,
    V7,
    Form,
    Tarred,
    archive_of,
    entry_of,
    global_header,
    header_of,
    padded,
    pax_header,
    records_of,
    summed,
)

# Around the ends of the fields name (100), prefix (155) and both with the slash between them (256).
LENGTHS: Final = (99, 100, 101, 154, 155, 156, 157, 255, 256, 257)
_TARGETS: Final = (99, 100, 101, 155, 156, 255, 256, 257, 1000)
ENTRY_KINDS: Final = {"file": FILE, "directory": DIRECTORY, "symlink": SYMLINK, "link": HARD_LINK, "fifo": FIFO}
LAST: Final = Tarred(b"last", content=b"last")
_UID_TO_TIME: Final = slice(108, 148)  # of a header: uid, gid, size and mtime


@dataclass(frozen=True, slots=True)
class TarCase:
    """Entries that every driver must take. Their names begin with what ``make`` is given, so that cases are joined.

    ``make`` gives the blocks without the end of an archive. ``needs_root`` is for owners and devices, ``needs`` a
    capability.
    """

    name: str
    make: Callable[[bytes], bytes]
    needs_root: bool = False
    needs: str = ""


def joined(cases: Iterable[TarCase]) -> bytes:
    """One archive of several cases, and an entry behind them."""
    blocks = b"".join(case.make(b"%d" % number) for number, case in enumerate(cases))
    return blocks + archive_of([LAST])


def path_of(length: int, first: bytes) -> bytes:
    """A path of ``length`` bytes below a directory, of names that both fields of ustar have room for."""
    path = first
    while len(path) < length:
        left = length - len(path) - 1
        path += b"/" + (b"n" * left if left <= 60 else b"d" * 59)
    return path


def _case(name: str, *entries: Tarred, needs: str = "") -> TarCase:
    """Entries of short names; what hard links lead to is among them."""

    def make(before: bytes) -> bytes:
        return b"".join(
            entry_of(
                replace(
                    entry,
                    name=before + entry.name,
                    target=before + entry.target if entry.kind == HARD_LINK else entry.target,
                )
            )
            for entry in entries
        )

    return TarCase(name, make, needs=needs)


def _of_form(make: Callable[[bytes, Form], Iterable[Tarred]], form: Form) -> Callable[[bytes], bytes]:
    return lambda before: b"".join(map(entry_of, make(before, form)))


def _in_forms(
    name: str,
    make: Callable[[bytes, Form], Iterable[Tarred]],
    forms: Iterable[Form],
    *,
    needs_root: bool = False,
) -> list[TarCase]:
    found = []
    for form in forms:
        words = [name, form.name, *(["always"] if form.always else []), *(["K first"] if form.first == "K" else [])]
        found.append(TarCase(", ".join(words), _of_form(make, form), needs_root))
    return found


def _names(lengths: Sequence[int]) -> Callable[[bytes, Form], Iterable[Tarred]]:
    """Each kind of entry that carries a name, with a name of each length."""

    def make(before: bytes, form: Form) -> Iterable[Tarred]:
        first = Tarred(before + b"first", content=b"first", form=form)
        yield first
        for kind, flag in ENTRY_KINDS.items():
            for length in lengths:
                name = path_of(length, before + kind.encode())
                slash = b"/" if flag == DIRECTORY and form.name == V7 else b""
                content = b"%d" % length if flag == FILE else b""
                target = first.name if flag in (SYMLINK, HARD_LINK) else b""
                mode = 0o711 if flag == DIRECTORY else 0o644
                yield Tarred(name + slash, flag, content, target, mode, form=form)

    return make


def _targets(lengths: Sequence[int], more: int = 0) -> Callable[[bytes, Form], Iterable[Tarred]]:
    """Symlinks and hard links with targets of each length, whose names have ``more`` bytes more than a few."""

    def make(before: bytes, form: Form) -> Iterable[Tarred]:
        for length in lengths:
            target = path_of(length, before + b"t")
            yield Tarred(target, content=b"%d" % length, form=form)
            yield Tarred(b"%bh%d" % (before, length) + b"-" * more, HARD_LINK, target=target, form=form)
            yield Tarred(b"%bs%d" % (before, length) + b"-" * more, SYMLINK, target=target, form=form)

    return make


def _links(lengths: Sequence[int]) -> Callable[[bytes, Form], Iterable[Tarred]]:
    """Hard links alone: a filesystem may hold no symlink with such a target (xfs: 1023 bytes)."""

    def make(before: bytes, form: Form) -> Iterable[Tarred]:
        return (one for one in _targets(lengths)(before, form) if one.kind != SYMLINK)

    return make


def _sizes(before: bytes, form: Form) -> Iterable[Tarred]:
    for size in (0, 1, 511, 512, 513, 1023, 1024, 1025, RECORD - 1, RECORD, RECORD + 1):
        yield Tarred(b"%bf%d" % (before, size), content=bytes([65 + size % 26]) * size, form=form)


def _owners(*numbers: int) -> Callable[[bytes, Form], Iterable[Tarred]]:
    def make(before: bytes, form: Form) -> Iterable[Tarred]:
        for uid, gid in zip(numbers, reversed(numbers), strict=True):
            yield Tarred(b"%bo%d" % (before, uid), uid=uid, gid=gid, form=form)

    return make


def _times(*seconds: int) -> Callable[[bytes, Form], Iterable[Tarred]]:
    def make(before: bytes, form: Form) -> Iterable[Tarred]:
        for one in seconds:
            time = one * 10**9
            yield Tarred(b"%bf%d" % (before, one), mtime=time, form=form)
            yield Tarred(b"%bs%d" % (before, one), SYMLINK, target=b"missing", mtime=time, form=form)
            yield Tarred(b"%bp%d" % (before, one), FIFO, mtime=time, form=form)

    return make


def _devices(before: bytes, form: Form) -> Iterable[Tarred]:
    # xfs has 9 and 18 bits for a device's numbers, others have 12 and 20.
    for major, minor in ((0, 1), (1, 0), (1, 3), (255, 255), (256, 256), (511, 262_143)):
        for kind in (CHARACTER, BLOCK_DEVICE):
            yield Tarred(b"%b%b-%d-%d" % (before, kind, major, minor), kind, major=major, minor=minor, form=form)


def _recorded(name: str, *records: tuple[bytes, bytes], needs: str = "") -> TarCase:
    """A file behind an extended header with these records; a path in them is that of the case."""

    def make(before: bytes) -> bytes:
        said = [(key, before + value if key == b"path" else value) for key, value in records]
        return pax_header(records_of(said)) + entry_of(Tarred(before + b"f", content=b"content"))

    return TarCase(name, make, needs=needs)


def _empty_fields(before: bytes) -> bytes:
    """Owner, size and time in fields of NULs, which both readers take for 0."""
    block = bytearray(header_of(Tarred(before + b"f", uid=0, gid=0, mtime=0)))
    block[_UID_TO_TIME] = bytes(_UID_TO_TIME.stop - _UID_TO_TIME.start)
    return summed(bytes(block))


def _between(name: str, *records: tuple[bytes, bytes]) -> TarCase:
    """A global header between two entries."""

    def make(before: bytes) -> bytes:
        long = Tarred(path_of(200, before + b"long"), form=Form(PAX, always=True))
        return entry_of(Tarred(before + b"f", content=b"f")) + global_header(records) + entry_of(long)

    return TarCase(name, make)


def _other_ends(before: bytes) -> bytes:
    """Long names and targets of GNU that end without a NUL, or with several; a C string ends at the first."""
    blocks = b""
    for end in (b"", b"\0", bytes(5), bytes(700)):
        path = path_of(120, before + b"n%d" % len(end))
        file = header_of(Tarred(path[:100], size=3, form=Form(GNU))) + padded(b"abc")
        link = header_of(Tarred(before + b"s%d" % len(end), SYMLINK, target=path[:100], form=Form(GNU)))
        blocks += _extension(b"L", path + end) + file + _extension(b"K", path + end) + link
    return blocks


def _extension(kind: bytes, content: bytes) -> bytes:
    return header_of(Tarred(b"././@LongLink", kind, size=len(content), form=Form(GNU))) + padded(content)


_UNREAD: Final = (
    (b"atime", b"1500000000.5"),
    (b"ctime", b"-1"),
    (b"comment", b"line 1\n10 path=no\nline 3"),
    (b"charset", b"ISO-IR 10646 2000 UTF-8"),
    (b"LIBARCHIVE.creationtime", b"1500000000"),
    (b"MSWINDOWS.rawsd", b"\xff\xfe=\n"),
    (b"SCHILY.dev", b"2049"),
    (b"SCHILY.ino", b"131"),
    (b"SCHILY.nlink", b"1"),
    (b"VENDOR.keyword=with", b"="),
)
_EVERY: Final = (Form(USTAR), Form(GNU), Form(PAX))
_ALWAYS: Final = (Form(GNU, always=True), Form(PAX, always=True))
_K_FIRST: Final = (Form(GNU, first="K"), Form(GNU, always=True, first="K"))

NAMES: Final = (
    *_in_forms("names", _names((20, 98, 99)), [Form(V7)]),
    *_in_forms("names", _names(LENGTHS[:-2]), [Form(USTAR)]),
    *_in_forms("names", _names(LENGTHS), _EVERY[1:]),
    *_in_forms("names", _names((20, 100)), _ALWAYS),
    # With the path of a layer before them, which is some 200 bytes, a kernel takes them (PATH_MAX is 4096).
    *_in_forms("names near the longest path", _names((3800,)), _EVERY[1:]),
    *_in_forms("links near the longest path", _links((3800,)), _EVERY[1:]),
    *_in_forms("targets", _targets((98, 99, 100)), [Form(V7), Form(USTAR)]),
    *_in_forms("targets", _targets(_TARGETS), _EVERY[1:]),
    *_in_forms("targets", _targets((20, 100)), _ALWAYS),
    *_in_forms("targets and names", _targets((101, 256), 200), [*_EVERY[1:], *_ALWAYS, *_K_FIRST]),
    TarCase("long names and targets with other ends, GNU", _other_ends),
)

KINDS: Final = (
    *_in_forms("sizes", _sizes, [Form(V7), *_EVERY, *_ALWAYS]),
    *_in_forms("devices", _devices, [*_EVERY, *_ALWAYS], needs_root=True),
    _case(
        "modes with file types",
        Tarred(b"d/", DIRECTORY, mode=0o41750, form=Form(V7)),
        Tarred(b"d/f", mode=0o104750, form=Form(V7)),
        Tarred(b"g", mode=0o102644),
    ),
    _case(
        "sizes of entries without content",
        Tarred(b"d", DIRECTORY, mode=0o755, size=4096),
        Tarred(b"f", content=b"f" * 600),
        Tarred(b"h", HARD_LINK, target=b"f", size=600),
    ),
)

NUMBERS: Final = (
    *[
        _case(f"digits: {one}", Tarred(b"f", content=b"f" * 513, mode=0o4755, form=Form(digits=one)))
        for one in DIGITS
    ],
    *_in_forms("owners", _owners(0, 1, 8**7 - 1), [Form(V7), *_EVERY, *_ALWAYS], needs_root=True),
    *_in_forms(
        "owners beyond digits",
        _owners(8**7 - 1, 8**7, 2**31 - 1, 2**31, 2**32 - 2),
        [*_EVERY[1:], *_ALWAYS],
        needs_root=True,
    ),
    *_in_forms("times", _times(0, 1, 2**31 - 1, 2**31, 2**32), [Form(V7), *_EVERY, *_ALWAYS]),
    *_in_forms("times beyond digits", _times(8**11 - 1, 8**11), [*_EVERY[1:], *_ALWAYS]),
    TarCase("numbers of NULs", _empty_fields),
    _case("a signed checksum", Tarred(b"\xe4\xf6\xfc", form=Form(signed=True)), needs="any-names"),
)

_LONG_OWNER: Final = b"o" * 32

RECORDS: Final = (
    _case(
        "sizes in records",
        Tarred(b"no-size", content=b"n" * 600, form=Form(PAX), size=0, size_record=True),
        Tarred(b"larger", content=b"l" * 513, form=Form(PAX), size=8**11 - 1, size_record=True),
        Tarred(b"smaller", content=b"s" * RECORD, form=Form(PAX), size=1, size_record=True),
        Tarred(b"behind", content=b"b"),
    ),
    _recorded("records that say nothing of a layer", *_UNREAD),
    _case(
        "records behind a long name of GNU",
        Tarred(path_of(150, b"long"), content=b"l", form=Form(GNU), records=((b"comment", b"behind"),)),
    ),
    _recorded("lines and equals signs in a name", (b"path", b"new\nline = 12 path=x\n")),
    _case("lines in a target", Tarred(b"s", SYMLINK, target=b"a\n9 size=1\n=", form=Form(PAX, always=True))),
    _recorded("bytes that are not UTF-8", (b"hdrcharset", b"BINARY"), (b"path", b"\xff\xfe"), needs="any-names"),
    _recorded("a record twice", (b"path", b"not-this"), (b"path", b"this")),
    _recorded("lengths of records", *((b"comment", b"c" * one) for one in (80, 82, 84, 86, 88, 984, 986))),
    _case(
        "names of owners",
        Tarred(b"32", uname=_LONG_OWNER, gname=_LONG_OWNER),
        Tarred(b"bytes", uname=b"\xff\xfe", gname=b"\xe4"),
        Tarred(b"33", uname=_LONG_OWNER + b"u", gname=_LONG_OWNER + b"g", form=Form(PAX)),
        Tarred(b"gnu", uname=b"u" * 31, gname=b"g", form=Form(GNU)),
    ),
    _between("a global header", (b"comment", b"4567"), (b"VENDOR.x", b"y\nz")),
)

SECOND_GLOBAL_HEADER: Final = (
    _between("a global header", (b"comment", b"first")),
    _between("another global header", (b"comment", b"second")),
)

# Whole archives, by how they end.
ENDS: Final = {
    "two blocks and no record": archive_of([LAST], record=False),
    "many blocks": archive_of([LAST], 3 * RECORD // BLOCK),
    "bytes behind the end": archive_of([LAST], record=False) + b"not of the archive" * 600,
}
