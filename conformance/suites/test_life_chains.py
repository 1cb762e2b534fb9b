"""Long chains: 128 lowers, and not one more."""

from __future__ import annotations

import pytest

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import charged_to
from conformance.history.calls import Create, Remove, Reopen
from conformance.operations import ops
from conformance.suites.homes import unchanged_on_disk

_LAYERS = 129  # the longest chain: a layer with 128 lowers, and these
_MARKED = 16


def deep_chain(store: Store, top: str = f"layer-{_LAYERS - 1}", layers: int = _LAYERS) -> str:
    """A chain of 129 layers, so with 128 lowers under its top.

    Every 16th has a file, and a mark in place of the one before it: of two that change places a mark stays.
    """
    store.note(
        f"create layer-0 to layer-{layers - 1}, each on the one before; in every 16th, N, create file-N and mark-N,"
        " and remove the mark before it"
    )
    parent = ""
    for number in range(layers):
        layer_id = top if number == _LAYERS - 1 else f"layer-{number}"
        parent = store.create(layer_id, parent)
        if number % _MARKED == 0:
            made = [ops.CreateFile(b"%s-%d" % (name, number), b"", 0o644) for name in (b"file", b"mark")]
            before = [ops.Unlink(b"mark-%d" % (number - _MARKED))] if number else []
            store.change(parent, [*made, *before])
    return parent


@pytest.mark.requirement("OVL-CHAIN-128")
def test_128_lowers_work(bench: Bench) -> None:
    with bench.store() as store:
        store.shows_model(deep_chain(store))


@pytest.mark.requirement("OVL-CHAIN-128", "OVL-CHAIN-129-REFUSED")
def test_128_lowers_work_after_opening_again(bench: Bench) -> None:
    """The limit counts what was there when the home was opened, too."""
    with bench.store() as store:
        below = deep_chain(store, layers=_LAYERS - 1)
        store.do(Reopen())
        with charged_to("OVL-CHAIN-128"):
            store.shows_model(store.create("top", below))
        with charged_to("OVL-CHAIN-129-REFUSED"):
            store.refuses(Create("above", "top"))


@pytest.mark.requirement("OVL-CHAIN-ORDER")
def test_the_uppermost_of_many_is_seen(bench: Bench) -> None:
    with bench.store() as store:
        bench.need("overlay")
        store.shows_model(deep_chain(store))


@pytest.mark.requirement("OVL-CHAIN-129-REFUSED")
def test_129_lowers_are_refused(bench: Bench) -> None:
    with bench.store() as store:
        top = deep_chain(store)
        with unchanged_on_disk(store):
            store.refuses(Create("layer-129", top))
        store.shows_model(top)


@pytest.mark.requirement("OVL-CHAIN-TOP-AGAIN")
def test_the_top_of_a_chain_is_made_again(bench: Bench) -> None:
    with bench.store() as store:
        top = deep_chain(store)
        below = store.parent_of(top)
        store.do(Remove(top))
        store.create("again", below)
        store.shows_model("again")


@pytest.mark.requirement("OVL-CHAIN-ORDER")
def test_the_uppermost_is_seen(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([[ops.CreateFile(b"x", b"0", 0o644), ops.MakeDirectory(b"d", 0o755)]])
        for number in range(1, 8):
            ids.append(store.create(f"layer-{number}", ids[-1]))
            name = b"d/%d" % number
            store.change(
                ids[-1],
                [ops.Unlink(b"x"), ops.CreateFile(b"x", b"%d" % number, 0o644), ops.CreateFile(name, b"", 0o644)],
            )
        for layer_id in ids:
            store.shows_model(layer_id)


@pytest.mark.requirement("OVL-CHAIN-DIFF-DEEP")
def test_the_diff_on_a_long_chain_is_its_own(bench: Bench) -> None:
    with bench.store() as store:
        top = deep_chain(store)
        store.change(top, [ops.Unlink(b"file-32"), ops.CreateFile(b"new", b"new", 0o644)])
        archive = store.diff_holds(top, ".wh.file-32", ".wh.mark-112", "file-128", "mark-128", "new")
        store.create("twin", store.parent_of(top))
        store.apply("twin", archive)
        same_tree("the twin of the top", store.observed(top), store.observed("twin"), times="files")
