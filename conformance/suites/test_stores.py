"""Other owners, and other stores."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from conformance.drivers.protocol import DriverRefused, IdRange
from conformance.harness.assertions import equal, nothing, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.entries import members
from conformance.history.calls import ApplyDiff, Create, Get, Put, Remove
from conformance.operations import archives, ops
from conformance.operations.archives import Entry
from conformance.operations.standard import STANDARD
from conformance.suites.images import store_with_images
from conformance.suites.mounts import tree_stays

_MAP = (IdRange(0, 100_000, 65_536),)
_OTHER_MAP = (IdRange(0, 300_000, 65_536),)
_TWO_RANGES = (IdRange(0, 100_000, 1_000), IdRange(1_000, 500_000, 1_000))


def owner(store: Store, layer_id: str, path: str) -> tuple[int, int]:
    """The owner of a path of a layer, on the host."""
    root = store.do(Get(layer_id))
    try:
        status = os.lstat(os.path.join(root, path))
        return status.st_uid, status.st_gid
    finally:
        store.do(Put(layer_id))


def owned_by_container(inside: int) -> list[ops.Operation]:
    """A layer's content as root of a container under _MAP would make it."""
    host = 100_000 + inside
    made: list[ops.Operation] = [
        ops.CreateFile(b"f", b"f", 0o644),
        ops.MakeDirectory(b"x", 0o755),
        ops.MakeSymlink(b"s", b"f"),
    ]
    return [*made, *(ops.Chown(operation.path, host, host) for operation in made)]


@pytest.mark.quick
@pytest.mark.requirement("OVL-IDMAP-ROOT-OWNS")
def test_mapped_root_owns_a_layer(bench: Bench) -> None:
    with bench.store(id_map=_MAP) as store:
        store.create("base")
        store.create("child", "base")
        for layer_id in ("base", "child"):
            equal(f"the owner of the root of {layer_id}", owner(store, layer_id, "."), (100_000, 100_000))


@pytest.mark.requirement("OVL-IDMAP-DIFF")
def test_a_diff_names_owners_as_inside(bench: Bench) -> None:
    with bench.store(id_map=_MAP) as store:
        store.build([(), owned_by_container(5)])
        owners = {member.name: (member.uid, member.gid) for member in members(store.diff("layer-1"))}
        found = {name: owners.get(name) for name in ("f", "x", "s")}
        equal("the owners in the diff of layer-1", found, dict.fromkeys(("f", "x", "s"), (5, 5)))


@pytest.mark.quick
@pytest.mark.requirement("OVL-IDMAP-DIFF")
def test_a_diff_knows_every_range(bench: Bench) -> None:
    with bench.store(id_map=_TWO_RANGES) as store:
        hosts = {b"first": 100_000, b"last": 100_999, b"second": 500_000, b"end": 500_999}
        made = [ops.CreateFile(name, b"", 0o644) for name in hosts]
        store.build([[*made, *(ops.Chown(name, host, host) for name, host in hosts.items())]])
        found = {one.name: (one.uid, one.gid) for one in members(store.diff("layer-0"))}
        owners = {name: ids for name, ids in found.items() if name.strip("./")}  # the root has an entry or none
        wanted = {"first": (0, 0), "last": (999, 999), "second": (1_000, 1_000), "end": (1_999, 1_999)}
        equal("the owners in the diff of layer-0", owners, wanted)


@pytest.mark.quick
@pytest.mark.requirement("OVL-IDMAP-APPLY")
def test_applied_entries_have_ids_of_every_range(bench: Bench) -> None:
    with bench.store(id_map=_TWO_RANGES) as store:
        store.create("base")
        inside = {"first": 0, "last": 999, "second": 1_000, "end": 1_999}
        store.applied("base", [Entry(name, owner=(number, number)) for name, number in inside.items()])
        hosts = {"first": 100_000, "last": 100_999, "second": 500_000, "end": 500_999}
        wanted = {name: (host, host) for name, host in hosts.items()}
        found = {path: owner(store, "base", path) for path in wanted}
        equal("the owners on the host", found, wanted)


@pytest.mark.quick
@pytest.mark.requirement("OVL-IDMAP-WORK")
def test_mapped_root_owns_what_overlay_works_in(bench: Bench) -> None:
    with bench.store(id_map=_MAP) as store:
        store.build([(), ()])
        store.do(Get("layer-1"))
        work = Path(store.home) / "layer-1" / "work"
        found = {str(path): os.lstat(path)[4:6] for path in (work, work / "work")}
        store.do(Put("layer-1"))
        equal("the owners of overlay's work directories", found, dict.fromkeys(found, (100_000, 100_000)))


