"""Limits of layers, by project quota of xfs: what they hold to, what they leave alone, where they are refused."""

from __future__ import annotations

import math
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import between, equal, names
from conformance.harness.bench import Bench, Store
from conformance.harness.skips import not_applicable
from conformance.history.calls import Create, Get, Put, Remove, Reopen
from conformance.lab.project import put_into_project
from conformance.suites import limits
from conformance.suites.limits import BLOCK, MIB, SIZES, SPELLINGS, WAYS, Way, way_of
from conformance.suites.openings import refused

_SMALL = MIB
_FREED = 30.0  # seconds in which a filesystem has to give the space of removed files back
_NAMES = ("a", "b", "c")


@pytest.mark.requirement("OVL-QUOTA-UNSUPPORTED")
@given(data=st.data())
def test_a_limit_without_quota_is_refused(bench: Bench, data: st.DataObject) -> None:
    size = bench.draw(data, st.one_of(st.just("10g"), SPELLINGS))
    with bench.store() as store:
        store.create("base")
        store.refuses(Create("small", "base", {"size": size}))
        store.denies("small")


@pytest.mark.requirement("OVL-QUOTA-NO-PQUOTA")
def test_a_size_takes_a_mount_with_quota(bench: Bench) -> None:
    refused(bench, "size=10g", naming="quota")


