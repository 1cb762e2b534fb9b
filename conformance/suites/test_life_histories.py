"""Histories: whatever was done before, a layer is what was made of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench
from conformance.machines.life_cycle import repeat, state_machine
from conformance.operations import ops
from conformance.operations.standard import STANDARD

_STEPS = 12


def run(bench: Bench, *, stores: int) -> None:
    """Run the machine as often as a property is tried."""
    if bench.recorded is not None:
        repeat(bench, bench.recorded, stores=stores)
        return
    chosen = settings(max_examples=bench.examples, stateful_step_count=_STEPS)
    run_state_machine_as_test(state_machine(bench, stores=stores), settings=chosen)


@pytest.mark.drawn
@pytest.mark.requirement("OVL-LIFE-HISTORY")
def test_any_history_of_one_store(bench: Bench) -> None:
    run(bench, stores=1)


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-HISTORY")
def test_a_diff_after_a_change_brings_the_change(bench: Bench) -> None:
    """A driver that keeps what it answered once has to forget it."""
    bench.need("diff", "apply")
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"first", b"1", 0o644)]])
        for twin, change in (("twin", ops.Unlink(b"a")), ("another", ops.WriteAt(b"first", 1, b"2"))):
            store.diff("layer-1")
            store.change("layer-1", [change])
            store.create(twin, "layer-0")
            store.apply(twin, store.diff("layer-1"))
            expected = store.expected("layer-1").without_directory_times()
            same_tree(f"{twin}, made of a diff after a change,", expected, store.observed(twin), times="files")


@pytest.mark.drawn
@pytest.mark.requirement("OVL-LIFE-TWO-STORES")
def test_any_history_of_two_stores(bench: Bench) -> None:
    run(bench, stores=2)
