"""The times of directories that an archive brings, whatever comes into them afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from conformance.harness.assertions import same_field
from conformance.harness.bench import Bench, Store
from conformance.operations import archives, ops
from conformance.operations.archives import Entry
from conformance.operations.standard import STANDARD
from conformance.suites.held import held

_TIMES = (0, 1, 1_000_000_000, 1_234_567_890, 2**31 - 1, 2**31, 2**33 + 1)


def _directory(name: str, seconds: int) -> Entry:
    return replace(archives.directory(name), mtime=seconds)


def _have_times(store: Store, layer_id: str, seconds: Mapping[bytes, int]) -> None:
    """The directories have these times; raises Deviation."""
    nodes = store.observed(layer_id).nodes
    for path, second in seconds.items():
        found = (nodes[path].mtime_ns or 0) // 10**9
        same_field(path, "mtime", f"in second {found}", (second * 10**9, False), f"in second {second}")


@pytest.mark.requirement("OVL-APPLY-DIRECTORY-TIMES")
def test_directories_have_the_times_of_their_entries(bench: Bench) -> None:
    """Those that were below the layer, and those that are new; with all kinds of entries behind them."""
    entries = [
        _directory("d", 1_100_000_000),
        _directory("d/d", 1_200_000_000),
        _directory("e", 1_300_000_000),
        _directory("x", 1_400_000_000),
        _directory("x/y", 1_500_000_000),
        _directory("x/y/a-longer-name-than-the-others", 1_600_000_000),
        archives.file("x/f"),
        archives.symlink("x/y/s", "target"),
        archives.hard_link("d/d/link", "x/f"),
        archives.whiteout("d/.wh.a"),
        archives.whiteout("e/.wh..wh..opq"),
        archives.file("e/f"),
        archives.directory("d/d/later"),
        archives.file("x/y/a-longer-name-than-the-others/f"),
    ]
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        store.create("child", "base")
        store.applied("child", entries)
        _have_times(store, "child", _times_of(entries[:6]))


@pytest.mark.requirement("OVL-APPLY-DIRECTORY-TIMES")
@pytest.mark.parametrize("order", [1, -1], ids=["whiteouts-first", "opaque-first"])
def test_whiteouts_that_an_opaque_one_makes_needless_leave_times(bench: Bench, order: int) -> None:
    entries = [_directory("d", 1_100_000_000), _directory("d/d", 1_200_000_000), _directory("e", 1_300_000_000)]
    deleted = [archives.whiteout("d/.wh.a"), archives.whiteout("d/d/.wh.none"), archives.whiteout("d/.wh..wh..opq")]
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        store.create("child", "base")
        store.applied("child", [*entries, *deleted[::order], archives.file("d/new"), archives.file("d/d/new")])
        _have_times(store, "child", _times_of(entries))


@pytest.mark.requirement("OVL-APPLY-DIRECTORY-TIMES")
def test_directories_have_times_of_any_size(bench: Bench) -> None:
    tried = tuple(one for second in _TIMES for one in (ops.MakeDirectory(b"d%d" % second, 0o755), _at(second)))
    there = {one.mtime_ns // 10**9 for one in held(bench, [tried])[0] if isinstance(one, ops.SetTimes)}
    entries = [_directory(f"d{second}", second) for second in _TIMES if second in there]
    with bench.store() as store:
        store.create("base")
        store.applied("base", [*entries, *(archives.file(f"{one.name}/f") for one in entries)])
        _have_times(store, "base", _times_of(entries))


def _at(second: int) -> ops.SetTimes:
    return ops.SetTimes(b"d%d" % second, second * 10**9)


def _times_of(entries: Iterable[Entry]) -> dict[bytes, int]:
    return {os.fsencode(one.name): one.mtime for one in entries}


@pytest.mark.requirement("OVL-APPLY-LAST-WINS")
def test_the_later_of_two_directories_stays(bench: Bench) -> None:
    """A file between them makes the second another directory."""
    entries = [
        _directory("another-one-that-is-first", 1_100_000_000),
        _directory("x", 1_200_000_000),
        archives.file("x/f"),
        archives.file("x"),
        _directory("x", 1_300_000_000),
        archives.file("x/g"),
    ]
    bench.need("attributes")
    with bench.store() as store:
        store.create("base")
        if store.may_refuse(store.applying("base", store.archive(entries))) is None:
            store.shows_files("base", {b"x/g": b"content"}, gone=(b"x/f",))
            _have_times(store, "base", {b"x": 1_300_000_000})
