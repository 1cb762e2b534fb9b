"""What one chain of layers shows, where it was made and where its diffs were applied."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from conformance.harness.assertions import nothing, same_field, same_tree
from conformance.harness.bench import Bench
from conformance.history.calls import Remove
from conformance.history.findings import WrongAnswer
from conformance.operations import ops
from conformance.operations.strategies import STANDARD
from conformance.suites.boundaries import BOUNDARIES
from conformance.suites.cases import CASES, Case, Layer
from conformance.suites.fewest import check_fewest


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.requirement}-{case.name}", marks=pytest.mark.requirement(case.requirement))
        for case in (*CASES, *BOUNDARIES)
    ],
)
def test_a_case_is_the_same_after_diff_and_apply(bench: Bench, case: Case) -> None:
    chain = case.chain if bench.privileged else without_owners(case.chain)
    times = "known" if case.times == "fine" else case.times
    check_fewest(
        bench, chain, lambda fewer: _is_the_same_after_diff_and_apply(bench, fewer, times, case.requirement)
    )


def _is_the_same_after_diff_and_apply(bench: Bench, chain: Sequence[Layer], times: str, requirement: str) -> None:
    links = bench.has("lower-links")
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            store.shows_model(layer_id)
            archive = store.diff(layer_id)
            copy.create(layer_id, store.parent_of(layer_id))
            copy.apply(layer_id, archive)
            expected, found = store.expected(layer_id).without_directory_times(), copy.observed(layer_id)
            same_tree(
                f"{layer_id} after diff and apply", expected, found, times=times, links=links, times_of=requirement
            )


def without_owners(chain: Sequence[Layer]) -> list[Layer]:
    """The chain as it can be made in a user namespace."""
    return [tuple(one for one in layer if not isinstance(one, ops.Chown)) for layer in chain]


@pytest.mark.quick
@pytest.mark.requirement("OVL-META-TIMES-DOWN")
def test_times_are_cut_and_not_rounded(bench: Bench) -> None:
    second = 1_400_000_000
    chain = [
        operation
        for fraction in (0, 400_000_000, 500_000_000, 999_999_999)
        for operation in (
            ops.CreateFile(b"%d" % fraction, b"", 0o644),
            ops.SetTimes(b"%d" % fraction, second * 10**9 + fraction),
        )
    ]
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.build([chain])
        copy.create("layer-0")
        copy.apply("layer-0", store.diff("layer-0"))
        for path, node in copy.observed("layer-0").nodes.items():
            if node.mtime_ns is not None:
                found = f"in second {node.mtime_ns // 10**9}"
                same_field(path, "mtime", found, (second * 10**9, False), f"in second {second}")


@pytest.mark.requirement("OVL-NAMES-WHITEOUT-PREFIX")
@pytest.mark.parametrize("name", [b".wh.a", b"d/.wh.a", b".wh..wh..opq", b"d/.wh..wh..opq"])
def test_a_file_called_like_a_whiteout_deletes_nothing(bench: Bench, name: bytes) -> None:
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.build([STANDARD, [ops.CreateFile(name, b"not a whiteout", 0o644)]])
        for layer_id in ("layer-0", "layer-1"):
            archive = store.may_diff(layer_id)
            if archive is None:
                return
            copy.create(layer_id, store.parent_of(layer_id))
            copy.apply(layer_id, archive)
        lost = store.observed("layer-0").nodes.keys() - copy.observed("layer-1").nodes.keys()
        nothing(f"paths that a file called {name!r} deleted on its way through diff and apply", lost, WrongAnswer())


@pytest.mark.requirement("OVL-NAMES-LAYER-IDS")
@pytest.mark.parametrize("layer_id", ["x", "0" * 64, "abc_DEF-1.2", "f" * 63 + "x"])
def test_ids_of_any_length(bench: Bench, layer_id: str) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        store.create(layer_id, "layer-0")
        store.change(layer_id, [ops.Unlink(b"a")])
        store.shows_model(layer_id)
        store.do(Remove(layer_id))
