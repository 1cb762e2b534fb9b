"""Layers from their making to their end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.harness.assertions import equal, nothing, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import charged_to
from conformance.history.calls import Create, Get, Put, Remove, Reopen
from conformance.history.findings import FilesDiffer
from conformance.lab import namespace
from conformance.operations import ops
from conformance.operations.observe import observe
from conformance.operations.standard import STANDARD
from conformance.suites.homes import (
    below_home,
    came_empty,
    everything_below,
    stays_as_it_was,
    unchanged_on_disk,
    with_sealed_parent,
)
from conformance.suites.mounts import tree_stays


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-CREATE")
def test_a_new_layer_shows_its_parents_tree(bench: Bench) -> None:
    with bench.store() as store:
        store.build([(), STANDARD, ()])
        for layer_id in ("layer-0", "layer-1", "layer-2"):
            store.shows_model(layer_id)
            store.confirms(layer_id)
        store.denies("layer-3")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-CREATE")
def test_a_read_write_layer_without_options_is_a_layer(bench: Bench) -> None:
    """Layers of containers are created by another call, where the driver has one."""
    with bench.store() as store:
        store.build([STANDARD])
        store.do(Create("container", "layer-0", {}))
        store.shows_model("container")
        store.change("container", [ops.CreateFile(b"first", b"1", 0o644), ops.Unlink(b"a")])
        store.create("child", "container")
        for layer_id in ("layer-0", "container", "child"):
            store.shows_model(layer_id)
        store.refuses(Create("container", "layer-0", {}))
        store.refuses(Create("new", "missing", {}))
        store.denies("new")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-UNKNOWN-PARENT")
def test_an_unknown_parent_is_refused(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        with unchanged_on_disk(store):
            store.refuses(Create("new", "missing"))
            store.denies("new")


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-EXISTING-ID")
def test_an_id_is_taken_once(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")]])
        with unchanged_on_disk(store):
            store.refuses(Create("layer-1"))
        store.shows_model("layer-1")


@pytest.mark.requirement("OVL-LIFE-ROOT-OPEN")
@pytest.mark.parametrize("mask", [0o022, 0o077], ids=oct)
def test_the_root_of_a_layer_may_be_entered(bench: Bench, mask: int) -> None:
    with bench.store(umask=mask) as store:
        for layer_id in store.build([(), ()]):
            mode = os.stat(store.do(Get(layer_id))).st_mode & 0o7777
            store.do(Put(layer_id))
            equal(f"r-x for everybody in the mode {mode:04o} of the root of {layer_id}", oct(mode & 0o555), "0o555")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REMOVE")
def test_a_layer_of_an_earlier_opening_leaves_nothing(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        before = with_sealed_parent(bench, store, "layer-0")
        store.create("child", "layer-0")
        store.do(Reopen())
        store.do(Remove("child"))
        stays_as_it_was(store, before | came_empty(store, before))


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-REMOVE")
def test_a_removed_layer_leaves_nothing(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        before = with_sealed_parent(bench, store, "layer-0")
        for layer_id in ("child", "another"):
            store.create(layer_id, "layer-0")
            store.change(layer_id, [ops.RemoveTree(b"d"), ops.CreateFile(b"new", b"new", 0o644)])
            store.do(Remove(layer_id))
            store.denies(layer_id)
            # What comes with the first removal comes once, and is the driver's own if it is empty.
            before |= came_empty(store, before) if layer_id == "child" else set()
            stays_as_it_was(store, before)
        store.shows_model("layer-0")


@pytest.mark.requirement("OVL-LIFE-REMOVE")
def test_a_layer_in_which_others_mounted_something(bench: Bench) -> None:
    """Whether their files are kept is recorded: no text decides on it, and drivers differ."""
    bench.need("home-layout")
    with bench.store() as store:
        store.build([STANDARD, [ops.MakeDirectory(b"new", 0o755)]])
        inside = Path(store.home) / "layer-1" / "diff" / "new"
        namespace.mount_tmpfs(inside)
        deeper = inside / "deeper"
        deeper.mkdir()
        namespace.mount_tmpfs(deeper)
        kept = os.open(inside, os.O_PATH | os.O_DIRECTORY)
        try:
            store.beyond(f"a filesystem with a file is mounted on {inside}, and another one on {deeper}")
            (inside / "file").write_text("of another")
            removed = store.may_refuse(Remove("layer-1")) is None
            left = Path(f"/proc/self/fd/{kept}/file").exists()
            store.record("files that others mounted in a removed layer are", "kept" if left else "deleted")
            if removed:
                store.denies("layer-1")
                nothing("mounts in the home", namespace.mounts_below(Path(store.home)))
            else:
                namespace.unmount(deeper)
                namespace.unmount(inside)
                store.do(Remove("layer-1"))
        finally:
            os.close(kept)
        store.shows_model("layer-0")


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-REMOVE-PARENT")
@pytest.mark.parametrize("again", [False, True], ids=["as-it-is", "opened-again"])
def test_a_layer_under_others_stays(bench: Bench, again: bool) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")]])
        if again:
            store.do(Reopen())
        store.refuses(Remove("layer-0"))
        store.shows_model("layer-0")
        store.shows_model("layer-1")


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-MISSING-LAYER")
def test_a_missing_layer_has_no_tree(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        store.refuses(Get("missing"))
        for parent in ("", "base"):
            store.create("removed", parent)
            store.shows_model("removed")
            store.do(Remove("removed"))
            store.refuses(Get("removed"))


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-REOPEN")
def test_a_reopened_driver_shows_the_same(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.RemoveTree(b"d"), ops.CreateFile(b"d", b"now a file", 0o600)]])
        store.do(Reopen())
        for layer_id in ids:
            store.shows_model(layer_id)
        store.create("later", ids[-1])
        store.shows_model("later")


@pytest.mark.requirement("OVL-LIFE-BAD-ID")
@pytest.mark.parametrize(
    "layer_id", ["", ".", "..", "a/b", "/a", "../a", "a/../b", "a/", "layer-0/diff", "x/../../y", "l"]
)
def test_ids_that_name_another_place_are_refused(bench: Bench, layer_id: str) -> None:
    with bench.store() as store:
        if layer_id == "l":
            bench.need("home-layout")  # where it holds the short links of all layers
        if not layer_id:
            bench.need("empty-ids")
        store.build([STANDARD])
        before = everything_below(store.home)
        try:
            store.refuses(Create(layer_id, "layer-0"))
        finally:
            nothing_is_lost(store, before, f"creating {layer_id!r}")
        store.may_refuse(Remove(layer_id))
        nothing_is_lost(store, before, f"removing {layer_id!r}")
        store.shows_model("layer-0")


def nothing_is_lost(store: Store, before: set[str], what: str) -> None:
    """All that was in the home is still there, but for hidden files, which are the driver's own business."""
    lost = before - everything_below(store.home)
    visible = sorted(path for path in lost if not os.path.basename(path).startswith("."))
    nothing(f"paths of the home that {what} removed", visible, FilesDiffer(gone=below_home(store, visible)))


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REMOVE-MISSING")
def test_removing_what_is_not_there_harms_nothing(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.Unlink(b"a")]])
        for missing in ("missing", "layer", "layer-", "layer-10"):
            store.may_refuse(Remove(missing))
        for layer_id in ids:
            store.shows_model(layer_id)


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REMOVE-MOUNTED")
def test_a_mounted_layer_is_removed_wholly_or_not(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]])
        root = store.do(Get("layer-1"))
        if store.may_refuse(Remove("layer-1")) is not None:
            tree_stays(root, "of a mounted layer whose removal was refused")
            store.do(Put("layer-1"))
            store.shows_model("layer-1")
            store.create("child", "layer-1")  # by which it is seen that its place in chains is whole too
            store.shows_model("child")
        else:
            store.denies("layer-1")
            equal("whether the tree of the removed layer is there", os.path.exists(f"{root}/new"), False)
        store.shows_model("layer-0")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REUSE-ID")
