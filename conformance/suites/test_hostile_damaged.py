"""Archives that are damaged, promise too much, or have many entries: refused, or applied in bounded time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import between, equal
from conformance.harness.bench import Bench
from conformance.operations import archives
from conformance.suites import damaged
from conformance.suites.outside import still_well, targets


def must_refuse_bytes(bench: Bench, data: bytes, what: str) -> None:
    """These bytes are refused, and the driver goes on."""
    with targets(bench) as (store, _):
        archive = store.bytes_of_archive(data, what)
        store.refuses(store.applying("child", archive))
        still_well(store)


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-CHECKSUM")
def test_a_wrong_checksum_is_an_error(bench: Bench) -> None:
    must_refuse_bytes(bench, damaged.wrong_checksum(), "two files, the second with a wrong checksum")


@pytest.mark.requirement("OVL-HOSTILE-SIZE")
@pytest.mark.parametrize(("field", "what"), [pytest.param(*one, id=name) for name, one in damaged.SIZES.items()])
def test_a_size_that_lies_is_an_error(bench: Bench, field: bytes, what: str) -> None:
    must_refuse_bytes(bench, damaged.with_size(field), what)


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-SIZE")
def test_less_than_nothing_is_not_nothing(bench: Bench) -> None:
    """No data follows, so that whoever takes -1 for 0 finds the end where it should be."""
    data = damaged.with_size(damaged.MINUS_ONE, b"")
    must_refuse_bytes(bench, data, "an empty file with a size of -1")


@pytest.mark.requirement("OVL-HOSTILE-JUNK")
@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in damaged.JUNK.items()])
def test_junk_is_an_error(bench: Bench, data: bytes) -> None:
    must_refuse_bytes(bench, data, f"junk: {data[:8]!r}...")


@pytest.mark.requirement("OVL-HOSTILE-MUTATED")
@given(data=st.data())
def test_mutated_archives_harm_nothing(bench: Bench, data: st.DataObject) -> None:
    with targets(bench) as (store, _):
        entries = [
            archives.directory("d"),
            archives.file("d/f", b"x" * 700),
            archives.symlink("s", "d"),
            archives.whiteout(".wh.a"),
            archives.hard_link("h", "d/f"),
        ]
        whole = bytearray(archives.archive(entries))
        places = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255))
        for place, value in bench.draw(data, st.lists(places, min_size=1, max_size=8)):
            whole[place] = value
        length = bench.draw(data, st.sampled_from((len(whole), 3000, 1100, 513)))
        archive = store.bytes_of_archive(bytes(whole[:length]), f"mutated: {whole[:length].hex()[:200]}...")
        store.may_refuse(store.applying("child", archive))
        still_well(store)


@pytest.mark.requirement("OVL-HOSTILE-NAME-BOMB")
@pytest.mark.parametrize("kind", [pytest.param(kind, id=name) for name, kind in damaged.EXTENSIONS.items()])
def test_a_promise_of_gigabytes_is_an_error(bench: Bench, kind: bytes) -> None:
    """The header says that a name of 4 GiB follows; three blocks do."""
    header = damaged.promising(kind)
    must_refuse_bytes(bench, header, f"a header of type {kind!r} that promises 4 GiB")


@pytest.mark.requirement("OVL-HOSTILE-MANY")
@pytest.mark.release
def test_time_grows_with_the_entries(bench: Bench) -> None:
    """Four times the entries may take sixteen times as long at most, or it is worse than their square."""
    with bench.store() as store:
        taken = []
        for number in (2_000, 8_000):
            entries = [archives.file(f"d/{'x' * 60}-{one}", b"") for one in range(number)]
            layer_id = store.create(f"many-{number}")
            archive = store.archive([archives.directory("d"), *entries])
            began = time.perf_counter()
            store.apply(layer_id, archive)
            taken.append(time.perf_counter() - began)
        between(f"seconds for 8,000 entries, after {taken[0]:.2f} s for 2,000", taken[1], 0, 12 * taken[0])


@pytest.mark.requirement("OVL-HOSTILE-MANY")
def test_many_entries_are_taken(bench: Bench) -> None:
    with bench.store() as store:
        store.create("many")
        store.applied(
            "many", [archives.directory("d"), *(archives.file(f"d/{number}", b"") for number in range(1500))]
        )
        equal("names that an archive of 1,501 entries made", len(store.observed("many").nodes), 1501)
