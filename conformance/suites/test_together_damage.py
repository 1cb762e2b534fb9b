"""Files of a home that have another form while no driver has it open: a directory, a symlink, far too much content.

Each damage is mended after the calls that met it, and then the home is as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from conformance.harness.assertions import same_names, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.skips import not_applicable
from conformance.history.calls import Call, Changes, Create, DiffSize, Metadata, Put, Remove, Reopen
from conformance.operations import ops
from conformance.suites.changes import changes_of, explain
from conformance.suites.reading import chain_file, needs_link_files, needs_short_links, three_layers, written

_LARGE = b"A" * (1 << 20)  # bytes; no list of 128 lowers is as long
_AWAY = b".away"
Harm = Sequence[ops.Operation]


def forms(path: bytes) -> dict[str, Harm]:
    """What may lie where a small file was."""
    return {
        "a directory": [ops.Unlink(path), ops.MakeDirectory(path, 0o755)],
        "a symlink to itself": [ops.Unlink(path), ops.MakeSymlink(path, path.rpartition(b"/")[2])],
        "a file of 1 MiB": written(path, _LARGE),
    }


def judge(bench: Bench, store: Store, path: bytes, damages: Mapping[str, Harm], layer_id: str = "layer-2") -> None:
    """With each damage the layer is complete or refused, and others are as before; raises Deviation."""
    for what, harm in damages.items():
        store.note(f"{path.decode()} is now {what}")
        _set_aside(store, path, harm)
        store.do(Reopen())
        whole_or_refused(bench, store, layer_id)
        store.shows_model("beside")
        store.note(f"{path.decode()} is as it was")
        store.tamper([ops.RemoveTree(path), ops.Rename(_AWAY, path)])
        store.do(Reopen())
        store.shows_model(layer_id)


def _set_aside(store: Store, path: bytes, harm: Harm) -> None:
    """Damage a file, which is kept under a hidden name."""
    first, *others = harm
    assert isinstance(first, ops.Unlink), "the file makes room for what takes its place"
    store.tamper([ops.Rename(path, _AWAY), *others])


def _short_link_is_a_file(store: Store, layer_id: str) -> None:
    """Put an empty file in the place of a layer's short link, and open the home again."""
    path = b"l/{link:%s}" % layer_id.encode()
    store.tamper([ops.Unlink(path), ops.CreateFile(path, b"", 0o644)])
    store.do(Reopen())


def whole_or_refused(bench: Bench, store: Store, layer_id: str) -> None:
    """Whatever the driver says of the layer is true of the complete layer; raises Deviation."""
    store.note(f"{layer_id} may be refused, and is complete otherwise")
    expected = store.expected(layer_id)
    shown = store.may_show(layer_id)
    if shown is not None:
        same_tree(f"{layer_id}, of a damaged home,", expected, shown)
    store.may_refuse(Put(layer_id))
    if bench.has("changes"):
        for below in (store.parent_of(layer_id), "layer-0"):
            if store.may_refuse(Changes(layer_id, below)) is None:
                changes = changes_of(store, layer_id, below)
                explain(layer_id, store.expected(below), expected, changes)
    asked: dict[str, Call] = {"diff-size": DiffSize(layer_id, "layer-0"), "metadata": Metadata(layer_id)}
    for capability, call in asked.items():
        if bench.has(capability):
            store.may_refuse(call)
    if store.may_refuse(Create("above", layer_id)) is None:
        shown = store.may_show("above")
        if shown is not None:
            same_names(f"a layer on {layer_id}, of a damaged home,", expected.nodes, shown.nodes)
        store.may_refuse(Remove("above"))


@pytest.mark.requirement("OVL-RESTART-LINK-EMPTY")
def test_a_link_of_another_form_shows_no_half_layer(bench: Bench) -> None:
    needs_link_files(bench)
    with bench.store() as store:
        three_layers(store)
        judge(bench, store, b"layer-2/link", forms(b"layer-2/link"))


@pytest.mark.requirement("OVL-RESTART-LOWER-CUT")
def test_a_list_of_lowers_of_another_form_shows_no_half_layer(bench: Bench) -> None:
    name = chain_file(bench)
    path = b"layer-2/" + name.encode()
    with bench.store() as store:
        home = three_layers(store)
        whole = (home / "layer-2" / name).read_bytes()
        first = whole.partition(b":")[0]
        damages = {
            **forms(path),
            "the name of one lower, twice": written(path, first + b":" + first),
            "one lower too many, without a name": written(path, whole + b":"),
        }
        judge(bench, store, path, damages)


