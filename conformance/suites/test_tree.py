"""The merged view: what a layer shows is what its operations made of its parent's tree."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import equal
from conformance.harness.bench import Bench
from conformance.harness.deviation import charged_to
from conformance.history.calls import Get, Put
from conformance.operations import ops
from conformance.operations.standard import CAPABILITY
from conformance.operations.strategies import chains


@pytest.mark.requirement("OVL-TREE-MODEL", "OVL-TREE-ERRNO", "OVL-TREE-PARENT-UNTOUCHED")
@given(data=st.data())
def test_every_layer_shows_what_the_model_says(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store() as store:
        ids: list[str] = []
        for number, operations in enumerate(chain):
            ids.append(store.create(f"layer-{number}", ids[-1] if ids else ""))
            with charged_to("OVL-TREE-ERRNO"):
                store.change(ids[-1], operations)
            # Those below were right when they were made; since then this one was written over them.
            with charged_to("OVL-TREE-PARENT-UNTOUCHED"):
                for layer_id in reversed(ids[:-1]):
                    store.shows_model(layer_id)
            with charged_to("OVL-TREE-MODEL"):
                store.shows_model(ids[-1])


@pytest.mark.quick
@pytest.mark.requirement("OVL-TREE-COPY-UP-RIGHTS")
def test_writing_to_a_lower_file_gives_no_rights(bench: Bench) -> None:
    """The kernel clears the capability of what is written; the model does too."""
    base: list[ops.Operation] = [
        ops.CreateFile(b"x", b"#!", 0o755),
        ops.SetXattr(b"x", "security.capability", CAPABILITY),
        ops.CreateFile(b"setuid", b"#!", 0o4755),
    ]
    with bench.store() as store:
        store.build([base, [ops.WriteAt(b"x", 2, b"more"), ops.Chown(b"setuid", 1000, 1000)]])
        store.shows_model("layer-1")
        store.shows_model("layer-0")


@pytest.mark.requirement("OVL-TREE-NAMES-ONCE")
def test_a_merged_directory_lists_each_name_once(bench: Bench) -> None:
    names = [b"d/%s-%d" % (b"n" * 100, number) for number in range(150)]
    with bench.store() as store:
        ids = store.build(
            [[ops.MakeDirectory(b"d", 0o755), *(ops.CreateFile(name, b"0", 0o644) for name in names)]]
        )
        for number in (1, 2):
            ids.append(store.create(f"layer-{number}", ids[-1]))
            again = names[number :: number + 1]
            store.change(
                ids[-1], [*map(ops.Unlink, again), *(ops.CreateFile(name, b"%d" % number, 0o644) for name in again)]
            )
        for layer_id in ids:
            root = store.do(Get(layer_id))
            listed = os.listdir(f"{root}/d")
            store.do(Put(layer_id))
            counts = len(listed), len(set(listed))
            equal(
                f"how many names {layer_id} lists in 'd', and how many different", counts, (len(names), len(names))
            )
            store.shows_model(layer_id)
