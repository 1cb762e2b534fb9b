"""What becomes of diffs when they are applied elsewhere: the same trees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import names_of_diff, nothing, same_tree
from conformance.harness.bench import Bench
from conformance.harness.entries import entry_names
from conformance.history.findings import TreeDiffers
from conformance.operations import ops
from conformance.operations.comparing import compared
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import chains
from conformance.suites.carrying import cases_of, is_the_same_after_diff_and_apply
from conformance.suites.cases import Case
from conformance.suites.fewest import check_fewest


@pytest.mark.requirement("OVL-APPLY-ROUND-TRIP")
@given(data=st.data())
def test_a_chain_survives_diff_and_apply(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            copy.bring(store, layer_id)
            original = store.shows_model(layer_id)
            links = bench.has("lower-links")
            same_tree(
                f"{layer_id} after diff and apply", original, copy.observed(layer_id), times="none", links=links
            )


@pytest.mark.requirement("OVL-APPLY-FILE-TIMES")
@given(data=st.data())
def test_times_of_files_survive_diff_and_apply(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            copy.bring(store, layer_id)
            original, copied = store.observed(layer_id), copy.observed(layer_id)
            wrong = [one for one in compared(original, copied, times="files") if one.what == "mtime"]
            finding = TreeDiffers(tuple(wrong), original, copied)
            what = f"files of {layer_id} with another modification time after diff and apply"
            nothing(what, [one.text for one in wrong], finding)


@pytest.mark.parametrize("case", cases_of("OVL-APPLY-"))
def test_a_case_is_the_same_after_diff_and_apply(bench: Bench, case: Case) -> None:
    is_the_same_after_diff_and_apply(bench, case)


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-HARD-LINKS")
def test_hard_links_of_a_layer_survive(bench: Bench) -> None:
    linked: tuple[ops.Operation, ...] = (
        ops.CreateFile(b"new", b"new", 0o644),
        ops.MakeHardLink(b"d/same", b"new"),
        ops.MakeHardLink(b"and again", b"new"),
        ops.MakeSymlink(b"symlink", b"missing"),
        ops.MakeHardLink(b"same symlink", b"symlink"),
        ops.MakeFifo(b"fifo", 0o600),
        ops.MakeHardLink(b"same fifo", b"fifo"),
    )
    check_fewest(bench, [STANDARD, linked], lambda chain: keeps_its_links(bench, chain))


def keeps_its_links(bench: Bench, chain: Sequence[Iterable[ops.Operation]]) -> None:
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            copy.bring(store, layer_id)
            same_tree(
                f"{layer_id} after diff and apply",
                store.shows_model(layer_id),
                copy.observed(layer_id),
                times="none",
            )


@pytest.mark.requirement("OVL-APPLY-LOWER-LINKS")
def test_a_second_name_of_a_lower_file_is_a_link(bench: Bench) -> None:
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build([STANDARD, [ops.MakeHardLink(b"second name", b"a")]]):
            copy.bring(store, layer_id)
        same_tree(
            "layer-1 after diff and apply", store.shows_model("layer-1"), copy.observed("layer-1"), times="none"
        )


@pytest.mark.requirement("OVL-APPLY-WHOLE-TREE")
@given(data=st.data())
def test_a_whole_tree_survives_diff_and_apply(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store("origin") as store, bench.store("copy") as copy:
        top = store.build(chain)[-1]
        archive = store.diff(top, "")
        copy.create("flat")
        copy.apply("flat", archive)
        same_tree(f"the whole tree of {top}", store.observed(top), copy.observed("flat"), times="files")


@pytest.mark.requirement("OVL-APPLY-TWICE")
@given(data=st.data())
def test_applying_twice_is_applying_once(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged, least=2))
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            archive = copy.bring(store, layer_id)
            once = copy.observed(layer_id)
            copy.apply(layer_id, archive)
            same_tree(f"{layer_id}, applied twice,", once, copy.observed(layer_id), times="files")


_TWICE: dict[str, tuple[ops.Operation, ...]] = {
    "deletions": (ops.Unlink(b"a"), ops.Unlink(b"d/d/a"), ops.RemoveTree(b"e")),
    "a-directory-made-again": (
        ops.RemoveTree(b"d"),
        ops.MakeDirectory(b"d", 0o755),
        ops.CreateFile(b"d/new", b"", 0o644),
    ),
    "links": (
        ops.CreateFile(b"new", b"new", 0o644),
        ops.MakeHardLink(b"d/new", b"new"),
        ops.MakeSymlink(b"s", b"a"),
    ),
    "other-kinds": (ops.MakeFifo(b"fifo", 0o600), ops.Unlink(b"a"), ops.MakeDirectory(b"a", 0o700)),
}


@pytest.mark.requirement("OVL-APPLY-TWICE")
@pytest.mark.parametrize("what", _TWICE)
def test_applying_twice_is_applying_once_of(bench: Bench, what: str) -> None:
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build([STANDARD, _TWICE[what]]):
            archive = copy.bring(store, layer_id)
            once = copy.observed(layer_id)
            copy.apply(layer_id, archive)
            same_tree(f"{layer_id}, applied twice,", once, copy.observed(layer_id), times="files")


@pytest.mark.requirement("OVL-APPLY-SECOND-DIFF")
@given(data=st.data())
def test_the_diff_of_what_was_applied_names_the_same(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            archive = copy.bring(store, layer_id)
            first, second = named(entry_names(archive)), named(entry_names(copy.diff(layer_id)))
            names_of_diff(f"{layer_id} in the copy", second, first)


def named(names: list[str]) -> set[str]:
    """The names that an archive brings; how it says that a directory is opaque is the driver's choice."""
    return {name for name in names if ".wh." not in name}
