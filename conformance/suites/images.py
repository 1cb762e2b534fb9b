"""A store that reads layers of another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.harness.bench import Bench, Store
from conformance.operations import ops
from conformance.operations.standard import STANDARD


@contextmanager
def store_with_images(bench: Bench) -> Iterator[tuple[Store, Store]]:
    """A store whose layers "base" and "child" are images of another store, and that other store."""
    with bench.store("origin") as images:
        images.create("base")
        images.change("base", STANDARD)
        images.create("child", "base")
        images.change("child", [ops.Unlink(b"a"), ops.CreateFile(b"image", b"image", 0o644)])
        with bench.store("copy", image_stores=[images.image_store]) as store:
            store.knows(images, "base", "child")
            yield images, store
