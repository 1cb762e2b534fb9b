"""Archives that are cut, at every place where a reader may take what is left for a whole one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import charged_to
from conformance.operations.tarforms import BLOCK, GNU, PAX, SYMLINK, Form, Tarred, archive_of, entry_of

_FIRST = Tarred(b"first", content=b"f" * 600)
_LAST = {
    "empty": Tarred(b"last"),
    "with-content": Tarred(b"last", content=b"l" * 700),
    "full-blocks": Tarred(b"last", content=b"l" * 1024),
    "gnu-extensions": Tarred(b"last" + b"/l" * 60, SYMLINK, target=b"t" * 200, form=Form(GNU)),
    "pax-extension": Tarred(b"last", content=b"l", form=Form(PAX, always=True)),
}
_SIZE = slice(124, 135)
_KIND = slice(156, 157)


@dataclass(frozen=True, slots=True)
class Part:
    """A header and its data, by their places in the archive; the last block of the data ends at ``after``."""

    begin: int
    end: int
    after: int
    extends: bool  # the entry that follows

    def edges(self) -> set[int]:
        """Lengths of an archive that lacks some of it, at the ends of its blocks and beside them."""
        blocks = range(self.begin, self.end, BLOCK)
        near = {place for block in blocks for place in (block, block + 1, block + BLOCK - 1)}
        return {place for place in near | {self.end - 1} if self.begin < place < self.end}


def parts_of(last: Tarred) -> list[Part]:
    """The parts of the last entry of an archive: its extensions, then its header."""
    begin = len(entry_of(_FIRST))
    data = entry_of(_FIRST) + entry_of(last)
    found: list[Part] = []
    while begin < len(data):
        header = data[begin : begin + BLOCK]
        end = begin + BLOCK + int(header[_SIZE], 8)
        after = end + -end % BLOCK
        found.append(Part(begin, end, after, header[_KIND] in (b"L", b"K", b"x")))
        begin = after
    return found


def refuses_all(store: Store, data: bytes, lengths: Iterable[int]) -> None:
    store.create("cut")
    for length in sorted(lengths):
        archive = store.bytes_of_archive(data[:length], f"two files, cut in the second after {length} bytes")
        store.refuses(store.applying("cut", archive))


@pytest.mark.requirement("OVL-APPLY-TRUNCATED", "OVL-APPLY-NO-END")
@pytest.mark.parametrize("last", _LAST.values(), ids=_LAST.keys())
def test_an_archive_is_cut_at_every_block(bench: Bench, last: Tarred) -> None:
    data, parts = archive_of([_FIRST, last], record=False), parts_of(last)
    with bench.store() as store:
        with charged_to("OVL-APPLY-TRUNCATED"):
            refuses_all(store, data, (place for part in parts for place in part.edges()))
        with charged_to("OVL-APPLY-NO-END"):
            shows_both_or_refuses(store, data, last, around_the_end(parts[-1], len(data)))
        for part in parts:
            if part.extends:
                records_dangling(store, data, part)


@pytest.mark.requirement("OVL-APPLY-TRUNCATED", "OVL-APPLY-NO-END")
@given(data=st.data())
def test_an_archive_is_cut_at_any_byte(bench: Bench, data: st.DataObject) -> None:
    last = _LAST[bench.draw(data, st.sampled_from(sorted(_LAST)))]
    whole, parts = archive_of([_FIRST, last], record=False), parts_of(last)
    lengths = bench.draw(data, st.lists(st.integers(parts[0].begin + 1, len(whole) - 1), min_size=1, max_size=4))
    inside = {one for one in lengths if any(part.begin < one < part.end for part in parts)}
    with bench.store() as store:
        with charged_to("OVL-APPLY-TRUNCATED"):
            refuses_all(store, whole, inside)
        with charged_to("OVL-APPLY-NO-END"):
            shows_both_or_refuses(store, whole, last, {one for one in lengths if one >= parts[-1].end})


def around_the_end(last: Part, length: int) -> Iterator[int]:
    """Lengths that hold all data of the archive, and not all blocks of its end."""
    end = last.after
    yield from sorted(
        {last.end, (last.end + end) // 2, end, end + 1, end + BLOCK - 1, end + BLOCK, end + BLOCK + 1}
    )
    yield length - 1


def shows_both_or_refuses(store: Store, data: bytes, last: Tarred, lengths: Iterable[int]) -> None:
    contents = {_FIRST.name: _FIRST.content, last.name: last.content}
    for length in lengths:
        layer_id = store.create(f"layer-{length}")
        archive = store.bytes_of_archive(data[:length], f"two files, and {length} of {len(data)} bytes")
        if store.may_refuse(store.applying(layer_id, archive)) is None:
            store.shows_files(layer_id, contents)


def records_dangling(store: Store, data: bytes, part: Part) -> None:
    """GNU tar takes this for the end of the archive, and tarfile refuses it: nobody is judged."""
    archive = store.bytes_of_archive(data[: part.after], "a file, and an extended header without an entry")
    layer_id = store.create(f"dangling-{part.after}")
    refused = store.may_refuse(store.applying(layer_id, archive)) is not None
    store.record("an archive that ends behind an extended header is", "refused" if refused else "taken")