@pytest.mark.requirement("OVL-IDMAP-APPLY")
def test_applied_entries_have_ids_of_the_host(bench: Bench) -> None:
    with bench.store(id_map=_MAP) as store:
        store.create("base")
        entries = [
            Entry("f", owner=(5, 6)),
            Entry("root", owner=(0, 0)),
            Entry("s", b"2", target="f", owner=(7, 7)),
        ]
        store.applied("base", [*entries, Entry("same", owner=(50_000, 50_000)), archives.file("made/here")])
        wanted = {
            "f": (100_005, 100_006),
            "root": (100_000, 100_000),
            "s": (100_007, 100_007),
            "made": (100_000, 100_000),
        }
        found = {path: owner(store, "base", path) for path in wanted}
        equal("the owners on the host", found, wanted)


@pytest.mark.quick
@pytest.mark.requirement("OVL-IDMAP-APPLY")
def test_users_and_groups_have_maps_of_their_own(bench: Bench) -> None:
    with bench.store(id_map=_MAP, gid_map=_OTHER_MAP) as store:
        store.create("base")
        store.applied("base", [Entry("f", owner=(5, 6)), archives.file("made/here")])
        found = {path: owner(store, "base", path) for path in ("f", "made")}
        equal("the owners on the host", found, {"f": (100_005, 300_006), "made": (100_000, 300_000)})
        root = os.lstat(Path(store.home) / "base" / "diff") if bench.has("home-layout") else None
        if root:
            equal("the owner of the layer's directory", (root.st_uid, root.st_gid), (100_000, 300_000))
        if bench.has("diff"):
            entries = members(store.diff("base"))
            owners = {one.name: (one.uid, one.gid) for one in entries}
            equal("the owners in the diff", owners["f"], (5, 6))


@pytest.mark.requirement("OVL-IDMAP-DIFF")
def test_groups_alone_have_a_map(bench: Bench) -> None:
    """A driver may refuse to open a home so. Users are then those of the host."""
    with ExitStack() as opening:
        try:
            store = opening.enter_context(bench.store(gid_map=_MAP))
        except DriverRefused:
            return
        store.build([[ops.CreateFile(b"f", b"f", 0o644), ops.Chown(b"f", 5, 100_006)]])
        owners = {one.name: (one.uid, one.gid) for one in members(store.diff("layer-0"))}
        equal("the owners in the diff of layer-0", owners.get("f"), (5, 6))
        store.create("applied")
        store.applied("applied", [Entry("f", owner=(7, 8))])
        equal("the owners on the host", owner(store, "applied", "f"), (7, 100_008))


@pytest.mark.quick
@pytest.mark.requirement("OVL-IDMAP-TRIP")
def test_owners_go_from_map_to_map(bench: Bench) -> None:
    with bench.store("origin", id_map=_MAP) as store, bench.store("copy", id_map=_OTHER_MAP) as copy:
        for layer_id in store.build([owned_by_container(0), [ops.Chown(b"f", 100_009, 100_009)]]):
            copy.bring(store, layer_id)
            expected = {
                path: (node.uid - 100_000, node.gid - 100_000)
                for path, node in store.observed(layer_id).nodes.items()
            }
            found = {
                path: (node.uid - 300_000, node.gid - 300_000)
                for path, node in copy.observed(layer_id).nodes.items()
            }
            equal(f"the owners inside {layer_id} in the other store", found, expected)


@pytest.mark.quick
@pytest.mark.requirement("OVL-IDMAP-WHITEOUTS")
def test_deletions_survive_an_id_map(bench: Bench) -> None:
    """The kernel's whiteouts belong to whoever deleted, here the host's root, who is in no map."""
    with bench.store("origin", id_map=_MAP) as store, bench.store("copy", id_map=_MAP) as copy:
        for layer_id in store.build([owned_by_container(0), [ops.Unlink(b"f"), ops.RemoveDirectory(b"x")]]):
            copy.bring(store, layer_id)
        copy.shows_names("layer-1", {b"s"})


@pytest.mark.quick
@pytest.mark.requirement("OVL-IDMAP-UNMAPPED")
def test_an_owner_without_an_id_is_an_error(bench: Bench) -> None:
    with bench.store(id_map=_MAP) as store:
        store.build([[ops.CreateFile(b"host's", b"", 0o644), ops.Chown(b"host's", 5, 5)]])
        store.refuses(store.diffing("layer-0"))  # with a file of host user 5
        store.create("other")
        for inside in ((70_000, 0), (65_536, 0), (0, 65_536)):
            archive = store.archive([Entry("f", owner=inside)])
            store.refuses(store.applying("other", archive))


