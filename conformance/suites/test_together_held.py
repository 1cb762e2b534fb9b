"""A diff that another process has begun and nobody reads yet, beside gets and puts of its layer.

For a diff a driver may mount the layer, and others may end that mount, or take it for theirs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

import pytest

from conformance.harness.assertions import equal, same_entries
from conformance.harness.bench import Bench
from conformance.harness.entries import content_of
from conformance.history.calls import Get, Put
from conformance.lab.killing import Killable
from conformance.lab.pieces import Stall
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.suites.mounts import nothing_mounted, tree_stays
from conformance.suites.stalled import stalled

_PATIENCE: Final = 1.0  # seconds; a driver may let others wait for the end of a diff
_LARGE: Final = ops.CreateFile(b"large", b"large" * 40_000, 0o644)  # more than a pipe holds


@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
@pytest.mark.parametrize("put", ["before its end", "after its end"])
@pytest.mark.parametrize("parent", ["layer-1", "layer-0"], ids=["parent", "ancestor"])
def test_a_layer_is_used_during_a_diff_of_another_process(bench: Bench, parent: str, put: str) -> None:
    bench.need("diff")
    with bench.store() as store, ThreadPoolExecutor(1) as pool:
        store.build([STANDARD, [ops.Chmod(b"a", 0o600)], [ops.RemoveTree(b"d"), _LARGE]])
        alone = content_of(store.diff("layer-2", parent))
        was_put = refused = False
        with stalled(
            store,
            f"another process diffs layer-2 against {parent}, which nobody reads; then layer-2 is got",
            lambda driver, pipe: driver.diff("layer-2", parent, pipe),
        ) as (process, pipe):
            process.wait(lambda: pipe.unread > 0)
            getting = pool.submit(store.do, Get("layer-2"))
            wait([getting], _PATIENCE)
            if put == "before its end" and getting.done():
                tree_stays(getting.result(), "of a layer that another process diffs", "large")
                refused = store.may_refuse(Put("layer-2")) is not None
                was_put = not refused
            written = store.directory / "held.tar"
            written.write_bytes(_rest(process, pipe))
            equal("exit status of the process that writes the diff (2: it failed)", process.join(), 0)
            root = getting.result()
        same_entries(f"the diff of layer-2, which was got and put {put},", alone, content_of(written))
        if refused:  # which may have been counted
            store.may_refuse(Put("layer-2"))
        elif not was_put:
            tree_stays(root, "of a layer that is not put yet, after the diff of another process", "large")
            store.do(Put("layer-2"))
        nothing_mounted(store, "after the last put")


def _rest(process: Killable, pipe: Stall) -> bytes:
    """All that the process writes until it ends."""
    found = bytearray()
    while process.wait(lambda: pipe.unread > 0):
        found += pipe.take()
    return bytes(found)
