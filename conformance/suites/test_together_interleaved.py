"""A call in the middle of another one, between any two of its system calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation
from conformance.lab import namespace
from conformance.machines.interleaving import Stage, drawn
from conformance.machines.meetings import MEETINGS, Meeting, describe
from conformance.suites.failing import failing_at, report

_EACH = 5  # examples for one turn
_PATIENT = 2  # times as many turns, where there is time for many, ...
_AGAINST = 5  # ... and times these with a call that contradicts the other


@contextmanager
def stage(bench: Bench, *, processes: bool) -> Iterator[Stage]:
    """A store of a driver whose calls can be stopped in their middle."""
    bench.need("pretend", "apply", "diff", "own-layers")
    with failing_at(bench) as (store, files, failing):
        made = Stage(
            partial(bench.open_at, store, failing.prefix([store])),
            failing,
            files,
            partial(namespace.mounts_below, store),
            processes=processes,
        )
        try:
            yield made
        finally:
            made.leave()


def judged(bench: Bench, made: Stage, meeting: Meeting) -> Iterator[Deviation]:
    """What is wrong after another call was done in the middle of this one, in each of some turns."""
    most = -(-bench.examples // _EACH)
    if bench.patient:
        most *= _PATIENT * (_AGAINST if len(meeting.beside) == 1 else 1)
    for turn, found in made.judged(meeting, partial(drawn, most, meeting.beside)):
        first, *others = turn.ended
        where = f"'{describe(first.call)}'"
        if others:
            where = f"'{describe(others[0].call)}' in the middle of {where}, before {turn.at or 'its end'}"
        bench.note(f"{where} -> {'; '.join(map(str, turn.ended))[:300]}")
        for one in found:
            yield Deviation(f"{where}: {one}", requirements=one.requirements)


@pytest.mark.drawn
@pytest.mark.requirement("OVL-PARALLEL-LINEAR", "OVL-PARALLEL-GET", "OVL-PARALLEL-DIFF")
@pytest.mark.parametrize("name", list(MEETINGS))
def test_a_call_in_the_middle_of_another(bench: Bench, name: str) -> None:
    with stage(bench, processes=False) as made:
        report(judged(bench, made, MEETINGS[name]))


@pytest.mark.drawn
@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
@pytest.mark.parametrize("name", list(MEETINGS))
def test_a_call_of_another_process_in_the_middle_of_one(bench: Bench, name: str) -> None:
    with stage(bench, processes=True) as made:
        report(judged(bench, made, MEETINGS[name]))
