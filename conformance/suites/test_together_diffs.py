"""Diffs, changes and sizes of one layer beside each other, and beside its gets and puts.

Against an ancestor, a driver may read a layer through a mount that it makes for this, which others may end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import pytest

from conformance.harness.assertions import equal, same_entries
from conformance.harness.bench import Bench, Store
from conformance.harness.entries import content_of
from conformance.history.calls import Call, Changes, Diff, DiffSize, Get, Put
from conformance.history.trace import describe
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.suites.callers import all_done, together
from conformance.suites.mounts import nothing_mounted, tree_stays

_CALLERS: Final = 2
_ROUNDS: Final = 5
_USES: Final = 10  # gets and puts beside a diff
_LARGE: Final = 8 << 20  # bytes of a hole: a diff has not ended when the others begin


@pytest.mark.requirement("OVL-PARALLEL-DIFF")
@pytest.mark.parametrize("beside", ["diffs", "gets-and-puts"])
@pytest.mark.parametrize("parent", ["layer-1", "layer-0"], ids=["parent", "ancestor"])
def test_what_is_asked_of_one_layer_by_several_is_what_one_is_told(bench: Bench, parent: str, beside: str) -> None:
    bench.need("diff")
    with bench.store() as store:
        store.build(
            [
                STANDARD,
                [ops.Chmod(b"a", 0o600)],
                [
                    ops.RemoveTree(b"d"),
                    ops.CreateFile(b"new", b"", 0o644),
                    ops.Truncate(b"new", _LARGE),
                    ops.CreateFile(b"last", b"last", 0o644),
                ],
            ]
        )
        alone = content_of(store.diff("layer-2", parent))
        calls: dict[str, Call] = {"changes": Changes("layer-2", parent), "diff-size": DiffSize("layer-2", parent)}
        asked = [call for capability, call in calls.items() if bench.has(capability)]
        answers = [_in_any_order(store.do(call)) for call in asked]
        files = [store.directory / f"beside-{number}.tar" for number in range(_CALLERS)]
        diffs = [functools.partial(store.do, Diff("layer-2", parent, store.label(file))) for file in files]
        others: list[Callable[[], Any]] = [functools.partial(store.do, call) for call in asked]
        used = [functools.partial(_use, store)] * (beside == "gets-and-puts")
        for _ in range(_ROUNDS if bench.patient else 1):
            store.note(f"{len(diffs)} concurrent callers write a diff of layer-2 against {parent}, beside {beside}")
            outcomes = together([*diffs, *others, *used])
            all_done(outcomes, f"diff, beside {beside}")
            for _ in range(sum(outcomes[len(diffs) + len(others) :])):
                store.may_refuse(Put("layer-2"))  # the refused one may have been counted
            for file in files:
                same_entries(f"the diff of layer-2, written beside {beside},", alone, content_of(file))
            for call, answer, outcome in zip(asked, answers, outcomes[len(diffs) :], strict=False):
                equal(f"the answer to '{describe(call)}', beside {beside}", _in_any_order(outcome), answer)
        nothing_mounted(store, "after the last put")


def _use(store: Store) -> int:
    """Get and put the layer; how many puts were refused, as a driver may do while the tree is in use."""
    refused = 0
    for _ in range(_USES):
        tree_stays(store.do(Get("layer-2")), "of a layer whose diff is being written")
        refused += store.may_refuse(Put("layer-2")) is not None
    return refused


def _in_any_order(answer: object) -> object:
    return sorted(map(str, answer)) if isinstance(answer, list) else answer
