"""Concurrent calls, and the search for an order that explains their outcomes.

A history is linearizable if there is an order of its calls that respects what really came before what, in
which each call has the outcome that it had (Herlihy and Wing 1990). Histories here are short, so all orders
are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from conformance.drivers.protocol import DriverRefused
from conformance.history.calls import Create, Get, Put, Remove
from conformance.history.concurrent import Call


@dataclass(frozen=True, slots=True)
class Record:
    """A call that was done or refused, between two ticks of a clock that all callers share."""

    call: Call
    done: bool
    began: int
    ended: int


CALLS: Final = st.builds(Call, st.sampled_from(("create", "remove", "use")), st.sampled_from(("x", "y")))


def perform_call(do: Callable[[Create | Remove | Get | Put], object], call: Call) -> bool:
    """Do a concurrent call; whether the driver did it."""
    try:
        match call.verb:
            case "create":
                do(Create(call.layer_id, "base"))
            case "remove":
                do(Remove(call.layer_id))
            case _:
                do(Get(call.layer_id))
                do(Put(call.layer_id))
    except DriverRefused:
        return False
    return True


def explained_by_an_order(records: Sequence[Record], before: frozenset[str], left: frozenset[str]) -> bool:
    """Whether some order of the calls, with the layers before, has these outcomes and leaves the others."""
    return _search(list(records), before, left)


def _search(todo: list[Record], layers: frozenset[str], left: frozenset[str]) -> bool:
    if not todo:
        return layers == left
    first_end = min(record.ended for record in todo)
    for record in todo:
        if record.began > first_end:  # another call had ended before this one began
            continue
        for after in _outcomes(record, layers):
            if _search([one for one in todo if one is not record], after, left):
                return True
    return False


def _outcomes(record: Record, layers: frozenset[str]) -> list[frozenset[str]]:
    """The layers after a call, if it may have the outcome that it had; nothing if it may not."""
    there = record.call.layer_id in layers
    match record.call.verb:
        case "create":
            allowed = record.done != there
            after = layers | {record.call.layer_id} if record.done else layers
        case "remove":
            # What is not there may be removed or refused; what is there may be in use by another call just now.
            allowed = True
            after = layers - {record.call.layer_id} if record.done else layers
        case _:
            # "use" is two calls; between them another may remove the layer, so that it may be refused too.
            allowed = there or not record.done
            after = layers
    return [after] if allowed else []
