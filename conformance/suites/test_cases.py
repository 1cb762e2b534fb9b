"""What one chain of layers shows, where it was made and where its diffs were applied."""

from __future__ import annotations

import pytest

from conformance import ops
from conformance.bench import Bench
from conformance.suites.cases import CASES, Case
from conformance.workbench import Deviation, same_tree


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case.requirement}-{case.name}", marks=pytest.mark.requirement(case.requirement))
        for case in CASES
    ],
)
def test_a_case_is_the_same_after_diff_and_apply(bench: Bench, case: Case) -> None:
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(case.chain):
            store.check_tree(layer_id)
            archive = store.diff(layer_id)
            copy.create(layer_id, store.parent_of(layer_id))
            copy.apply(layer_id, archive)
            times = "known" if case.times == "fine" else case.times
            expected = store.expected(layer_id).without_directory_times()
            same_tree(f"{layer_id} after diff and apply", expected, copy.observed(layer_id), times=times)


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
            if node.mtime_ns is not None and node.mtime_ns // 10**9 != second:
                raise Deviation(f"{path!r}: the time is {node.mtime_ns} ns after diff and apply, expected second {second}")
