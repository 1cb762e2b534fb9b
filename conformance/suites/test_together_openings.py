"""Two openings of one home: what one makes, holds or closes, the other finds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from conformance.drivers.protocol import DriverFailed, DriverRefused, DriverUnderTest
from conformance.harness.assertions import equal
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import charged_to
from conformance.history.calls import Get, Put
from conformance.lab import namespace
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.suites.callers import all_done, together
from conformance.suites.mounts import mounted_once, nothing_mounted, tree_stays

_LAYERS = 4
_ROUNDS = 5
_CLOSINGS = 40


def _family(store: Store) -> list[str]:
    """Layers on one other, each with a file 'new'; their ids."""
    store.build([STANDARD])
    ids = [f"child-{number}" for number in range(_LAYERS)]
    for layer_id in ids:
        store.create(layer_id, "layer-0")
        store.change(layer_id, [ops.CreateFile(b"new", layer_id.encode(), 0o644)])
    return ids


def _get_and_put_all(store: Store, ids: list[str]) -> None:
    """Get the layers concurrently, look at them, and put them concurrently; raises Deviation."""
    gets: list[Callable[[], str]] = [functools.partial(store.do, Get(layer_id)) for layer_id in ids]
    roots = together(gets)
    all_done(roots, "get")
    for layer_id, root in zip(ids, roots, strict=True):
        mounted_once(store, root)
        tree_stays(root, f"of {layer_id}, got beside others")
        with open(f"{root}/new", "rb") as file:
            equal(f"the content of 'new' in {layer_id}", file.read(), layer_id.encode())
    all_done(together([functools.partial(store.do, Put(layer_id)) for layer_id in ids]), "put")
    nothing_mounted(store, "after every layer was put")


@pytest.mark.requirement("OVL-PARALLEL-GET")
def test_several_layers_are_got_at_once(bench: Bench) -> None:
    with bench.store() as store:
        ids = _family(store)
        for _ in range(_ROUNDS):
            store.note(f"{_LAYERS} concurrent callers get {', '.join(ids)}, and then put them")
            _get_and_put_all(store, ids)


@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
def test_an_opening_that_is_closed_takes_nothing_from_another(bench: Bench) -> None:
    """Whatever the one undoes when it is closed, the other can use the home as before."""
    bench.need("own-home")
    with bench.store() as store:
        ids = _family(store)
        for _ in range(_ROUNDS):
            store.note("open the home once more, and close that opening")
            store.another_opening().close()
            store.note(f"{_LAYERS} concurrent callers get {', '.join(ids)}, and then put them")
            _get_and_put_all(store, ids)
        store.another_opening().close()


@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
def test_layers_are_got_while_openings_are_closed(bench: Bench) -> None:
    """What a closing undoes may be what a get is about to use."""
    bench.need("own-home")
    with bench.store() as store:
        ids = _family(store)
        rounds = _CLOSINGS if bench.patient else _ROUNDS
        store.note(f"concurrently: {rounds} openings are closed, and 2 callers get, read and put a layer, as often")
        # A command that closes the home takes the mounts of others by force, so what was got may be gone.
        callers = [
            functools.partial(_use, store, layer_id, rounds, stays=not bench.commands) for layer_id in ids[:2]
        ]
        outcomes = together([*callers, functools.partial(_open_and_close, store, rounds)])
        all_done(outcomes[:2], "get and put, while other openings are closed")
        nothing_mounted(store, "after every layer was put")
        for layer_id in ids:
            store.shows_model(layer_id)


def _use(store: Store, layer_id: str, rounds: int, *, stays: bool) -> None:
    for _ in range(rounds):
        root = store.do(Get(layer_id))
        if stays:
            with charged_to("OVL-PARALLEL-PROCESSES"):
                tree_stays(root, f"of {layer_id}, got while other openings are closed")
        store.do(Put(layer_id))


def _open_and_close(store: Store, rounds: int) -> None:
    for _ in range(rounds):
        _close(store.another_opening())


@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
def test_what_is_mounted_outlives_another_opening(bench: Bench) -> None:
    """A layer that this opening holds, and a filesystem that belongs to nobody here."""
    bench.need("own-home")
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]])
        bench.state_of(store)  # where a command closes the home, it takes the mounts of others by force
        foreign = Path(store.home) / ".foreign"
        foreign.mkdir()
        namespace.mount_tmpfs(foreign)
        (foreign / "file").touch()
        root = store.do(Get("layer-1"))
        store.note(f"open the home once more, and close that opening; a filesystem is mounted on {foreign}")
        _close(store.another_opening())
        tree_stays(root, "that this opening holds")
        equal("what the filesystem that others mounted holds", os.listdir(foreign), ["file"])
        store.do(Put("layer-1"))
        namespace.unmount(foreign)


def _close(other: DriverUnderTest) -> None:
    """Close an opening, which may be refused."""
    try:
        with suppress(DriverRefused, DriverFailed):
            other.close()
    finally:
        with suppress(DriverRefused, DriverFailed):
            other.leave()


@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
@pytest.mark.parametrize("where", ["home", "image store"])
def test_a_closing_that_is_refused_changes_nothing(bench: Bench, where: str) -> None:
    """A driver may refuse to close a home in which layers are mounted; then they stay as they are."""
    chain = [STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]]
    if where == "home":
        with bench.store() as store:
            store.build(chain)
            _close_with_a_mount(bench, store)
        return
    bench.need("image-stores", "image-mounts")
    with bench.store("origin") as images:
        images.build(chain)
        with bench.store("copy", image_stores=[images.image_store]) as store:
            store.knows(images, "layer-0", "layer-1")
            _close_with_a_mount(bench, store)


def _close_with_a_mount(bench: Bench, store: Store) -> None:
    bench.state_of(store)  # where a command closes the home, it takes the mounts of others by force
    other = store.another_opening()
    try:
        store.note("another opening gets layer-1, and is closed")
        root = other.get("layer-1")
        try:
            other.close()
        except DriverRefused:
            tree_stays(root, "of a home whose closing was refused")
            equal("the path of layer-1 in the first opening", store.do(Get("layer-1")), root)
            mounted_once(store, root)
            for _ in range(2):
                tree_stays(root, "with a get that is not put yet")
                store.do(Put("layer-1"))
            nothing_mounted(store, "after the last put")
        else:
            store.may_refuse(Put("layer-1"))  # it may have been put by the closing
        store.shows_model("layer-1")
    finally:
        with suppress(DriverRefused, DriverFailed):
            other.leave()