def fingerprint(directory: str) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a directory: mode, time of change and content."""
    found = {}
    for path in Path(directory).rglob("*"):
        status = path.lstat()
        regular = path.is_file() and not path.is_symlink()
        found[str(path)] = (status.st_mode, status.st_ctime_ns, path.read_bytes() if regular else b"")
    return found


@pytest.mark.requirement("OVL-STORE-READ")
def test_layers_of_an_image_store_are_read(bench: Bench) -> None:
    with store_with_images(bench) as (_, store):
        for layer_id in ("base", "child"):
            store.confirms(layer_id)
            if bench.has("image-mounts"):
                store.shows_model(layer_id)


@pytest.mark.smoke
@pytest.mark.requirement("OVL-STORE-READ")
def test_layers_of_every_image_store_are_read(bench: Bench) -> None:
    with bench.store("origin") as first, bench.store("second") as second:
        first.create("one")
        second.create("other")
        second.change("other", STANDARD)
        with bench.store("copy", image_stores=[first.image_store, second.image_store]) as store:
            store.knows(first, "one")
            store.knows(second, "other")
            store.confirms("one", "other")
            store.create("own", "other")
            store.shows_model("own")


@pytest.mark.quick
@pytest.mark.requirement("OVL-STORE-SHADOW")
def test_an_image_keeps_its_lowers_beside_layers_of_their_names(bench: Bench) -> None:
    with bench.store("origin") as images:
        images.build([STANDARD, [ops.CreateFile(b"image", b"image", 0o644)]])
        with bench.directory() as directory:
            # The home has its layer before it is given image stores: later it would be an id that is taken.
            with bench.store("home", lambda _: directory / "home") as plain:
                plain.create("layer-0")
                plain.change("layer-0", [ops.CreateFile(b"home", b"home", 0o644)])
            stores = [images.image_store]
            with bench.store("home", lambda _: directory / "home", image_stores=stores) as store:
                store.note("of which it has a layer-0 of its own")
                store.knows(images, "layer-1")
                store.create("own", "layer-1")
                store.shows_model("own")


@pytest.mark.requirement("OVL-STORE-SHADOW")
@pytest.mark.parametrize("parent", ["", "base"], ids=["a base layer", "a layer on another"])
def test_the_id_of_an_image_is_taken_or_becomes_that_of_the_home(bench: Bench, parent: str) -> None:
    """No text says which. What was built on the image stays."""
    with store_with_images(bench) as (_, store):
        store.create("own", "child")
        refusal = store.may_refuse(Create("child", parent))
        store.record("a layer with the id of an image", "is created" if refusal is None else "is refused")
        store.shows_model("own")
        if refusal is None:
            store.shows_model("child")


@pytest.mark.quick
@pytest.mark.requirement("OVL-STORE-BUILD-ON")
def test_a_layer_is_built_on_an_image(bench: Bench) -> None:
    with store_with_images(bench) as (_, store):
        store.create("own", "child")
        store.change("own", [ops.RemoveTree(b"d"), ops.CreateFile(b"own", b"own", 0o644)])
        store.shows_model("own")
        store.diff_holds("own", ".wh.d", "own")
        store.create("twin", "child")
        store.apply("twin", store.diff("own"))
        same_tree("a twin of own", store.observed("own"), store.observed("twin"), times="files")


@pytest.mark.requirement("OVL-STORE-UNTOUCHED")
def test_an_image_store_stays_as_it_is(bench: Bench) -> None:
    with store_with_images(bench) as (images, store):
        before = fingerprint(images.image_store)
        store.create("own", "child")
        store.change("own", [ops.RemoveTree(b"d"), ops.CreateFile(b"own", b"own", 0o644)])
        for layer_id in ("base", "child", "own"):
            if layer_id == "own" or bench.has("image-mounts"):
                store.observed(layer_id)
            store.diff(layer_id, "" if layer_id == "base" else {"child": "base", "own": "child"}[layer_id])
        for layer_id in ("own", "child", "base"):
            store.may_refuse(Remove(layer_id))
        after = fingerprint(images.image_store)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        nothing("changed paths of the image store", changed)


@pytest.mark.quick
@pytest.mark.requirement("OVL-STORE-REMOVE")
def test_an_image_is_not_removed_or_changed(bench: Bench) -> None:
    with store_with_images(bench) as (images, store):
        store.refuses(Remove("child"))
        archive = store.archive([archives.file("new")])
        store.refuses(store.applying("child", archive))
        images.shows_model("child")


@pytest.mark.quick
@pytest.mark.requirement("OVL-STORE-REMOVE")
def test_a_refused_removal_of_an_image_leaves_its_mount(bench: Bench) -> None:
    bench.need("image-mounts")
    with store_with_images(bench) as (_, store):
        root = store.do(Get("child"))
        store.refuses(Remove("child"))
        tree_stays(root, "of the image after the refusal", "d")
        store.do(Put("child"))


@pytest.mark.quick
@pytest.mark.requirement("OVL-STORE-HOME-FIRST")
def test_the_first_store_comes_first(bench: Bench) -> None:
    with bench.store("origin") as first, bench.store("second") as second:
        with_file(first, "both", b"first")
        second.create("both")
        stores = [first.image_store, second.image_store]
        with bench.store("home", image_stores=stores) as store:
            store.shows_names("both", {b"first"})


@pytest.mark.requirement("OVL-STORE-HOME-FIRST")
@pytest.mark.parametrize("parent", ["", "base"], ids=["a base layer", "a layer on another"])
def test_the_home_comes_before_the_stores(bench: Bench, parent: str) -> None:
    with bench.store("origin") as images, bench.directory() as directory:
        images.create("own")
        # The home has its layer before it is given image stores: later it would be an id that is taken.
        with bench.store("home", lambda _: directory / "home") as plain:
            if parent:
                plain.create(parent)
            with_file(plain, "own", b"home", parent)
        stores = [images.image_store]
        with bench.store("home", lambda _: directory / "home", image_stores=stores) as store:
            store.shows_names("own", {b"home"})


@pytest.mark.requirement("OVL-STORE-HOME-FIRST")
def test_the_parent_of_a_diff_is_that_of_the_home(bench: Bench) -> None:
    """It is not the layer of that id which the image was built on, so that all between the two is in the diff."""
    bench.need("diff", "apply")
    with bench.store("origin") as images, bench.directory() as directory:
        images.build([STANDARD, [ops.CreateFile(b"image", b"image", 0o644)]])
        with bench.store("home", lambda _: directory / "home") as plain:
            with_file(plain, "layer-0", b"home")
        stores = [images.image_store]
        with bench.store("home", lambda _: directory / "home", image_stores=stores) as store:
            store.note("of which it has a layer-0 of its own")
            store.knows(images, "layer-1")
            call = store.diffing("layer-1", "layer-0")
            if store.may_refuse(call) is not None:
                return
            store.create("twin")
            store.change("twin", [ops.CreateFile(b"home", b"home", 0o644)])
            store.create("made", "twin")
            store.do(ApplyDiff("made", "twin", call.archive))
            expected = store.expected("layer-1").without_directory_times()
            same_tree("the twin of the image", expected, store.observed("made"), times="files")


def with_file(store: Store, layer_id: str, name: bytes, parent: str = "") -> None:
    """A layer with one file."""
    store.create(layer_id, parent)
    store.change(layer_id, [ops.CreateFile(name, name, 0o644)])


@pytest.mark.requirement("OVL-STORE-LONG")
def test_images_are_reached_with_long_options(bench: Bench) -> None:
    def far(directory: Path) -> Path:
        return directory / ("f" * 200)

    with bench.store("origin", far) as images:
        ids = images.build([[ops.CreateFile(b"file-%d" % number, b"%d" % number, 0o644)] for number in range(40)])
        with bench.store("copy", far, image_stores=[images.image_store]) as store:
            store.knows(images, *ids)
            store.create("own", ids[-1])
            store.change("own", [ops.Unlink(b"file-3"), ops.CreateFile(b"own", b"own", 0o644)])
            store.shows_model("own")
            if bench.has("image-mounts"):
                store.shows_model(ids[-1])


@pytest.mark.requirement("OVL-STORE-LONG")
def test_an_image_store_whose_path_begins_as_that_of_the_home(bench: Bench) -> None:
    """What is in .../overlay-2 is not below .../overlay. The chain is too long for absolute paths on a page."""
    with (
        bench.directory() as directory,
        bench.store("origin", lambda _: directory / "home" / "overlay-2") as images,
        bench.store("copy", lambda _: directory / "home", image_stores=[images.image_store]) as store,
    ):
        ids = images.build([[ops.CreateFile(b"first", b"first", 0o644)], *[()] * 79])
        store.knows(images, *ids)
        store.create("own", ids[-1])
        store.change("own", [ops.CreateFile(b"own", b"own", 0o644)])
        store.shows_model("own")
