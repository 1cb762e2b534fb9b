"""Layers that are created and removed in any order: a parent is never removed below its children."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.bench import Bench
from conformance.history.calls import Create, Remove, Reopen
from conformance.suites.processes import opened

_IDS: Final = ("a", "b", "c", "d", "e")  # few, so that an id is taken again by another layer
_Step = tuple[str, int]


def _steps() -> st.SearchStrategy[list[_Step]]:
    """What is done, and a number that says with which layer."""
    what = st.sampled_from(("create", "create", "create", "remove", "remove", "reopen", "elsewhere"))
    return st.lists(st.tuples(what, st.integers(0, 9)), min_size=8, max_size=24)


@pytest.mark.requirement("OVL-LIFE-REMOVE-PARENT")
@given(data=st.data())
def test_no_order_of_removals_takes_a_parent_away(bench: Bench, data: st.DataObject) -> None:
    """What a driver remembers of who is built on whom stays true, also where another opening creates layers."""
    _does(bench, bench.draw(data, _steps()))


@pytest.mark.requirement("OVL-LIFE-REMOVE-PARENT")
def test_a_parent_stays_after_other_removals(bench: Bench) -> None:
    """A removal, children of one parent, and removals of some of them."""
    words = "create create remove:1 create create remove:0 remove:1 remove:0 remove:1 remove:0"
    steps = [one.partition(":") for one in words.split()]
    _does(bench, [(what, int(number or 0)) for what, _, number in steps])


def _does(bench: Bench, steps: Sequence[_Step]) -> None:
    """Do all of it; each removal of a layer that has children is refused, and any other is done."""
    parents: dict[str, str] = {}
    elsewhere = bench.has("processes") and bench.has("shared-home")
    with bench.store() as store:
        for what, number in steps:
            there = list(parents)
            free = [one for one in _IDS if one not in parents]
            if what == "reopen":
                store.do(Reopen())
            elif what == "remove" and there:
                layer_id = there[number % len(there)]
                if layer_id in parents.values():
                    store.refuses(Remove(layer_id))
                else:
                    store.do(Remove(layer_id))
                    del parents[layer_id]
            elif what in ("create", "elsewhere") and free:
                layer_id, parent = free[0], there[number % len(there)] if there else ""
                if what == "elsewhere" and elsewhere:
                    store.beyond(f"another opening of the home creates {layer_id} on {parent or 'nothing'}")
                    with opened(store) as other:
                        other.create(layer_id, parent)
                else:
                    store.do(Create(layer_id, parent))
                parents[layer_id] = parent
        store.confirms(*parents)
