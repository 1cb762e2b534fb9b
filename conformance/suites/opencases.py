"""Archives of which no text says what a store makes of them: what it does is recorded, and judged by nobody.

tests/conformance/test_readers.py holds whether both readers (conformance.operations.readers) read one alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from conformance.operations.tarforms import (
    GNU,
    HARD_LINK,
    PAX,
    SYMLINK,
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
from conformance.suites.tarcases import ENTRY_KINDS, LAST, path_of


@dataclass(frozen=True, slots=True)
class OpenCase:
    """An archive of which no text says what a store makes of it: that is recorded, and judged by nobody.

    ``disputed`` says that Python's tarfile and GNU tar read it differently, or that one of them refuses it.
    """

    name: str
    data: bytes
    needs_root: bool = False
    disputed: bool = False


_PIECE: Final = b"data" * 128
_HOLE: Final = 8192
SPARSE_SIZE: Final = _HOLE + len(_PIECE)
SPARSE_CONTENT: Final = bytes(_HOLE) + _PIECE


def _old_gnu_sparse() -> bytes:
    """Type S: the map is in the header, at 386: pairs of offset and length, whether more follow, and the size."""
    number = b"%011o\0"
    fields = number % _HOLE + number % len(_PIECE) + bytes(24 * 3) + b"\0" + number % SPARSE_SIZE
    block = bytearray(header_of(Tarred(b"sparse", b"S", size=len(_PIECE), form=Form(GNU))))
    block[386 : 386 + len(fields)] = fields
    return summed(bytes(block)) + _PIECE


def _pax_sparse(records: Sequence[tuple[bytes, bytes]], before: bytes = b"") -> bytes:
    return pax_header(records_of(records)) + entry_of(Tarred(b"GNUSparseFile.1/sparse", content=before + _PIECE))


def _number(value: int) -> bytes:
    return b"%d" % value


_SPARSE_0_0: Final = _pax_sparse(
    (
        (b"GNU.sparse.size", _number(SPARSE_SIZE)),
        (b"GNU.sparse.numblocks", b"1"),
        (b"GNU.sparse.offset", _number(_HOLE)),
        (b"GNU.sparse.numbytes", _number(len(_PIECE))),
        (b"path", b"sparse"),
    )
)
_SPARSE_0_1: Final = _pax_sparse(
    (
        (b"GNU.sparse.size", _number(SPARSE_SIZE)),
        (b"GNU.sparse.numblocks", b"1"),
        (b"GNU.sparse.name", b"sparse"),
        (b"GNU.sparse.map", b"%d,%d" % (_HOLE, len(_PIECE))),
    )
)
_SPARSE_1_0: Final = _pax_sparse(
    (
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"sparse"),
        (b"GNU.sparse.realsize", _number(SPARSE_SIZE)),
    ),
    padded(b"1\n%d\n%d\n" % (_HOLE, len(_PIECE))),
)
_END: Final = archive_of([LAST])


def _timed(time: bytes) -> bytes:
    return pax_header(records_of([(b"mtime", time)])) + archive_of([Tarred(b"f"), LAST])


def _of_kind(kind: bytes) -> bytes:
    return archive_of([Tarred(b"other", kind, content=b"content", form=Form(GNU)), LAST])


def _beyond(length: int, form: Form) -> dict[str, list[Tarred]]:
    """Each kind of entry with a path of its own that no system call takes, and links that lead there."""
    name = path_of(length, b"n")
    found = {f"name of a {kind}": [Tarred(name, flag, form=form)] for kind, flag in ENTRY_KINDS.items()}
    del found["name of a link"], found["name of a symlink"]
    target = path_of(length, b"t")
    file = Tarred(b"f", content=b"f", form=form)
    for kind, flag in (("link", HARD_LINK), ("symlink", SYMLINK)):
        found[f"name of a {kind}"] = [file, Tarred(name, flag, target=b"f", form=form)]
        found[f"target of a {kind}"] = [file, Tarred(b"l", flag, target=target, form=form)]
    return found


OPEN: Final = (
    *[
        OpenCase(f"a {what} with 4096 bytes, {form.name}", archive_of([*entries, LAST]))
        for form in (Form(GNU), Form(PAX))
        for what, entries in _beyond(4096, form).items()
    ],
    OpenCase("sparse old GNU", _old_gnu_sparse() + _END),
    OpenCase("sparse 0.0", _SPARSE_0_0 + _END),
    OpenCase("sparse 0.1", _SPARSE_0_1 + _END),
    OpenCase("sparse 1.0", _SPARSE_1_0 + _END),
    OpenCase("type 7 (contiguous)", _of_kind(b"7")),
    OpenCase("type D (GNU directory)", _of_kind(b"D"), disputed=True),
    OpenCase("type V (GNU label)", archive_of([Tarred(b"label", b"V", form=Form(GNU)), LAST]), disputed=True),
    OpenCase("type A (of a vendor)", _of_kind(b"A"), disputed=True),
    OpenCase("type 8 (reserved)", _of_kind(b"8"), disputed=True),
    OpenCase("a file with a slash", archive_of([Tarred(b"slash/"), LAST]), disputed=True),
    OpenCase("a time in a global header", global_header(((b"mtime", b"1"),)) + archive_of([Tarred(b"f"), LAST])),
    OpenCase(
        "an owner in a global header",
        global_header(((b"uid", b"7"),)) + archive_of([Tarred(b"f"), LAST]),
        needs_root=True,
    ),
    OpenCase("a time of 2^34", archive_of([Tarred(b"f", mtime=2**34 * 10**9, form=Form(PAX)), LAST])),
    OpenCase("a time before 1970", archive_of([Tarred(b"f", mtime=-5 * 10**9, form=Form(GNU)), LAST])),
    OpenCase(
        "a fraction before 1970",
        archive_of([Tarred(b"f", mtime=-1_500_000_000, form=Form(PAX)), LAST]),
        disputed=True,
    ),
    OpenCase("a time without digits behind its point", _timed(b"5.")),
    OpenCase("a time without digits before its point", _timed(b".5"), disputed=True),
    OpenCase("a time with a plus", _timed(b"+5"), disputed=True),
    OpenCase(
        "two extended headers",
        pax_header(records_of([(b"mtime", b"5")]))
        + pax_header(records_of([(b"path", b"second")]))
        + archive_of([Tarred(b"f"), LAST]),
        disputed=True,
    ),
    OpenCase(
        "a name of pax and one of GNU",
        pax_header(records_of(((b"path", b"pax"),))) + archive_of([Tarred(b"g" * 101, form=Form(GNU)), LAST]),
    ),
    OpenCase("an empty global header", global_header(()) + archive_of([LAST])),
    OpenCase("an empty extended header", pax_header(b"") + archive_of([LAST])),
)
