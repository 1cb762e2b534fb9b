"""Calls in which one system call of the driver fails: what they report, and what they leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from conformance.drivers.protocol import DriverRefused
from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation
from conformance.history.trace import describe
from conformance.lab import namespace
from conformance.machines.failing import AGAIN, CALLS, LITTER, SHOWN, Failable, Scene, chosen
from conformance.machines.failing_openings import OPENING, Openings
from conformance.suites.failing import failing_at, report

_MORE = {"create": (SHOWN, LITTER), "apply": (LITTER,), "remove": (SHOWN, LITTER)}  # requirements of these calls
_EACH = 5  # examples for one opening, which takes as long
_KINDS = 8  # kinds of system calls for one example, where there is time for many
_NEEDS = ("diff", "changes", "diff-size")  # capabilities, which begin the names of their calls


@contextmanager
def scene(bench: Bench) -> Iterator[Scene]:
    """A store of a driver whose system calls can fail."""
    with failing_at(bench) as (store, files, failing):
        made = Scene(
            partial(bench.open_at, store, failing.prefix([store])),
            failing,
            files,
            partial(namespace.mounts_below, store),
        )
        try:
            yield made
        finally:
            made.leave()


def judged(bench: Bench, made: Scene, call: Failable) -> Iterator[Deviation]:
    """What is wrong after the call with some of its system calls failing, each in a turn of its own."""
    try:
        least = bench.examples * (_KINDS if bench.patient else 1)
        for outcome, found in made.judged(call, partial(chosen, least)):
            failed = f"EIO for {outcome.failed}" if outcome.failed else "no failure"
            where = f"'{describe(call)}', {failed} (system call {len(outcome.calls)})"
            said = f"refused: {outcome.refused}" if outcome.refused else "success"
            if outcome.crash and outcome.crash.alone:
                bench.record("a command whose system call fails", "crashes")
            bench.note(f"{where} -> {' '.join(said.split())[:300]}")
            for one in found:
                yield Deviation(f"{where}: {one}", requirements=one.requirements)
    except DriverRefused as refused:
        text = f"after calls with failing system calls, one without is refused: {refused}"
        yield Deviation(text, requirements=(AGAIN,))


@pytest.mark.drawn
@pytest.mark.requirement("OVL-FAILING-REPORTED", "OVL-FAILING-OTHERS", "OVL-FAILING-AGAIN")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.requirement(one) for one in _MORE.get(name, ())]) for name in CALLS],
)
def test_a_system_call_fails(bench: Bench, name: str) -> None:
    if (capability := name.removesuffix("-of-ancestor")) in _NEEDS:
        bench.need(capability)
    with scene(bench) as made:
        report(judged(bench, made, CALLS[name]))


@pytest.mark.drawn
@pytest.mark.requirement(OPENING)
@pytest.mark.parametrize("home", [pytest.param("new", marks=pytest.mark.release), "of-two-layers"])
def test_a_system_call_fails_while_a_home_is_opened(bench: Bench, home: str) -> None:
    with failing_at(bench) as (store, files, failing):
        openings = Openings(
            partial(bench.open_at, store, failing.prefix([store])),
            failing,
            files,
            partial(namespace.mounts_below, store),
        )
        if home != "new":
            openings.fill()
        report(of_openings(bench, openings))


def of_openings(bench: Bench, openings: Openings) -> Iterator[Deviation]:
    for opening, found in openings.judged(max(1, bench.examples // _EACH)):
        failed = f"EIO for {opening.counted.failed}" if opening.counted.failed else "no failure"
        where = f"an opening, {failed} (system call {len(opening.counted.calls)})"
        said = f"refused: {opening.refused}" if opening.refused else "success"
        bench.note(f"{where} -> {' '.join(said.split())[:300]}")
        for one in found:
            yield Deviation(f"{where}: {one}", requirements=one.requirements)
