"""The time for shrinking: what is left of it, and that hypothesis heeds it."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine

from conformance.harness.shrinking import Shrinking

COST = 0.01  # seconds of an example


def shrunk() -> float:
    """Seconds from the first failing example to the minimal one."""
    failed: list[float] = []

    def wrong(numbers: list[int]) -> bool:
        until = time.perf_counter() + COST
        while time.perf_counter() < until:
            pass
        if len(numbers) < 12 or len(set(numbers)) < 10:
            return False
        failed[:] = failed or [time.perf_counter()]
        return True

    every = settings(database=None, deadline=None, max_examples=2000, suppress_health_check=list(HealthCheck))
    find(st.lists(st.integers(), min_size=8, max_size=40), wrong, settings=every)
    return time.perf_counter() - failed[0]


@pytest.mark.slow
def test_hypothesis_stops_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_SHRINKING_SECONDS", 300)
    whole = shrunk()
    Shrinking(free=0.0, share=0.0, least=whole / 10).restart()
    assert shrunk() < whole / 2


def test_the_first_failing_example_of_a_property_counts() -> None:
    @settings(database=None, max_examples=50)
    @given(st.integers())
    def positive(number: int) -> None:
        assert number > -1000

    first, second = Shrinking(), Shrinking()
    for one in (first, second):  # two rounds with one function
        one.watch(positive)
        with pytest.raises(AssertionError):
            positive()
        assert one.failed_at is not None
        at = one.failed_at
        one.failed()
        assert one.failed_at == at
        one.restart()
        assert one.failed_at is None
    assert first.failed_at is None


def test_failures_share_the_time_and_each_has_a_little() -> None:
    one = Shrinking(free=10.0, share=0.5, least=2.0, began=time.monotonic() - 100)
    assert one.left() == pytest.approx(60, abs=1)
    assert one.took() == 0
    one.failed_at = time.monotonic() - 50
    assert one.took() == pytest.approx(50, abs=1)
    assert one.left() == pytest.approx(10, abs=1)
    one.took()
    assert one.left() == 2.0
