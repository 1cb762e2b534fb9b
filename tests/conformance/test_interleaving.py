"""Calls that meet: which orders explain how they ended, and in which of their moments they are made to meet."""

from __future__ import annotations

import pytest

from conformance.drivers.protocol import DriverRefused
from conformance.history.calls import Get, Put, Remove
from conformance.machines.interleaving import drawn
from conformance.machines.meetings import (
    APPLY,
    CHILD,
    CREATE,
    DIFF,
    LAYER,
    MEETINGS,
    Beside,
    Ended,
    Open,
    World,
    describe,
    worlds_of,
)

THREE = frozenset(("layer-0", "layer-1", LAYER))
BEFORE = World(THREE, False, ())
WITH_CHILD = World(THREE | {CHILD}, False, ())
GOT = World(THREE, False, (LAYER,))


def orders(before: World, *calls: tuple[Beside, bool], fills_used: bool = False) -> list[tuple[int, bool, int]]:
    """For each order that explains the calls: how many layers it leaves, whether the child is filled, and gets."""
    ended = [Ended(call, "/root" if done else DriverRefused("no")) for call, done in calls]
    found = worlds_of(ended, before, fills_used=fills_used)
    return sorted({(len(world.layers), world.filled, len(world.gets)) for world in found})


@pytest.mark.parametrize(
    ("before", "calls", "left"),
    [
        (BEFORE, [(CREATE, True), (Remove(LAYER), True)], []),
        (BEFORE, [(CREATE, True), (Remove(LAYER), False)], [(4, False, 0)]),
        (BEFORE, [(CREATE, False), (Remove(LAYER), True)], [(2, False, 0)]),
        (BEFORE, [(CREATE, True), (CREATE, True)], []),
        (BEFORE, [(CREATE, True), (CREATE, False)], [(4, False, 0)]),
        (BEFORE, [(CREATE, False), (CREATE, False)], []),
        (BEFORE, [(CREATE, True), (Get(CHILD), True)], [(4, False, 1)]),
        (BEFORE, [(CREATE, True), (Remove(CHILD), True)], [(3, False, 0), (4, False, 0)]),
        (BEFORE, [(Get(LAYER), True), (Remove(LAYER), True)], [(2, False, 0)]),
        (BEFORE, [(DIFF, False), (Remove(LAYER), False)], [(3, False, 0)]),
        (BEFORE, [(DIFF, False), (Get(LAYER), True)], []),
        (BEFORE, [(DIFF, True), (Open(), False)], []),
        (GOT, [(Get(LAYER), True), (Put(LAYER), True)], [(3, False, 1)]),
        (GOT, [(Put(LAYER), False), (Get(LAYER), True)], []),
        (GOT, [(Put(LAYER), False), (DIFF, True)], [(3, False, 1)]),
        (WITH_CHILD, [(APPLY, True), (Remove(CHILD), True)], [(3, True, 0)]),
        (WITH_CHILD, [(Remove(CHILD), True), (Get(LAYER), True)], [(3, False, 1)]),
        (WITH_CHILD, [(APPLY, False), (Open(), True)], []),
        (WITH_CHILD, [(APPLY, True), (Get(CHILD), True)], [(4, True, 1)]),
    ],
)
def test_an_order_explains_two_calls(
    before: World, calls: list[tuple[Beside, bool]], left: list[tuple[int, bool, int]]
) -> None:
    assert orders(before, *calls) == left


def test_what_fills_a_layer_that_was_got_may_come_second() -> None:
    ended = [Ended(APPLY, None), Ended(Get(CHILD), "/root")]
    assert len(worlds_of(ended, WITH_CHILD, fills_used=False)) == 1
    assert len(worlds_of(ended, WITH_CHILD, fills_used=True)) == 2


def test_each_kind_of_moment_comes_before_one_comes_twice() -> None:
    calls = ["read of /h/a", "openat of /h/a", "getdents64 of /h", "getdents64 of /h", "mount of /h/m"]
    for _ in range(20):
        found = drawn(9, [Remove(LAYER), Open()], calls)
        assert sorted(number for number, _ in found[:3]) == [2, 3, 5]
        assert found[3][0] == 1
        assert [beside for _, beside in found[:3]] == [Remove(LAYER), Open(), Remove(LAYER)]
        assert len(found) == 9
    assert drawn(9, [Open()], []) == []


def test_every_call_that_meets_others_has_words() -> None:
    said = {
        describe(call) for some in MEETINGS.values() for meeting in some for call in (meeting.held, *meeting.beside)
    }
    assert "open the home, and leave it" in said
    assert len(said) > 8
