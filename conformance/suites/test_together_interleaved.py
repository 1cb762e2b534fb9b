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
from conformance.machines.meetings import MEETINGS, describe
from conformance.suites.failing import failing_at, report

_EACH = 5  # examples for one turn
_AGAINST = 10  # times as many turns with a call that contradicts the other, where there is time for many, ...
_OF_PROCESSES = 4  # ... and for those of another process, which are held apart by fewer locks


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
            starts=not bench.patient,
        )
        try:
            yield made
        finally:
            made.leave()


def judged(bench: Bench, name: str, against: int, *, processes: bool = False) -> Iterator[Deviation]:
    """What is wrong after other calls were done in the middle of this one, each in a turn of its own.

    There are ``against`` times as many turns with the only call that a meeting has.
    """
    few = -(-bench.examples // _EACH)
    with stage(bench, processes=processes) as made:
        for meeting in MEETINGS[name]:
            most = few * (against if bench.patient and len(meeting.beside) == 1 else 1)
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
    report(judged(bench, name, _AGAINST))


@pytest.mark.drawn
@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
@pytest.mark.parametrize("name", list(MEETINGS))
def test_a_call_of_another_process_in_the_middle_of_one(bench: Bench, name: str) -> None:
    report(judged(bench, name, _OF_PROCESSES, processes=True))
