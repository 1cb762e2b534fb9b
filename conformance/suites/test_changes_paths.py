"""Changes against a twin of the parent and against a layer further below, and sizes against any of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from conformance.harness.assertions import equal
from conformance.harness.bench import Bench
from conformance.harness.entries import members
from conformance.history.calls import DiffSize
from conformance.history.findings import WrongAnswer
from conformance.suites.carrying import without_owners
from conformance.suites.cases import Layer
from conformance.suites.changes import changes_of, explain
from conformance.suites.fewest import check_fewest
from conformance.suites.held import held
from conformance.suites.paths import DIFFERENCES, WAYS, build_ways


@pytest.mark.requirement("OVL-CHANGES-ANCESTOR")
@pytest.mark.parametrize("what", DIFFERENCES)
def test_changes_explain_a_difference_in_every_way(bench: Bench, what: str) -> None:
    check_fewest(bench, _chain(bench, what), lambda fewer: _explain(bench, fewer))


@pytest.mark.requirement("OVL-SIZE-DIFF")
def test_sizes_are_those_of_a_diff_in_every_way(bench: Bench) -> None:
    bench.need("diff")
    check_fewest(bench, _chain(bench, "links"), lambda fewer: _size(bench, fewer))


def _chain(bench: Bench, what: str) -> Sequence[Layer]:
    chain: Sequence[Layer] = DIFFERENCES[what]
    return held(bench, chain if bench.privileged else without_owners(chain))


def _explain(bench: Bench, chain: Sequence[Layer]) -> None:
    """Changes against the parent are those of OVL-CHANGES-EXPLAIN, which has cases of its own."""
    with bench.store() as store:
        build_ways(store, chain[0], chain[-1] if len(chain) > 1 else ())
        for way in (one for one in WAYS if one.compared):
            before, after = store.observed(way.against), store.observed(way.layer)
            changes = changes_of(store, way.layer, way.against)
            explain(way.layer, before, after, changes, exactly=True)


def _size(bench: Bench, chain: Sequence[Layer]) -> None:
    with bench.store() as store:
        build_ways(store, chain[0], chain[-1] if len(chain) > 1 else ())
        for way in WAYS:
            entries = members(store.diff(way.layer, way.against))
            brought = sum(one.size for one in entries if one.isreg())
            brought += sum(len(os.fsencode(one.linkname)) for one in entries if one.issym())
            said = store.do(DiffSize(way.layer, way.against))
            equal(f"the size of the diff of {way.layer} against {way.name}", said, brought, WrongAnswer())