@pytest.mark.requirement("OVL-RESTART-SHORT-LINK-GONE")
def test_a_short_link_of_another_form_shows_no_half_layer(bench: Bench) -> None:
    needs_short_links(bench)
    with bench.store() as store:
        home = three_layers(store)
        for layer_id in ("layer-1", "layer-2"):
            path = b"l/" + (home / layer_id / "link").read_bytes()
            judge(bench, store, path, {"a file": written(path, b"")})


@pytest.mark.requirement("OVL-RESTART-SHORT-LINK-GONE")
@pytest.mark.parametrize("also", ["another layer's link", "its own link", "its layer's name for the link"])
def test_a_missing_short_link_and_more_damage_show_no_half_layer(bench: Bench, also: str) -> None:
    """Whoever makes a short link again looks for the layer that names it."""
    needs_short_links(bench)
    with bench.store() as store:
        three_layers(store)
        more: dict[str, list[ops.Operation]] = {
            "another layer's link": [ops.Unlink(b"beside/link"), ops.MakeDirectory(b"beside/link", 0o755)],
            "its own link": [ops.Unlink(b"layer-1/link")],
            "its layer's name for the link": written(b"layer-1/link", b"not a name of a short link"),
        }
        store.note(f"remove the short link of layer-1, and damage {also}")
        store.tamper([ops.Unlink(b"l/{link:layer-1}"), *more[also]])
        store.do(Reopen())
        for layer_id in ("layer-2", "layer-1"):
            whole_or_refused(bench, store, layer_id)
        store.may_refuse(Remove("layer-2"))
        store.shows_model("layer-0")


@pytest.mark.requirement("OVL-RESTART-SHORT-LINK-GONE")
def test_a_short_link_far_below_that_is_a_file_shows_no_half_layer(bench: Bench) -> None:
    """What compares the layer with another than its parent finds the parent, and then mounts."""
    needs_short_links(bench)
    with bench.store() as store:
        three_layers(store)
        _short_link_is_a_file(store, "layer-0")
        whole_or_refused(bench, store, "layer-2")
        store.shows_model("layer-0")


@pytest.mark.requirement("OVL-RESTART-LINK-EMPTY")
def test_a_layer_with_nothing_right_but_its_tree_harms_no_other(bench: Bench) -> None:
    needs_link_files(bench)
    with bench.store() as store:
        three_layers(store)
        store.note("the short link of layer-2 is a file, and layer-2/link no name of one")
        _short_link_is_a_file(store, "layer-2")
        whole_or_refused(bench, store, "layer-2")
        store.tamper(written(b"layer-2/link", b"not a name of a short link"))
        store.do(Reopen())
        whole_or_refused(bench, store, "layer-2")
        store.may_refuse(Remove("layer-2"))
        store.shows_model("layer-1")
        store.shows_model("beside")


@pytest.mark.requirement("OVL-RESTART-SHORT-LINK-GONE")
def test_a_layer_whose_short_link_is_a_file_is_removed_or_not(bench: Bench) -> None:
    needs_short_links(bench)
    with bench.store() as store:
        three_layers(store)
        _short_link_is_a_file(store, "layer-2")
        if store.may_refuse(Remove("layer-2")) is None:
            store.denies("layer-2")
        store.shows_model("layer-1")
        store.shows_model("beside")


@pytest.mark.requirement("OVL-RESTART-LOWER-CUT")
def test_a_list_of_ids_shows_no_half_layer(bench: Bench) -> None:
    """What containers/storage 1.64 writes beside 'lower', and what it finds where there is no 'lower'."""
    ids = b"layer-2/lower-layers"
    with bench.store() as store:
        home = three_layers(store)
        there = (home / "layer-2" / "lower-layers").exists()
        store.note("layer-2/lower-layers lacks layer-1")
        store.tamper(written(ids, b"layer-0") if there else [ops.CreateFile(ids, b"layer-0", 0o644)])
        store.do(Reopen())
        shown = store.may_show("layer-2")
        if shown is not None and b"one" in shown.nodes:
            not_applicable("the driver does not read 'lower-layers': one that lacks a layer changes nothing")
        _by_ids_alone(store, home, ids)


def _by_ids_alone(store: Store, home: Path, ids: bytes) -> None:
    if (home / "layer-2" / "lower").exists():
        store.tamper([ops.Unlink(b"layer-2/lower")])
    for text in (b"layer-1:layer-0", b"layer-1:lay", b"layer-1:missing", b"layer-1:../layer-0", b":", b""):
        store.note(f"layer-2/lower-layers is {text!r}, and there is no 'lower'")
        store.tamper(written(ids, text))
        store.do(Reopen())
        shown = store.may_show("layer-2")
        if shown is not None:
            expected = store.expected("layer-2").nodes
            same_names("layer-2, of which there are the ids of its lowers,", expected, shown.nodes)
    store.shows_model("layer-1")
