"""Changes against a twin of the parent and against a layer further below, and sizes against any of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from conformance.harness.assertions import equal, nothing, size_of_diff
from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation
from conformance.harness.entries import members
from conformance.harness.skips import not_applicable
from conformance.history.calls import Changes, Create, DiffSize
from conformance.history.findings import WrongAnswer, WrongOutcome
from conformance.operations import ops
from conformance.suites.carrying import without_owners
from conformance.suites.cases import Layer
from conformance.suites.changes import changes_of, explain
from conformance.suites.fewest import check_fewest
from conformance.suites.held import held
from conformance.suites.paths import DIFFERENCES, WAYS, build_ways

_PATH_MAX = 4096  # bytes, with the one of zero at the end
_LONG = 240  # bytes of a name


@pytest.mark.requirement("OVL-CHANGES-ANCESTOR")
@pytest.mark.parametrize("what", DIFFERENCES)
def test_changes_explain_a_difference_in_every_way(bench: Bench, what: str) -> None:
    check_fewest(bench, _chain(bench, what), lambda fewer: _explain(bench, fewer))


@pytest.mark.requirement("OVL-SIZE-DIFF")
def test_sizes_are_those_of_a_diff_in_every_way(bench: Bench) -> None:
    bench.need("diff")
    check_fewest(bench, _chain(bench, "links"), lambda fewer: _size(bench, fewer))


def _deep(names: int, last: int) -> tuple[Layer, Layer]:
    """Directories with long names in one another, and a file with two names at their end; then both change."""
    made: list[ops.Operation] = []
    path = b""
    for _ in range(names):
        path += b"/" * bool(path) + b"n" * _LONG
        made.append(ops.MakeDirectory(path, 0o755))
    path += b"/" + b"e" * last
    return (*made, ops.CreateFile(b"x", b"x", 0o644)), (
        ops.CreateFile(path, b"new", 0o644),
        ops.MakeHardLink(path[:-1] + b"l", path),
    )


@pytest.mark.parametrize(
    "requirement",
    [
        pytest.param(one, marks=pytest.mark.requirement(one))
        for one in ("OVL-CHANGES-EXPLAIN", "OVL-CHANGES-ANCESTOR", "OVL-SIZE-DIFF")
    ],
)
@pytest.mark.parametrize("beyond", ["each of the trees", "one of the trees"])
def test_paths_longer_than_the_kernel_takes_are_told_or_refused(
    bench: Bench, beyond: str, requirement: str
) -> None:
    """A path in a layer may be longer than PATH_MAX, or be so below the path of the layer (path_resolution(7)).

    The kernel's overlay holds such paths; a filesystem in a process that looks up whole paths does not.
    """
    bench.need("diff-size" if requirement == "OVL-SIZE-DIFF" else "changes")
    with bench.store() as store:
        # The longer id makes the path of the one tree longer than that of the other.
        parent = "p" * 200
        names, last = divmod(_PATH_MAX + 500, _LONG + 1)
        if beyond == "one of the trees":
            names, last = divmod(_PATH_MAX - len(f"{store.home}/above/merged/") - 100, _LONG + 1)
        below, change = _deep(names, last)
        store.create(parent)
        try:
            store.change(parent, below)
        except Deviation as deviation:
            if not isinstance(deviation.finding, WrongOutcome):
                raise
            not_applicable(f"no layer of this driver holds such a path: {deviation}")
        # A driver that copies its parent may refuse to, as no process looks up such a path at once.
        if store.may_refuse(Create("direct", parent)) is not None:
            return
        store.change("direct", change)
        store.create("above", store.create("between", parent))
        store.change("above", change)
        path = change[0].path
        expected = {path, change[1].path}
        asked = {"OVL-CHANGES-EXPLAIN": ("direct",), "OVL-CHANGES-ANCESTOR": ("above",)}.get(requirement)
        for layer_id in asked or ():
            if store.may_refuse(Changes(layer_id, parent)) is None:
                found = changes_of(store, layer_id, parent)
                added = {one for one, kind in found.items() if kind == "add"}
                nothing("additions that the changes lack, or have too many", len(added ^ expected), WrongAnswer())
        for layer_id in ("direct", "above") if asked is None else ():
            if store.may_refuse(DiffSize(layer_id, parent)) is None:
                said = store.do(DiffSize(layer_id, parent))
                equal(f"the size of {layer_id}", said, len(b"new"), WrongAnswer())


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
            size_of_diff(f"{way.layer} against {way.name}", said, brought)
