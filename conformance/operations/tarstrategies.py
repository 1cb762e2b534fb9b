"""Archives for hypothesis, drawn by the grammar of tar: entries, and the form in which each value is written.

No name comes twice, as duplicates are another question. Drawn is how long names are, and what stands in each field.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import strategies as st

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
    TIME,
    USTAR,
    V7,
    Form,
    Records,
    Tarred,
    has_room,
)

# Around the ends of the fields of a header, and of what a component of a path can have.
_LENGTHS: Final = (1, 2, 8, 99, 100, 101, 154, 155, 156, 157, 254, 255, 256, 257, 1000)
_SIZES: Final = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, RECORD - 1, RECORD, RECORD + 1, 65_537)
_MODES: Final = (0o644, 0, 0o755, 0o4755, 0o2711, 0o1777, 0o7777, 0o100644, 0o104755)
_IDS: Final = (0, 1, 1000, 65_534, 65_535, 65_536, 8**7 - 1, 8**7, 2**31 - 1, 2**31, 2**32 - 2)
_SECONDS: Final = (TIME, 0, 1, 2**31 - 1, 2**31, 2**32, 8**11 - 1, 8**11)
_FRACTIONS: Final = (0, 1, 500_000_000, 999_999_999)
_DEVICES: Final = ((0, 1), (1, 0), (5, 300), (511, 262_143))
_OWNERS: Final = (b"", b"root", b"u" * 31, b"u" * 32, b"u" * 33, "\N{LATIN SMALL LETTER U WITH DIAERESIS}".encode())
_RECORDS: Final[tuple[Records, ...]] = (
    (),
    ((b"comment", b"one\n7 a=b\ntwo"),),
    ((b"atime", b"1.5"), (b"ctime", b"-3")),
    ((b"VENDOR.x", b"=\xff\n"),),
)
_LETTERS: Final = (b"n", b"m-", b"x ", "\N{LATIN SMALL LETTER E WITH ACUTE}".encode(), b"a\nb")
_KINDS: Final = (FILE, DIRECTORY, SYMLINK, HARD_LINK, FIFO, CHARACTER, BLOCK_DEVICE)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What was drawn of an entry."""

    kind: bytes
    lengths: tuple[int, int]  # of name and target
    letters: bytes
    size: int
    mode: int
    owner: tuple[int, int]
    seconds: int
    fraction: int
    device: tuple[int, int]
    names: tuple[bytes, bytes]
    form: Form
    in_record: bool
    records: Records


def text(length: int, letters: bytes, first: bytes) -> bytes:
    """A path that begins with ``first`` and is as long as it can be up to ``length`` bytes, at least ``first``."""
    path = first
    while (left := length - len(path)) > 0:
        component = letters * min(60 // len(letters), (left - 1) // len(letters))
        if not component:
            return path + b"." * left
        path += b"/" + component
    return path


@functools.cache
def forms() -> st.SearchStrategy[Form]:
    """A form of an entry."""
    return st.builds(
        Form,
        st.sampled_from((USTAR, V7, GNU, PAX)),
        st.booleans(),
        st.sampled_from("LK"),
        st.sampled_from(tuple(DIGITS)),
        st.booleans(),
    )


@functools.cache
def _choices(*, privileged: bool) -> st.SearchStrategy[_Choice]:
    owner = st.sampled_from(_IDS if privileged else (0,))
    lengths, names = st.sampled_from(_LENGTHS), st.sampled_from(_OWNERS)
    return st.builds(
        _Choice,
        st.sampled_from(_KINDS if privileged else _KINDS[:-2]),
        st.tuples(lengths, lengths),
        st.sampled_from(_LETTERS),
        st.sampled_from(_SIZES),
        st.sampled_from(_MODES),
        st.tuples(owner, owner),
        st.sampled_from(_SECONDS),
        st.sampled_from(_FRACTIONS),
        st.sampled_from(_DEVICES),
        st.tuples(names, names),
        forms(),
        st.booleans(),
        st.sampled_from(_RECORDS),
    )


@functools.cache
def archives(*, privileged: bool) -> st.SearchStrategy[list[Tarred]]:
    """The entries of an archive, each of which its form has room for; a hard link leads to a file before it."""
    return st.lists(_choices(privileged=privileged), min_size=1, max_size=6).map(_fitted)


def _fitted(choices: list[_Choice]) -> list[Tarred]:
    found: list[Tarred] = []
    file: Tarred | None = None
    for number, choice in enumerate(choices):
        entry = _entry(number, choice)
        if entry.kind == HARD_LINK and file is None:
            entry = replace(entry, kind=FILE, target=b"")
        elif entry.kind == HARD_LINK and file is not None:
            # One inode has one set of these, whichever of its entries says so.
            entry = replace(entry, target=file.name, mode=file.mode, uid=file.uid, gid=file.gid, mtime=file.mtime)
        entry = _as_its_form_can(entry)
        file = entry if entry.kind == FILE else file
        found.append(entry)
    return [*found, Tarred(b"last", content=b"last")]


def _entry(number: int, choice: _Choice) -> Tarred:
    kind = choice.kind
    return Tarred(
        text(choice.lengths[0], choice.letters, b"%d" % number),
        kind,
        bytes([65 + number]) * choice.size if kind == FILE else b"",
        text(choice.lengths[1], choice.letters, b"t") if kind == SYMLINK else b"",
        choice.mode,
        *choice.owner,
        choice.seconds * 10**9 + choice.fraction,
        *(choice.device if kind in (CHARACTER, BLOCK_DEVICE) else (0, 0)),
        *choice.names,
        choice.form,
        size=0 if choice.in_record and kind == FILE else None,
        size_record=choice.in_record and kind == FILE,
        records=choice.records,
    )


def _as_its_form_can(entry: Tarred) -> Tarred:
    """The entry in pax where its form has no room for it, and next to nothing of pax where that is not its form."""
    form = entry.form if has_room(entry) else replace(entry.form, name=PAX)
    if form.name == PAX:
        return replace(entry, form=form)
    slash = b"/" if form.name == V7 and entry.kind == DIRECTORY else b""
    whole = entry.mtime // 10**9 * 10**9
    # Records of pax may stand between a long name of GNU and the header of its entry.
    records = entry.records if form.name == GNU else ()
    return replace(entry, mtime=whole, name=entry.name + slash, size=None, size_record=False, records=records)
