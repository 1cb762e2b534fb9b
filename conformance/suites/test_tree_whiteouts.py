"""Deletions: what a whiteout and an opaque directory hide, and how a diff represents them."""

from __future__ import annotations

import pytest

from conformance.harness.assertions import nothing
from conformance.harness.bench import Bench
from conformance.harness.entries import entry_names, members
from conformance.history.findings import WrongAnswer
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.suites.whiteouts import deletes_what_is_gone


@pytest.mark.requirement("OVL-WHITEOUT-HIDES")
@pytest.mark.parametrize(
    "again",
    [
        ops.CreateFile(b"d", b"now a file", 0o644),
        ops.MakeDirectory(b"d", 0o700),
        ops.MakeSymlink(b"d", b"e"),
        ops.Rename(b"a", b"d"),
        None,
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_what_is_deleted_stays_deleted(bench: Bench, again: ops.Operation | None) -> None:
    """Deleted in one layer, made again in the next, looked at from above: nothing from the base comes back."""
    with bench.store() as store:
        ids = store.build(
            [STANDARD, [ops.RemoveTree(b"d")], [again] if again else [], [ops.MakeDirectory(b"x", 0o755)]]
        )
        for layer_id in ids:
            store.shows_model(layer_id)


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPAQUE-PRESERVED")
def test_a_directory_made_again_is_empty(bench: Bench) -> None:
    again: list[ops.Operation] = [
        ops.RemoveTree(b"d"),
        ops.MakeDirectory(b"d", 0o755),
        ops.CreateFile(b"d/new", b"new", 0o644),
    ]
    with bench.store("origin") as store, bench.store("copy") as copy:
        ids = store.build([STANDARD, again, [ops.MakeDirectory(b"d/d", 0o755)]])
        for layer_id in ids:
            store.shows_model(layer_id)
            copy.bring(store, layer_id)
            copy.shows_names(layer_id, store.expected(layer_id).nodes)


@pytest.mark.quick
@pytest.mark.requirement("OVL-WHITEOUT-IN-DIFF")
@pytest.mark.parametrize("path", [b"a", b"b", b"d/a", b"d/d/a", b"d/d"], ids=bytes.decode)
def test_a_deletion_is_named_by_its_path(bench: Bench, path: bytes) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.RemoveTree(path)]])
        names = set(entry_names(store.diff("layer-1")))
        deletes_what_is_gone("layer-1", names, store.expected("layer-0"), store.expected("layer-1"))


@pytest.mark.smoke
@pytest.mark.requirement("OVL-WHITEOUT-FORM")
def test_a_whiteout_is_an_empty_regular_file(bench: Bench) -> None:
    gone: list[ops.Operation] = [
        ops.Unlink(b"a"),
        ops.Unlink(b"b"),
        ops.RemoveTree(b"d/d"),
        ops.RemoveTree(b"e"),
        ops.MakeDirectory(b"e", 0o755),
    ]
    with bench.store() as store:
        store.build([STANDARD, gone])
        marks = [member for member in members(store.diff("layer-1")) if "/.wh." in f"/{member.name}"]
        wrong = [mark.name for mark in marks if not (mark.isreg() and mark.size == 0)]
        nothing("whiteouts in the diff of layer-1 that are no empty regular files", wrong)


@pytest.mark.quick
@pytest.mark.requirement("OVL-WHITEOUT-NEEDLESS")
def test_what_came_and_went_leaves_no_whiteout(bench: Bench) -> None:
    passing: list[ops.Operation] = [
        ops.CreateFile(b"new", b"new", 0o644),
        ops.Unlink(b"new"),
        ops.MakeDirectory(b"d/new", 0o755),
        ops.RemoveDirectory(b"d/new"),
        ops.CreateFile(b"e/x", b"x", 0o644),
        ops.Rename(b"e/x", b"e/y"),
    ]
    with bench.store() as store:
        store.build([STANDARD, passing])
        needless = [name for name in entry_names(store.diff("layer-1")) if "/.wh." in f"/{name}"]
        nothing("whiteouts in the diff of layer-1, which deletes nothing from below", needless, WrongAnswer())