def test_an_id_may_be_used_again(bench: Bench) -> None:
    """On a parent, on another one, on none, and on the first one again."""
    with bench.store() as store:
        store.build([STANDARD, [ops.RemoveTree(b"d")]])
        for number, parent in enumerate(("layer-0", "layer-1", "", "layer-0")):
            store.create("again", parent)
            store.shows_model("again")
            store.change("again", [ops.CreateFile(b"only-%d" % number, b"x", 0o644)])
            store.shows_model("again")
            store.do(Remove("again"))


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REUSE-ID")
def test_an_id_is_used_again_after_its_layer_was_removed_mounted(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        store.create("again", "layer-0")
        store.do(Get("again"))
        if store.may_refuse(Remove("again")) is not None:
            store.do(Put("again"))
            store.do(Remove("again"))
        store.create("again", "layer-0")
        store.shows_model("again")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-BUSY-PARENT")
def test_a_mounted_parent_is_a_parent(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, ()])  # what has no parent may be got without a mount
        root = store.do(Get("layer-1"))
        try:
            store.create("child", "layer-1")
            store.shows_model("child")
            same_tree("the tree of layer-1, held meanwhile,", store.expected("layer-1"), observe(root))
        finally:
            store.do(Put("layer-1"))
        store.shows_model("child")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-SIBLINGS")
