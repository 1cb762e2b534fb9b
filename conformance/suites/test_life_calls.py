"""Any calls in any order: none does more than it says, whether it is done or refused.

What is compared is in conformance.harness.invariants, which looks on in every other test, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.drivers.protocol import DriverRefused
from conformance.harness.bench import Bench, Store
from conformance.history.calls import (
    ApplyDiff,
    Call,
    Changes,
    Create,
    Diff,
    DiffSize,
    Exists,
    Get,
    Metadata,
    Put,
    Remove,
    Reopen,
    Status,
)
from conformance.operations import ops
from conformance.operations.archives import Entry
from conformance.operations.standard import STANDARD
from conformance.suites.reading import three_layers

# The first three are a chain and the fourth is beside it; the fifth is made by a call, if at all.
_IDS = ("layer-0", "layer-1", "layer-2", "beside", "later", "missing")
_ARCHIVES = ("applied", "cut", "escaping")


def every_call(bench: Bench) -> list[Call]:
    """Each call on each of the layers, the harmless first: against the direct parent, another layer, and none."""
    found: list[Call] = [Exists(one) for one in _IDS]
    if bench.has("status"):
        found.append(Status())
    if bench.has("metadata"):
        found += [Metadata(one) for one in _IDS]
    parents = ("", "layer-0", "layer-1", "missing")
    compared: dict[str, Callable[[str, str], Call]] = {
        "changes": Changes,
        "diff-size": DiffSize,
        "diff": lambda layer, parent: Diff(layer, parent, "written"),
    }
    for capability, make in compared.items():
        if bench.has(capability):
            found += [make(one, parent) for one in _IDS for parent in parents]
    found += [kind(one) for kind in (Get, Get, Put) for one in _IDS]
    found += [Create(one, parent) for one in _IDS for parent in parents]
    if bench.has("apply"):
        found += [ApplyDiff(one, "layer-0", archive) for one in ("beside", "missing") for archive in _ARCHIVES]
    return [*found, *(Remove(one) for one in _IDS), *(Put(one) for one in _IDS), *(Remove(one) for one in _IDS)]


def calls(bench: Bench) -> st.SearchStrategy[Call]:
    """Any call that the driver can be asked for."""
    layer, parent = st.sampled_from(_IDS), st.sampled_from(("", *_IDS))
    kinds: list[st.SearchStrategy[Call]] = [
        st.builds(Create, layer, parent),
        st.builds(Remove, layer),
        st.builds(Get, layer),
        st.builds(Put, layer),
        st.builds(Exists, layer),
    ]
    if bench.has("options"):
        kinds.append(st.builds(Create, layer, parent, st.just({"unknown": "1"}), st.booleans()))
    optional: dict[str, st.SearchStrategy[Call]] = {
        "status": st.just(Status()),
        "metadata": st.builds(Metadata, layer),
        "diff": st.builds(Diff, layer, parent, st.just("written")),
        "apply": st.builds(ApplyDiff, layer, parent, st.sampled_from(_ARCHIVES)),
        "diff-size": st.builds(DiffSize, layer, parent),
        "changes": st.builds(Changes, layer, parent),
    }
    kinds += [strategy for capability, strategy in optional.items() if bench.has(capability)]
    return st.one_of(kinds)


@pytest.mark.quick
@pytest.mark.requirement("OVL-LIFE-CALL-FILES", "OVL-MOUNT-CALLS")
def test_each_call_on_each_layer(bench: Bench) -> None:
    with bench.store() as store:
        _perform_all(store, every_call(bench))


@pytest.mark.requirement("OVL-LIFE-CALL-FILES", "OVL-MOUNT-CALLS")
@given(data=st.data())
def test_no_call_does_more_than_it_says(bench: Bench, data: st.DataObject) -> None:
    drawn = bench.draw(data, st.lists(calls(bench), max_size=12))
    with bench.store() as store:
        _perform_all(store, drawn)


def _perform_all(store: Store, wanted: Iterable[Call]) -> None:
    store.build([STANDARD, [ops.Unlink(b"a"), ops.Chmod(b"d", 0o711)], [ops.RemoveTree(b"d")]])
    store.create("beside", "layer-0")
    archives = _made_archives(store)
    held: Counter[str] = Counter()
    for call in wanted:
        _perform(store, _with_archive(store, call, archives), held)
    for layer_id in held.elements():
        store.may_refuse(Put(layer_id))


def _perform(store: Store, call: Call, held: Counter[str]) -> None:
    try:
        store.do(call)
    except DriverRefused:
        return
    if isinstance(call, Get):
        held[call.layer] += 1
    elif isinstance(call, Put) and held[call.layer]:
        held[call.layer] -= 1


def _made_archives(store: Store) -> dict[str, str]:
    """Archives by what becomes of them, with their labels."""
    whole = store.archive([Entry("new/", mode=0o755), Entry("new/file", content=b"new")])
    cut = store.bytes_of_archive(whole.read_bytes()[:700], "an archive that is cut in an entry")
    escaping = store.archive([Entry("../escaped", content=b"")])
    return {name: store.label(path) for name, path in zip(_ARCHIVES, (whole, cut, escaping), strict=True)}


def _with_archive(store: Store, call: Call, archives: dict[str, str]) -> Call:
    if isinstance(call, Diff):
        return store.diffing(call.layer, call.parent)
    return replace(call, archive=archives[call.archive]) if isinstance(call, ApplyDiff) else call


@pytest.mark.requirement("OVL-LIFE-REMOVE-PARENT")
def test_a_layer_without_its_link_stays_under_others(bench: Bench) -> None:
    bench.need("home-layout")
    with bench.store() as store:
        three_layers(store)
        store.tamper([ops.Unlink(b"layer-1/link")])
        store.do(Reopen())
        store.refuses(Remove("layer-1"))
        store.shows_model("layer-2")
