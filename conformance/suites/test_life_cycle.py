"""Layers from their making to their end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.drivers.protocol import DriverRefused
from conformance.harness.store import Deviation, Workbench, everything_below, same_tree
from conformance.harness.stores import Bench, not_applicable
from conformance.history.findings import FilesDiffer, WrongAnswer
from conformance.operations import ops
from conformance.operations.observe import observe
from conformance.operations.strategies import STANDARD
from conformance.suites.homes import below_home, came_empty, stays_as_it_was, with_sealed_parent


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-CREATE")
def test_a_new_layer_shows_its_parents_tree(bench: Bench) -> None:
    with bench.store() as store:
        store.build([(), STANDARD, ()])
        for layer_id in ("layer-0", "layer-1", "layer-2"):
            store.check_tree(layer_id)
            if not store.driver.exists(layer_id):
                raise Deviation(f"{layer_id} was created and does not exist", WrongAnswer())
        if store.driver.exists("layer-3"):
            raise Deviation("layer-3 was never created and exists", WrongAnswer())


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-UNKNOWN-PARENT")
def test_an_unknown_parent_is_refused(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        before = everything_below(store.driver.home)
        store.must_refuse("create new on missing", call=lambda: store.driver.create("new", "missing"))
        if store.driver.exists("new"):
            raise Deviation("a layer exists whose creation was refused", WrongAnswer())
        stays_as_it_was(store, before)


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-EXISTING-ID")
def test_an_id_is_taken_once(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")]])
        before = everything_below(store.driver.home)
        store.must_refuse("create layer-1 again", call=lambda: store.driver.create("layer-1", ""))
        stays_as_it_was(store, before)
        store.check_tree("layer-1")


@pytest.mark.requirement("OVL-LIFE-ROOT-OPEN")
@pytest.mark.parametrize("mask", [0o022, 0o077], ids=oct)
def test_the_root_of_a_layer_may_be_entered(bench: Bench, mask: int) -> None:
    with bench.store(umask=mask) as store:
        for layer_id in store.build([(), ()]):
            store.tell(f"get {layer_id}")
            mode = os.stat(store.driver.get(layer_id)).st_mode & 0o7777
            store.driver.put(layer_id)
            if mode & 0o555 != 0o555:
                raise Deviation(f"the root of {layer_id} has mode {mode:04o}; expected r-x for everybody")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REMOVE")
def test_a_layer_of_an_earlier_opening_leaves_nothing(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        before = with_sealed_parent(bench, store, "layer-0")
        store.create("child", "layer-0")
        store.tell("open the home again, and remove child")
        store.driver = store.driver.reopen()
        store.driver.remove("child")
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
            store.tell(f"remove {layer_id}")
            store.driver.remove(layer_id)
            if store.driver.exists(layer_id):
                raise Deviation(f"{layer_id} was removed and exists", WrongAnswer())
            # What comes with the first removal comes once, and is the driver's own if it is empty.
            before |= came_empty(store, before) if layer_id == "child" else set()
            stays_as_it_was(store, before)
        store.check_tree("layer-0")


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-REMOVE-PARENT")
@pytest.mark.parametrize("again", [False, True], ids=["as-it-is", "opened-again"])
def test_a_layer_under_others_stays(bench: Bench, again: bool) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")]])
        if again:
            store.tell("open the home again")
            store.driver = store.driver.reopen()
        store.must_refuse("remove layer-0", call=lambda: store.driver.remove("layer-0"))
        store.check_tree("layer-0")
        store.check_tree("layer-1")


@pytest.mark.smoke
@pytest.mark.requirement("OVL-LIFE-MISSING-LAYER")
def test_a_missing_layer_has_no_tree(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        store.must_refuse("get missing", call=lambda: store.driver.get("missing"))
        for parent in ("", "base"):
            store.create("removed", parent)
            store.check_tree("removed")
            store.tell("remove removed")
            store.driver.remove("removed")
            store.must_refuse("get removed", call=lambda: store.driver.get("removed"))


@pytest.mark.smoke
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


@pytest.mark.requirement("OVL-LIFE-BAD-ID")
@pytest.mark.parametrize(
    "layer_id", ["", ".", "..", "a/b", "/a", "../a", "a/../b", "a/", "layer-0/diff", "x/../../y", "l"]
)
def test_ids_that_name_another_place_are_refused(bench: Bench, layer_id: str) -> None:
    with bench.store() as store:
        if layer_id == "l":
            bench.need("home-layout")  # where it holds the short links of all layers
        if not layer_id and "containers-storage" in bench.info.name:
            not_applicable("with no id the command makes one up")
        store.build([STANDARD])
        before = everything_below(store.driver.home)
        try:
            store.must_refuse(f"create {layer_id!r}", call=lambda: store.driver.create(layer_id, "layer-0"))
        finally:
            nothing_is_lost(store, before, f"creating {layer_id!r}")
        store.tell(f"remove {layer_id!r}")
        try:
            store.driver.remove(layer_id)
        except DriverRefused as refused:
            store.tell(f"  refused: {refused}")
        nothing_is_lost(store, before, f"removing {layer_id!r}")
        store.check_tree("layer-0")


def nothing_is_lost(store: Workbench, before: set[str], what: str) -> None:
    """All that was in the home is still there, but for hidden files, which are the driver's own business."""
    lost = before - everything_below(store.driver.home)
    visible = sorted(path for path in lost if not os.path.basename(path).startswith("."))
    if visible:
        said = f"{what} took away {len(visible)} paths of the home, among them {visible[:3]}"
        raise Deviation(said, FilesDiffer(gone=below_home(store, visible)))


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REMOVE-MISSING")
def test_removing_what_is_not_there_harms_nothing(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.Unlink(b"a")]])
        for missing in ("missing", "layer", "layer-", "layer-10"):
            store.tell(f"remove {missing}")
            try:
                store.driver.remove(missing)
            except DriverRefused as refused:
                store.tell(f"  refused: {refused}")
        for layer_id in ids:
            store.check_tree(layer_id)


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REMOVE-MOUNTED")
def test_a_mounted_layer_is_removed_wholly_or_not(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]])
        store.tell("get layer-1")
        root = store.driver.get("layer-1")
        store.tell("remove layer-1")
        try:
            store.driver.remove("layer-1")
        except DriverRefused as refused:
            store.tell(f"  refused: {refused}")
            if not os.path.exists(f"{root}/new"):
                raise Deviation("removing a mounted layer was refused, and its tree is gone") from refused
            store.driver.put("layer-1")
            store.check_tree("layer-1")
            store.create("child", "layer-1")  # by which it is seen that its place in chains is whole too
            store.check_tree("child")
        else:
            if store.driver.exists("layer-1") or os.path.exists(f"{root}/new"):
                raise Deviation("a mounted layer was removed, and something of it is still there")
        store.check_tree("layer-0")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REUSE-ID")
