"""Layers from their making to their end."""

from __future__ import annotations

import pytest

from conformance import ops
from conformance.bench import Bench
from conformance.strategies import STANDARD
from conformance.workbench import Deviation, Workbench, everything_below


def stays_as_it_was(store: Workbench, before: set[str]) -> None:
    """Nothing came and nothing went in the home but the driver's own hidden files; raises Deviation."""
    changed = {path for path in before ^ everything_below(store.driver.home) if _counts(store, path)}
    if changed:
        raise Deviation(f"expected the home as it was before, but this came or went: {sorted(changed)}")


def _counts(store: Workbench, path: str) -> bool:
    # Locks and books of its own are the driver's business; layers and short links are everybody's.
    first = path.removeprefix(store.driver.home + "/").split("/")[0]
    return not first.startswith(".") and not first.endswith((".lock", ".json"))


@pytest.mark.requirement("OVL-LIFE-CREATE")
def test_a_new_layer_shows_its_parents_tree(bench: Bench) -> None:
    with bench.store() as store:
        store.build([(), STANDARD, ()])
        for layer_id in ("layer-0", "layer-1", "layer-2"):
            store.check_tree(layer_id)
            if not store.driver.exists(layer_id):
                raise Deviation(f"{layer_id} was created and does not exist")
        if store.driver.exists("layer-3"):
            raise Deviation("layer-3 was never created and exists")


@pytest.mark.requirement("OVL-LIFE-UNKNOWN-PARENT")
def test_an_unknown_parent_is_refused(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        before = everything_below(store.driver.home)
        store.must_refuse("create new on missing", call=lambda: store.driver.create("new", "missing"))
        if store.driver.exists("new"):
            raise Deviation("a layer exists whose creation was refused")
        stays_as_it_was(store, before)


@pytest.mark.requirement("OVL-LIFE-EXISTING-ID")
def test_an_id_is_taken_once(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")]])
        before = everything_below(store.driver.home)
        store.must_refuse("create layer-1 again", call=lambda: store.driver.create("layer-1", ""))
        stays_as_it_was(store, before)
        store.check_tree("layer-1")


@pytest.mark.requirement("OVL-LIFE-REMOVE")
def test_a_removed_layer_leaves_nothing(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        before = everything_below(store.driver.home)
        store.create("child", "layer-0")
        store.change("child", [ops.RemoveTree(b"d"), ops.CreateFile(b"new", b"new", 0o644)])
        store.tell("remove child")
        store.driver.remove("child")
        if store.driver.exists("child"):
            raise Deviation("child was removed and exists")
        stays_as_it_was(store, before)
        store.check_tree("layer-0")


@pytest.mark.requirement("OVL-LIFE-REMOVE-PARENT")
def test_a_layer_under_others_stays(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")]])
        store.must_refuse("remove layer-0", call=lambda: store.driver.remove("layer-0"))
        store.check_tree("layer-0")
        store.check_tree("layer-1")


@pytest.mark.requirement("OVL-LIFE-MISSING-LAYER")
def test_a_missing_layer_has_no_tree(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        store.must_refuse("get missing", call=lambda: store.driver.get("missing"))


@pytest.mark.requirement("OVL-LIFE-REOPEN")
def test_a_reopened_driver_shows_the_same(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.RemoveTree(b"d"), ops.CreateFile(b"d", b"now a file", 0o600)]])
        store.tell("open the home again")
        store.driver = store.driver.reopen()
        for layer_id in ids:
            store.check_tree(layer_id)
        store.create("later", ids[-1])
        store.check_tree("later")


@pytest.mark.requirement("OVL-LIFE-METADATA")
def test_metadata_names_the_upper(bench: Bench) -> None:
    with bench.store() as store:
        store.build([(), ()])
        store.tell("metadata layer-1")
        said = store.driver.metadata("layer-1")
        wanted = f"{store.driver.home}/layer-1/diff"
        if not any(wanted in value for value in said.values()):
            raise Deviation(f"expected {wanted} in the metadata of layer-1, got {dict(said)}")


def deep_chain(store: Workbench) -> str:
    """A chain of 129 layers, so with 128 lowers under its top; some of them hold a file."""
    store.tell("create layer-0 to layer-128, each on the one before; every 32nd gets a file")
    parent = ""
    for number in range(129):
        parent = store.create(f"layer-{number}", parent, quiet=True)
        if number % 32 == 0:
            name = b"file-%d" % number
            store.change(parent, [ops.CreateFile(name, name, 0o644)])
    return parent


@pytest.mark.requirement("OVL-CHAIN-128")
def test_128_lowers_work(bench: Bench) -> None:
    with bench.store() as store:
        store.check_tree(deep_chain(store))


@pytest.mark.requirement("OVL-CHAIN-129-REFUSED")
def test_129_lowers_are_refused(bench: Bench) -> None:
    with bench.store() as store:
        top = deep_chain(store)
        before = everything_below(store.driver.home)
        store.must_refuse("create layer-129 on layer-128", call=lambda: store.driver.create("layer-129", top))
        stays_as_it_was(store, before)
        store.check_tree(top)
