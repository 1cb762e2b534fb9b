"""Chains of layers, where they were made and where their diffs were applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench
from conformance.operations import ops
from conformance.suites.boundaries import BOUNDARIES
from conformance.suites.cases import CASES, Case, Layer
from conformance.suites.fewest import check_fewest
from conformance.suites.held import held
from conformance.suites.lattice import LATTICE


def cases_of(*families: str) -> list[Any]:
    """The cases whose requirements begin with one of these, as parameters of a test."""
    return [
        pytest.param(case, id=f"{case.requirement}-{case.name}", marks=pytest.mark.requirement(case.requirement))
        for case in (*CASES, *BOUNDARIES, *LATTICE)
        if case.requirement.startswith(families)
    ]


def is_the_same_after_diff_and_apply(bench: Bench, case: Case) -> None:
    """Each layer of a case shows the same where it was made and in a copy; raises Deviation."""
    chain: Sequence[Layer] = case.chain if bench.privileged else without_owners(case.chain)
    if case.held:
        chain = held(bench, chain)
    times = "known" if case.times == "fine" else case.times
    check_fewest(bench, chain, lambda fewer: _is_the_same(bench, fewer, times, case.requirement))


def _is_the_same(bench: Bench, chain: Sequence[Layer], times: str, requirement: str) -> None:
    links = bench.has("lower-links")
    with bench.store("origin") as store, bench.store("copy") as other:
        copy = other if bench.has("writable-layers") else store  # which was filled by archives as the copy would be
        for layer_id in store.build(chain):
            store.shows_model(layer_id)
            if copy is not store:
                copy.bring(store, layer_id)
            expected, found = store.expected(layer_id).without_directory_times(), copy.observed(layer_id)
            same_tree(
                f"{layer_id} after diff and apply", expected, found, times=times, links=links, times_of=requirement
            )


def without_owners(chain: Sequence[Layer]) -> list[Layer]:
    """The chain as it can be made in a user namespace."""
    return [tuple(one for one in layer if not isinstance(one, ops.Chown)) for layer in chain]