def test_an_id_may_be_used_again(bench: Bench) -> None:
    """On a parent, on another one, on none, and on the first one again."""
    with bench.store() as store:
        store.build([STANDARD, [ops.RemoveTree(b"d")]])
        for number, parent in enumerate(("layer-0", "layer-1", "", "layer-0")):
            store.create("again", parent)
            store.check_tree("again")
            store.change("again", [ops.CreateFile(b"only-%d" % number, b"x", 0o644)])
            store.check_tree("again")
            store.tell("remove again")
            store.driver.remove("again")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-REUSE-ID")
def test_an_id_is_used_again_after_its_layer_was_removed_mounted(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        store.create("again", "layer-0")
        store.tell("get again, and remove it")
        store.driver.get("again")
        try:
            store.driver.remove("again")
        except DriverRefused as refused:
            store.tell(f"  refused: {refused}; put it, and remove it")
            store.driver.put("again")
            store.driver.remove("again")
        store.create("again", "layer-0")
        store.check_tree("again")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-BUSY-PARENT")
def test_a_mounted_parent_is_a_parent(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, ()])  # what has no parent may be got without a mount
        store.tell("get layer-1, to be held")
        root = store.driver.get("layer-1")
        try:
            store.create("child", "layer-1")
            store.check_tree("child")
            same_tree("the tree of layer-1, held meanwhile,", store.expected("layer-1"), observe(root))
        finally:
            store.tell("put layer-1")
            store.driver.put("layer-1")
        store.check_tree("child")


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
            store.check_tree(layer_id)


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
        store.tell("close the driver")


