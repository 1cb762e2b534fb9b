"""What a driver answers for the path of a tree. Every other test checks the same where it gets a tree."""

from __future__ import annotations

import pytest

from conformance.harness.bench import Bench, Store
from conformance.history.calls import Get, Put, Reopen
from conformance.operations import ops
from conformance.operations.standard import STANDARD


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-CONTAINED")
def test_trees_are_below_their_own_store(bench: Bench) -> None:
    """harness.contained checks every get; two stores are open, with the same layers."""
    with bench.store("origin") as one, bench.store("second") as other:
        for store in (one, other):
            store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]])
        for layer_id in ("layer-0", "layer-1"):
            _get_and_put(one, layer_id)
            _get_and_put(other, layer_id)
        other.do(Reopen())
        _get_and_put(other, "layer-1")


@pytest.mark.requirement("OVL-MOUNT-CONTAINED")
def test_trees_of_images_are_below_their_store(bench: Bench) -> None:
    bench.need("image-stores", "image-mounts")
    with bench.store("origin") as images:
        images.create("image")
        with bench.store("copy", image_stores=[images.image_store]) as store:
            store.knows(images, "image")
            store.create("own", "image")
            _get_and_put(store, "image")
            _get_and_put(store, "own")


def _get_and_put(store: Store, layer_id: str) -> None:
    store.do(Get(layer_id))
    store.do(Put(layer_id))
