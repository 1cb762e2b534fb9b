"""Calls of a driver that meet, and the orders that explain how they ended.

Two calls, one of which was done in the middle of the other, are linearizable if their outcomes are those of one
after the other (conformance.machines.parallel). What one of them has in use, the other may be refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from conformance.drivers.protocol import DriverRefused
from conformance.history.calls import ApplyDiff, Create, Diff, Get, Put, Remove
from conformance.history.trace import describe as describe_call

ANCESTOR, PARENT, LAYER, CHILD, OTHER = (f"layer-{number}" for number in range(5))


@dataclass(frozen=True, slots=True)
class Open:
    """Open the home once more, and leave it: no call of an opening."""


Held = Create | ApplyDiff | Remove | Get | Put | Diff
Beside = Held | Open

FILL: Final = ApplyDiff(LAYER, PARENT, f"{LAYER}.tar")
CREATE: Final = Create(CHILD, LAYER)
APPLY: Final = ApplyDiff(CHILD, LAYER, f"{CHILD}.tar")
DIFF: Final = Diff(LAYER, PARENT, "held.tar")
DIFF_OF_ANCESTOR: Final = Diff(LAYER, ANCESTOR, "held.tar")
DIFF_OF_CHILD: Final = Diff(CHILD, PARENT, "held.tar")
DIFFS: Final = (replace(DIFF, archive="beside.tar"), replace(DIFF_OF_ANCESTOR, archive="beside.tar"))
_USERS: Final = (Get(LAYER), *DIFFS, Create(OTHER, LAYER), Open())


@dataclass(frozen=True, slots=True)
class Meeting:
    """A call that waits in its middle, and those that are done then.

    ``child`` says whether the layer on the others is there before, without content, and ``gets`` how often the
    layer below it has been got.
    """

    held: Held
    beside: tuple[Beside, ...]
    child: bool = False
    gets: int = 0


MEETINGS: Final[Mapping[str, tuple[Meeting, ...]]] = {
    "create": (
        Meeting(CREATE, (CREATE, Remove(CHILD), Get(CHILD), *_USERS)),
        Meeting(CREATE, (Remove(LAYER),)),
    ),
    "apply": (
        Meeting(APPLY, (Remove(LAYER), *_USERS), child=True),
        Meeting(APPLY, (Remove(CHILD),), child=True),
        Meeting(APPLY, (Get(CHILD),), child=True),
    ),
    "remove": (
        Meeting(Remove(LAYER), (Remove(LAYER), *_USERS)),
        Meeting(Remove(CHILD), (Remove(LAYER), CREATE, *_USERS), child=True),
        Meeting(Remove(LAYER), (CREATE,)),
        Meeting(Remove(LAYER), (DIFFS[1],)),
    ),
    "get": (
        Meeting(Get(LAYER), _USERS),
        Meeting(Get(LAYER), (Put(LAYER), *_USERS), gets=1),
        Meeting(Get(LAYER), (Remove(LAYER),)),
    ),
    "put": (
        Meeting(Put(LAYER), (Remove(LAYER), *_USERS), gets=1),
        Meeting(Put(LAYER), (Put(LAYER), *_USERS), gets=2),
    ),
    "diff": (
        Meeting(DIFF, (Put(LAYER), *_USERS), gets=1),
        Meeting(DIFF, (Remove(LAYER),)),
        Meeting(DIFF_OF_CHILD, (APPLY,), child=True),
    ),
    "diff-of-ancestor": (
        Meeting(DIFF_OF_ANCESTOR, _USERS),
        Meeting(DIFF_OF_ANCESTOR, (Put(LAYER), *_USERS), gets=1),
        Meeting(DIFF_OF_ANCESTOR, (Remove(LAYER),)),
    ),
}
"""The meetings of each call that waits. Some are with one call only, which contradicts it at few moments."""


@dataclass(frozen=True, slots=True)
class World:
    """The layers that there are, whether the archive filled the child, and the layers of the gets without a put.

    A removal takes the gets of its layer with it.
    """

    layers: frozenset[str]
    filled: bool
    gets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended: its answer, or what it was refused with."""

    call: Beside
    answer: object

    @property
    def refused(self) -> DriverRefused | None:
        """The refusal, if it was one."""
        return self.answer if isinstance(self.answer, DriverRefused) else None

    def __str__(self) -> str:
        said = f"refused: {' '.join(str(self.answer).split())}" if self.refused else "success"
        return f"'{describe(self.call)}' -> {said}"


def describe(call: Beside) -> str:
    """A call in words."""
    return "open the home, and leave it" if isinstance(call, Open) else describe_call(call)


def worlds_of(ended: Sequence[Ended], before: World, *, fills_used: bool) -> list[World]:
    """What the calls leave in each order that explains how they ended.

    ``fills_used`` says that an archive is applied to what was got, too.
    """
    found = []
    for order in itertools.permutations(ended):
        worlds = [before]
        for one in order:
            others = [other.call for other in ended if other is not one]
            worlds = [after for world in worlds if (after := _after(one, others, world, fills_used))]
        found += worlds
    return found


def _after(one: Ended, others: Sequence[Beside], world: World, fills_used: bool) -> World | None:
    """What a call leaves that ended so, None if it cannot end so."""
    call, layers = one.call, world.layers
    if one.refused:
        return world if _may_be_refused(call, others, world) else None
    match call:
        case Create():
            fits = call.layer not in layers and call.parent in layers
            return replace(world, layers=layers | {call.layer}) if fits else None
        case Remove():
            built_on = call.layer == LAYER and layers & {CHILD, OTHER}
            gets = tuple(one for one in world.gets if one != call.layer)
            return None if built_on else replace(world, layers=layers - {call.layer}, gets=gets)
        case ApplyDiff():
            fits = call.layer in layers and (fills_used or call.layer not in world.gets)
            return replace(world, filled=True) if fits else None
        case Get():
            return replace(world, gets=(*world.gets, call.layer)) if call.layer in layers else None
        case Put():
            left = list(world.gets)
            if call.layer in left:
                left.remove(call.layer)
            return replace(world, gets=tuple(left))
        case Diff():
            return world if call.layer in layers else None
        case Open():
            return world
        case _:
            assert_never(call)


def _may_be_refused(call: Beside, others: Sequence[Beside], world: World) -> bool:
    """Whether a call may be refused in a world, or because of others, which may have in use what it needs."""
    match call:
        case Open():
            return False
        case Remove():
            return True
        case Put():
            return call.layer not in world.gets or any(isinstance(one, Diff | Remove) for one in others)
        case Create():
            needed = {call.layer, call.parent}
            absent = call.layer in world.layers or call.parent not in world.layers
        case ApplyDiff():
            return call.layer not in world.layers or any(call.layer in _touched(one) for one in others)
        case Get() | Diff():
            needed = {call.layer}
            absent = call.layer not in world.layers
        case _:
            assert_never(call)
    in_use = any(isinstance(one, Remove | ApplyDiff) and one.layer in needed for one in others)
    return absent or in_use


def _touched(call: Beside) -> frozenset[str]:
    """The layers that a call is about."""
    match call:
        case Open():
            return frozenset()
        case Create() | ApplyDiff() | Diff():
            return frozenset((call.layer, call.parent))
        case Remove() | Get() | Put():
            return frozenset((call.layer,))
        case _:
            assert_never(call)