@pytest.mark.requirement("OVL-LIFE-NO-LEAKS")
def test_a_diff_of_two_trees_leaves_nothing(bench: Bench) -> None:
    """Neither of the two has no parent and neither is the other's, so that a driver may have to mount both."""
    bench.need("diff")
    with bench.store() as store:
        parent = ""
        for number in range(4):
            parent = store.create(f"layer-{number}", parent)
        store.diff("layer-3", "layer-1")
        store.tell("close the driver")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-NO-LEAKS")
def test_nothing_is_left_after_many_openings(bench: Bench) -> None:
    """A space in the path of the home is one that lists of mounts write in another way."""
    with bench.store(path=lambda directory: directory / "a b") as store:
        store.build([STANDARD, [ops.RemoveTree(b"d")]])
        store.tell("open the home again, and close the driver")
        store.driver = store.driver.reopen()
        store.check_tree("layer-1")


@pytest.mark.requirement("OVL-LIFE-NO-DESCRIPTORS")
def test_no_descriptor_stays_open(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.RemoveTree(b"d")]])

        def use(number: int) -> None:
            for layer_id in ids:
                store.observed(layer_id)
            if bench.has("diff") and bench.has("apply"):
                store.create(f"copy-{number}")
                store.apply(f"copy-{number}", store.diff("layer-0"))

        use(0)
        before = bench.state_of(store.driver).descriptors
        for number in range(1, 6):
            use(number)
        opened = bench.state_of(store.driver).descriptors - before
        if opened > 0:
            raise Deviation(f"five rounds of get, put, diff and apply left {opened} descriptors open")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-NO-DESCRIPTORS")
def test_a_diff_that_is_not_read_to_its_end_leaves_none(bench: Bench) -> None:
    """Nothing can be written to /dev/full, so that whoever reads the diff gives up in the middle."""
    bench.need("diff")
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"large", b"large" * 100_000, 0o644)]])
        before = bench.state_of(store.driver).descriptors
        for _ in range(5):
            store.tell("diff layer-1 into /dev/full, which takes nothing")
            try:
                store.driver.diff("layer-1", "layer-0", Path("/dev/full"))
            except (DriverRefused, OSError) as error:
                store.tell(f"  given up: {error}")
        opened = bench.state_of(store.driver).descriptors - before
        if opened > 0:
            raise Deviation(f"five diffs that were not read to their end left {opened} descriptors open")
        store.check_tree("layer-1")


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-AFTER-REFUSAL")
def test_a_refused_call_stands_in_no_others_way(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        store.must_refuse("create new on missing", call=lambda: store.driver.create("new", "missing"))
        store.create("new", "layer-0")
        store.must_refuse("create new again", call=lambda: store.driver.create("new", "layer-0"))
        store.must_refuse("get later", call=lambda: store.driver.get("later"))
        store.create("later", "new")
        store.must_refuse("remove new, under later", call=lambda: store.driver.remove("new"))
        store.check_tree("later")
        for layer_id in ("later", "new"):
            store.tell(f"remove {layer_id}")
            store.driver.remove(layer_id)
            if store.driver.exists(layer_id):
                raise Deviation(f"{layer_id} was removed and exists", WrongAnswer())
        store.create("new", "layer-0")
        store.check_tree("new")
