"""Processes that are killed at one of their system calls."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import pytest

from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation
from conformance.machines.killing import APPLIED, KILLED, Interrupted, chosen
from conformance.suites.failing import failing_at, report

_EACH = 5  # examples for one process, which takes as long


@pytest.mark.drawn
@pytest.mark.requirement(KILLED, APPLIED)
def test_an_apply_is_killed_at_a_system_call(bench: Bench) -> None:
    bench.need("apply")
    with failing_at(bench) as (store, files, failing):
        made = Interrupted(partial(bench.open_at, store, failing.prefix([store])), failing, files)
        try:
            report(of_kills(bench, made))
        finally:
            made.leave()


def of_kills(bench: Bench, made: Interrupted) -> Iterator[Deviation]:
    calls = made.calls()
    numbers = chosen(max(1, bench.examples // _EACH), calls)
    if not bench.patient:
        numbers = sorted(random.sample(numbers, min(len(numbers), bench.examples // _EACH)))
    for number in numbers:
        at, found = made.killed_at(number)
        where = (
            f"a second archive is applied, and its process is killed at {at} (system call {number} of {len(calls)})"
        )
        bench.note(where)
        for one in found:
            yield Deviation(f"{where}: {one}", requirements=one.requirements)
