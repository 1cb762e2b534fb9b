"""Histories: whatever was done before, a layer is what was made of it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from conformance.harness.bench import Bench
from conformance.machines.life_cycle import repeat, state_machine

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


@pytest.mark.drawn
@pytest.mark.requirement("OVL-LIFE-TWO-STORES")
def test_any_history_of_two_stores(bench: Bench) -> None:
    run(bench, stores=2)
