"""Diffs against the parent, against a twin of it, and against a layer further below, which bring the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench
from conformance.harness.deviation import charged_to
from conformance.suites.carrying import without_owners
from conformance.suites.cases import Layer
from conformance.suites.comparable import brought, with_new_links
from conformance.suites.fewest import check_fewest
from conformance.suites.held import held
from conformance.suites.paths import DIFFERENCES, WAYS, build_ways


@pytest.mark.requirement("OVL-DIFF-NATIVE-NAIVE", "OVL-DIFF-ANCESTOR")
@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_difference_is_the_same_in_every_way(bench: Bench, what: str) -> None:
    chain: Sequence[Layer] = DIFFERENCES[what]
    chain = held(bench, chain if bench.privileged else without_owners(chain))
    check_fewest(bench, chain, lambda fewer: _is_the_same_in_every_way(bench, fewer))


def _is_the_same_in_every_way(bench: Bench, chain: Sequence[Layer]) -> None:
    times = "known" if bench.has("fine-times") else "files"
    with bench.store("origin") as store, bench.store("copy") as copy:
        build_ways(store, chain[0], chain[-1] if len(chain) > 1 else ())
        copy.bring(store, "parent")
        for number, way in enumerate(WAYS):
            before = store.observed(way.against)
            expected = brought(before, store.shows_model(way.layer))
            copy.create(f"copy-{number}", "parent")
            copy.apply(f"copy-{number}", store.diff(way.layer, way.against))
            found = copy.observed(f"copy-{number}")
            if way.compared and not bench.has("compared-links"):
                expected, found = with_new_links(before, expected), with_new_links(before, found)
            with charged_to("OVL-DIFF-NATIVE-NAIVE" if way.against == "twin" else "OVL-DIFF-ANCESTOR"):
                same_tree(
                    f"a diff against {way.name}, applied,",
                    expected,
                    found,
                    times=times,
                    links=way.compared or bench.has("lower-links"),
                )
