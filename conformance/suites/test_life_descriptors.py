"""Descriptors that calls leave open in the process of the driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.drivers.protocol import DriverRefused
from conformance.harness.assertions import nothing
from conformance.harness.bench import Bench
from conformance.history.calls import Diff
from conformance.operations import archives, ops
from conformance.operations.standard import STANDARD
from conformance.suites.processes import opened


@pytest.mark.requirement("OVL-LIFE-NO-DESCRIPTORS")
def test_no_descriptor_stays_open(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.RemoveTree(b"d")]])

        def use(number: int) -> None:
            for layer_id in ids:
                store.observed(layer_id)
            if bench.has("diff") and bench.has("apply"):
                store.create(f"copy-{number}")
                store.apply(f"copy-{number}", store.diff("layer-0"))

        use(0)
        before = bench.state_of(store).descriptors
        for number in range(1, 6):
            use(number)
        opened = bench.state_of(store).descriptors - before
        nothing("descriptors that five rounds of get, put, diff and apply left open", max(0, opened))


@pytest.mark.requirement("OVL-LIFE-NO-DESCRIPTORS")
def test_an_opening_that_is_closed_leaves_none(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])

        def use() -> None:
            with opened(store) as other:
                other.get("layer-0")
                other.put("layer-0")

        use()
        before = bench.state_of(store).descriptors
        store.beyond("the home was opened and closed five times more")
        for _ in range(5):
            use()
        left = bench.state_of(store).descriptors - before
        nothing("descriptors that five openings left open, which were closed", max(0, left))


@pytest.mark.requirement("OVL-LIFE-NO-DESCRIPTORS")
def test_an_archive_of_many_directories_leaves_none(bench: Bench) -> None:
    """More than a driver keeps open on the way; new ones, and those of the lower."""
    names = [f"directory-{number}/below" for number in range(200)]
    entries = [archives.file(f"{name}/file") for name in names]
    bench.need("apply")
    with bench.store() as store:
        store.create("base")
        store.applied("base", entries)
        before = bench.state_of(store).descriptors
        for number in range(2):
            store.create(f"child-{number}", "base")
            store.applied(
                f"child-{number}", [*entries, *(archives.whiteout(f"{one}/.wh.file") for one in names[:99])]
            )
            store.create(f"base-{number}")
            store.applied(f"base-{number}", entries)
        opened = bench.state_of(store).descriptors - before
        nothing("descriptors that applying four archives of 400 directories left open", max(0, opened))


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-NO-DESCRIPTORS")
def test_a_diff_that_is_not_read_to_its_end_leaves_none(bench: Bench) -> None:
    """Nothing can be written to /dev/full, so that whoever reads the diff gives up in the middle."""
    bench.need("diff")
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"large", b"large" * 100_000, 0o644)]])
        before = bench.state_of(store).descriptors
        for _ in range(5):
            try:  # noqa: SIM105 # suppress() is for what clears up
                store.do(Diff("layer-1", "layer-0", store.label(Path("/dev/full"))))
            except (DriverRefused, OSError):
                pass  # the device takes nothing, so either is right
        opened = bench.state_of(store).descriptors - before
        nothing("descriptors that five diffs left open, which were not read to their end", max(0, opened))
        store.shows_model("layer-1")