def test_siblings_see_nothing_of_one_another(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        changes: list[list[ops.Operation]] = [
            [ops.Unlink(b"a"), ops.CreateFile(b"one", b"1", 0o644)],
            [ops.RemoveTree(b"d"), ops.WriteAt(b"a", 0, b"two")],
            [],
        ]
        for number, operations in enumerate(changes):
            store.create(f"sibling-{number}", "layer-0")
            store.change(f"sibling-{number}", operations)
        for layer_id in ("sibling-0", "sibling-1", "sibling-2", "layer-0"):
            store.shows_model(layer_id)


@pytest.mark.requirement("OVL-LIFE-NO-LEAKS")
def test_nothing_is_left_when_a_driver_is_closed(bench: Bench) -> None:
    """The bench looks after every store of every test; this one goes through all there is."""
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.RemoveTree(b"d")], [ops.CreateFile(b"new", b"new", 0o644)]])
        for layer_id in ids:
            store.observed(layer_id)
            if bench.has("diff"):
                store.diff(layer_id)
                if bench.has("whole-tree-diff"):
                    store.diff(layer_id, "")
        if bench.has("diff"):
            store.diff(ids[2], ids[0])


@pytest.mark.requirement("OVL-LIFE-NO-LEAKS")
def test_a_diff_of_two_trees_leaves_nothing(bench: Bench) -> None:
    """Neither of the two has no parent and neither is the other's, so that a driver may have to mount both."""
    bench.need("diff")
    with bench.store() as store:
        parent = ""
        for number in range(4):
            parent = store.create(f"layer-{number}", parent)
        store.diff("layer-3", "layer-1")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-NO-LEAKS")
def test_nothing_is_left_after_many_openings(bench: Bench) -> None:
    """A space in the path of the home is one that lists of mounts write in another way."""
    with bench.store(path=lambda directory: directory / "a b") as store:
        store.build([STANDARD, [ops.RemoveTree(b"d")]])
        store.do(Reopen())
        store.shows_model("layer-1")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-AFTER-REFUSAL")
def test_a_refused_call_stands_in_no_others_way(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        with charged_to("OVL-LIFE-UNKNOWN-PARENT"):  # this test is about what comes after each refusal
            store.refuses(Create("new", "missing"))
        store.create("new", "layer-0")
        with charged_to("OVL-LIFE-EXISTING-ID"):
            store.refuses(Create("new", "layer-0"))
        with charged_to("OVL-LIFE-MISSING-LAYER"):
            store.refuses(Get("later"))
        store.create("later", "new")
        with charged_to("OVL-LIFE-REMOVE-PARENT"):
            store.refuses(Remove("new"))
        store.shows_model("later")
        for layer_id in ("later", "new"):
            store.do(Remove(layer_id))
            store.denies(layer_id)
        store.create("new", "layer-0")
        store.shows_model("new")


@pytest.mark.requirement("OVL-LIFE-AFTER-REFUSAL")
def test_a_creation_that_fails_half_way_leaves_nothing(bench: Bench) -> None:
    """Where short links cannot be made, a driver that makes them last has made all the rest."""
    bench.need("home-layout")
    with bench.store() as store:
        store.build([STANDARD])
        store.tamper([ops.Rename(b"l", b".away"), ops.CreateFile(b"l", b"", 0o644)])
        refused = store.may_refuse(Create("new")) is not None
        if refused:
            store.denies("new")
            left = [path for path in Path(store.home).glob("*/new") if path.parent.name != "l"]
            nothing("files that a refused creation left in the home", [*left, *Path(store.home).glob("new")])
        if (Path(store.home) / "l").is_file():
            store.tamper([ops.Unlink(b"l"), ops.Rename(b".away", b"l")])
        if refused:
            store.create("new")
            store.shows_model("new")
            store.create("child", "new")
            store.shows_model("child")
        store.shows_model("layer-0")
