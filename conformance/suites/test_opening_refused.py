"""A home that cannot be opened: what is in the way of a directory of the driver's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.harness.assertions import nothing
from conformance.harness.bench import Bench
from conformance.lab import namespace
from conformance.operations import ops
from conformance.operations.standard import STANDARD

_IN_THE_WAY = ("l", "staging")  # of the layout of containers/storage, each a file here


@pytest.mark.requirement("OVL-OPEN-REFUSED-CLEAN")
@pytest.mark.parametrize("name", _IN_THE_WAY)
def test_an_opening_that_a_file_is_in_the_way_of_leaves_no_mount(bench: Bench, name: str) -> None:
    with bench.store() as probe:
        below = os.path.relpath(probe.home, probe.directory)  # where the adapter puts the home
    with bench.directory() as directory:
        home = directory / "store" / below
        home.mkdir(parents=True)
        (home / name).write_text("in the way")
        where = directory / "store"
        with (
            _left_as_it_was(directory),
            suppress(DriverRefused, DriverFailed),
            bench.store("origin", lambda _: where) as store,
        ):
            store.note(f"a file {name} in the home does not disturb the driver")


@pytest.mark.requirement("OVL-OPEN-REFUSED-CLEAN")
@pytest.mark.parametrize("name", _IN_THE_WAY)
def test_a_second_opening_that_is_refused_leaves_no_mount(bench: Bench, name: str) -> None:
    """The home is mounted already, by the opening that there is."""
    bench.need("processes")
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")]])
        home = Path(store.home)
        away, there = home / ".away", (home / name).exists()
        if there:
            (home / name).rename(away)
        (home / name).write_text("in the way")
        store.beyond(f"a file is in the place of {home / name}")
        with _left_as_it_was(store.directory), suppress(DriverRefused, DriverFailed):
            store.another_opening().leave()
        if (home / name).is_file():
            (home / name).unlink()
            if there:
                away.rename(home / name)
            store.shows_model("layer-1")


@contextmanager
def _left_as_it_was(directory: Path) -> Iterator[None]:
    before = namespace.mounts_below(directory)
    yield
    after = namespace.mounts_below(directory)
    nothing("mounts that an opening left, or took away", sorted(set(before) ^ set(after)))