@pytest.mark.quick
@pytest.mark.requirement("OVL-QUOTA-UNKNOWN-OPTION")
def test_an_unknown_option_of_a_layer_is_named(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        said = store.refuses(Create("x", "base", {"nonsense": "1"}))
        # Where no size is taken either, that is as good a reason.
        takes_sizes = bench.place.backing == "xfs" and bench.has("xfs-quota")
        if takes_sizes or "quota" not in said.lower():
            names(said, "nonsense")


@pytest.mark.quick
@pytest.mark.requirement("OVL-QUOTA-OF-IMAGES")
@pytest.mark.parametrize("key", ["size", "SIZE", "Size"])
@pytest.mark.parametrize("parent", ["", "base"], ids=["on-nothing", "on-a-layer"])
def test_a_size_is_not_for_a_layer_of_an_image(bench: Bench, key: str, parent: str) -> None:
    with bench.store() as store:
        store.create("base")
        for size in ("1m", "0"):
            store.refuses(Create("x", parent, {key: size}, read_write=False))
            store.denies("x")
        # A driver that crashed in that call did not refuse it.
        store.create("x", "base")
        store.shows_model("x")


@pytest.mark.requirement("OVL-QUOTA-OPTION-CASE")
@pytest.mark.parametrize("key", ["SIZE", "Size"])
def test_the_key_of_a_size_is_read_in_any_case(bench: Bench, key: str) -> None:
    with bench.store() as store:
        store.create("base")
        limits.create_read_write(store, "small", {key: str(_SMALL)})
        limits.has_limit(bench, store, "small", _SMALL)


@pytest.mark.requirement("OVL-QUOTA-SIZE-FORM")
@pytest.mark.parametrize("value", ["", "ten", "-1", "10x", "1.2.3g", "g", "10 g b", "0x10", "1,5g"])
def test_a_size_of_a_layer_is_a_number_and_a_unit(bench: Bench, value: str) -> None:
    with bench.store() as store:
        store.create("base")
        store.refuses(Create("x", "base", {"size": value}))
        store.denies("x")


def spelling_is_read(bench: Bench, data: st.DataObject, way: Way) -> None:
    """A layer has the limit that a spelling means, as it says and by what goes in, where that is soon tried."""
    spelling = bench.draw(data, SPELLINGS)
    meant = limits.bytes_meant(spelling)
    with way.store(bench, spelling) as store:
        way.create(store, "small", spelling)
        # A reader of floating point may be a byte off, and then a block.
        limits.says_size(store, "small", meant, 2 * BLOCK)
        if meant < 4 * MIB:
            limits.has_limit(bench, store, "small", meant)


@pytest.mark.requirement("OVL-QUOTA-SIZE-DRIVER")
@given(data=st.data())
def test_sizes_of_the_driver_are_spelled_in_many_ways(bench: Bench, data: st.DataObject) -> None:
    spelling_is_read(bench, data, Way(of_driver=True))


@pytest.mark.requirement("OVL-QUOTA-SIZE-LAYER")
@given(data=st.data())
def test_sizes_of_layers_are_spelled_in_many_ways(bench: Bench, data: st.DataObject) -> None:
    spelling_is_read(bench, data, Way(of_driver=False))


@pytest.mark.requirement("OVL-QUOTA-SIZE-ZERO")
@pytest.mark.parametrize("zero", ["0", "0b", "0.0", "0 G"])
@pytest.mark.parametrize("of_driver", [False, True], ids=["alone", "with-a-default"])
def test_a_size_of_nothing_is_no_limit(bench: Bench, zero: str, of_driver: bool) -> None:
    with bench.store(options=[f"size={_SMALL}"] if of_driver else []) as store:
        store.create("base")
        limits.create_read_write(store, "free", {"size": zero})
        limits.has_no_limit(store, "free", _SMALL)


@pytest.mark.quick
@pytest.mark.requirement("OVL-QUOTA-ENFORCED")
@given(data=st.data())
def test_a_limit_is_enforced(bench: Bench, data: st.DataObject) -> None:
    size = bench.draw(data, SIZES)
    way = way_of(bench, bench.draw(data, WAYS))
    parent = bench.draw(data, st.sampled_from(("base", "")))
    with way.store(bench, size) as store:
        way.create(store, "small", size, parent)
        limits.has_limit(bench, store, "small", size)


@pytest.mark.requirement("OVL-QUOTA-BELOW")
@given(data=st.data())
def test_below_the_limit_every_write_succeeds(bench: Bench, data: st.DataObject) -> None:
    size = bench.draw(data, SIZES)
    way = way_of(bench, bench.draw(data, WAYS))
    parts = bench.draw(data, st.lists(st.integers(1, 100), max_size=4))
    with way.store(bench, size) as store:
        way.create(store, "small", size)
        # One mount and files that are there: names and a directory for overlay's work take room of their own.
        root = store.do(Get("small"))
        try:
            files = [f"{root}/part-{number}" for number in range(len(parts) + 1)]
            for file in files:
                limits.fill_file(file, 0)
            _, most = limits.own_files(bench, store, "small")
            left = size // BLOCK - -(-most // BLOCK)
            # The last part takes all that is left.
            for file, percent in zip(files, [*parts, 100], strict=True):
                blocks = left * percent // 100
                store.note(f"write {blocks} of {left} blocks that are left into {os.path.basename(file)} of small")
                done = limits.fill_file(file, blocks * BLOCK)
                what = f"writing {blocks} of {left} blocks that are left, of which {done.taken / BLOCK} went in"
                equal(what, done.outcome, "success")
                left -= blocks
        finally:
            store.do(Put("small"))


@pytest.mark.requirement("OVL-QUOTA-FULL")
@given(data=st.data())
def test_a_full_layer_is_mounted_and_removed(bench: Bench, data: st.DataObject) -> None:
    size = bench.draw(data, SIZES)
    way = way_of(bench, bench.draw(data, WAYS))
    with way.store(bench, size) as store:
        limits.fill(store, "base", BLOCK, "of-the-base")
        way.create(store, "small", size)
        limits.has_limit(bench, store, "small", size)
        store.shows_names("small", {b"has-limit", b"of-the-base"})
        store.do(Remove("small"))
        store.denies("small")


@pytest.mark.requirement("OVL-QUOTA-STATFS")
@given(data=st.data())
def test_statfs_in_a_layer_tells_its_size(bench: Bench, data: st.DataObject) -> None:
    size = bench.draw(data, SIZES)
    way = way_of(bench, bench.draw(data, WAYS))
    with way.store(bench, size) as store:
        way.create(store, "small", size)
        limits.says_size(store, "small", size)
        limits.fill(store, "small", size // 2)
        limits.says_size(store, "small", size)


@pytest.mark.requirement("OVL-QUOTA-DEFAULT")
@given(data=st.data())
def test_a_size_of_its_own_comes_before_the_drivers(bench: Bench, data: st.DataObject) -> None:
    default, own = bench.draw(data, SIZES), bench.draw(data, SIZES)
    with bench.store(options=[f"size={default}"]) as store:
        store.create("base")
        limits.create_read_write(store, "with", {"size": str(own)})
        limits.create_read_write(store, "without", {})
        limits.has_limit(bench, store, "with", own)
        limits.has_limit(bench, store, "without", default)


@pytest.mark.quick
@pytest.mark.requirement("OVL-QUOTA-IMAGES")
@given(data=st.data())
def test_images_have_no_limit(bench: Bench, data: st.DataObject) -> None:
    size = bench.draw(data, SIZES)
    parent = bench.draw(data, st.sampled_from(("base", "")))
    with bench.store(options=[f"size={size}"]) as store:
        store.create("base")
        store.create("image", parent)
        limits.has_no_limit(store, "image", size)
        limits.has_no_limit(store, "base", size)


@pytest.mark.requirement("OVL-QUOTA-LOWERS")
@given(data=st.data())
def test_lowers_do_not_count_and_copies_do(bench: Bench, data: st.DataObject) -> None:
    size = bench.draw(data, SIZES)
    way = way_of(bench, bench.draw(data, WAYS))
    above, copied = bench.draw(data, st.integers(0, 2 * size)), bench.draw(data, st.integers(0, 200))
    with way.store(bench, size) as store:
        limits.fill(store, "base", above, "never-touched")
        limits.fill(store, "base", copied * BLOCK, "copied-up")
        way.create(store, "small", size)
        if copied:
            store.note("open the file copied-up of small for writing")
            root = store.do(Get("small"))
            os.close(os.open(f"{root}/copied-up", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW))
            store.do(Put("small"))
        copies = copied * BLOCK
        if not bench.has("home-layout"):
            limits.has_limit(bench, store, "small", size - copies)
            return
        # What is copied up is in the layer's directory by now.
        least, _ = limits.own_files(bench, store, "small")
        between(f"bytes in the directory of small, into which {copies} were copied up", least, copies, math.inf)
        limits.has_limit(bench, store, "small", size)


@pytest.mark.quick
@pytest.mark.requirement("OVL-QUOTA-OWN")
@given(data=st.data())
def test_a_limit_is_of_one_layer(bench: Bench, data: st.DataObject) -> None:
    way = way_of(bench, bench.draw(data, WAYS))
    drawn = bench.draw(data, st.lists(SIZES, min_size=2, max_size=3))
    sizes = dict(zip(_NAMES, [drawn[0]] * len(drawn) if way.of_driver else drawn, strict=False))
    order = bench.draw(data, st.permutations(sorted(sizes)))
    with way.store(bench, drawn[0]) as store:
        for layer_id, size in sizes.items():
            way.create(store, layer_id, size)
        for layer_id in order:
            limits.has_limit(bench, store, layer_id, sizes[layer_id])
        store.create("image", "base")
        for layer_id in ("image", "base"):
            limits.has_no_limit(store, layer_id, max(drawn))


@pytest.mark.requirement("OVL-QUOTA-REOPEN")
@given(data=st.data())
def test_a_limit_holds_after_opening_again(bench: Bench, data: st.DataObject) -> None:
    way = way_of(bench, bench.draw(data, WAYS))
    size = bench.draw(data, SIZES)
    with way.store(bench, size) as store:
        way.create(store, "small", size)
        store.do(Reopen())
        way.create(store, "later", size)
        limits.has_limit(bench, store, "small", size)
        limits.has_limit(bench, store, "later", size)


@pytest.mark.requirement("OVL-QUOTA-SPACE")
def test_removing_gives_space_back(bench: Bench) -> None:
    way, size = way_of(bench), 64 * MIB
    with way.store(bench, size) as store:
        before = free(store)
        way.create(store, "small", size)
        limits.fill(store, "small", size)
        during = free(store)
        store.do(Remove("small"))
        # A filesystem may free what was removed some time later, and on its own.
        end, least = time.monotonic() + _FREED, before - size // 4
        while (left := free(store)) < least and time.monotonic() < end:
            pass
        between(f"free bytes after the removal ({before} before, {during} when full)", left, least, math.inf)


def free(store: Store) -> int:
    """The bytes that are free on the filesystem of a store."""
    os.sync()
    said = os.statvfs(store.directory)
    return said.f_bfree * said.f_frsize


@pytest.mark.requirement("OVL-QUOTA-CLEARED")
@given(data=st.data())
def test_removing_clears_the_limit(bench: Bench, data: st.DataObject) -> None:
    way = way_of(bench, bench.draw(data, WAYS))
    size = bench.draw(data, SIZES)
    with way.store(bench, size) as store:
        way.create(store, "small", size)
        number = limits.project(store, "small")
        store.do(Remove("small"))
        other = store.directory / "other"
        other.mkdir()
        put_into_project(str(other), number, inherit=True)
        done = limits.fill_file(f"{other}/file", 2 * size)
        what = f"writing {2 * size} bytes to project {number} of a removed layer, of which {done.taken} went in"
        equal(what, done.outcome, "success")


@pytest.mark.requirement("OVL-QUOTA-OPEN-MOUNTED")
@given(data=st.data())
def test_a_home_opens_while_a_limited_layer_is_mounted(bench: Bench, data: st.DataObject) -> None:
    way = way_of(bench, bench.draw(data, WAYS))
    full = bench.draw(data, st.booleans())
    with way.store(bench, _SMALL) as store:
        way.create(store, "small", _SMALL)
        root = store.do(Get("small"))
        try:
            if full:
                limits.fill_file(f"{root}/before", 2 * _SMALL)
            store.note("open the home beside that, and make another layer")
            second = store.another_opening()
            try:
                second.create("later", "base", {} if way.of_driver else {"size": str(_SMALL)})
            finally:
                second.leave()
            if full:
                outcome = limits.fill_file(f"{root}/after", BLOCK * 4).outcome
                equal(
                    "whether the full layer took more after the home was opened again", outcome == "success", False
                )
        finally:
            store.do(Put("small"))
        for layer_id in ("later",) if full else ("small", "later"):
            limits.has_limit(bench, store, layer_id, _SMALL)


@pytest.mark.requirement("OVL-QUOTA-DEVICE")
@pytest.mark.parametrize("harm", ["gone", "another"])
def test_a_device_node_is_made_again(bench: Bench, harm: str) -> None:
    way = way_of(bench)
    with way.store(bench, _SMALL) as store:
        way.create(store, "small", _SMALL)
        nodes = [path for path in Path(store.home).iterdir() if stat.S_ISBLK(path.lstat().st_mode)]
        if not nodes:
            not_applicable("the driver keeps no device node in its home")
        for node in nodes:
            said = "remove" if harm == "gone" else "make a node of another device of"
            store.note(f"{said} {node.name}")
            node.unlink()
            if harm == "another":
                os.mknod(node, 0o600 | stat.S_IFBLK, os.makedev(500, 5))
        store.beyond("a device node of the home was removed or replaced")
        store.do(Reopen())
        way.create(store, "later", _SMALL)
        limits.has_limit(bench, store, "small", _SMALL)
        limits.has_limit(bench, store, "later", _SMALL)
