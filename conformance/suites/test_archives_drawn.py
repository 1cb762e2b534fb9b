"""Archives of any entries, in layers on each other, as the model of applying says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import Deviation
from conformance.history.calls import ApplyDiff
from conformance.history.findings import NotDone
from conformance.operations import archives
from conformance.operations.alternatives import alternatives, depends_on_following
from conformance.operations.applying import applied
from conformance.operations.comparing import compared
from conformance.operations.entrystrategies import layer_archives
from conformance.operations.layering import layer_entries
from conformance.operations.members import Member, members_of
from conformance.operations.model import Tree
from conformance.operations.standard import STANDARD
from conformance.operations.tarforms import Tarred, archive_of
from conformance.operations.trees import Node, Snapshot

_BASE: Final = "layer-0"


def _standard() -> bytes:
    """An archive of the standard tree."""
    tree = Tree()
    for operation in STANDARD:
        tree.apply(operation)
    return archive_of(layer_entries(Tree(), tree))


def _shows_one(store: Store, layer_id: str, layers: Sequence[Sequence[Member]]) -> None:
    """The layer shows a tree that the layer rules permit; raises Deviation."""
    found, links = store.observed(layer_id), store.tells_links(layer_id)
    permitted = [_open(one.tree, found).without_directory_times() for one in alternatives(layers)]
    if not links:
        permitted, found = [one.without_links() for one in permitted], found.without_links()
    nearest = min(permitted, key=lambda one: len(compared(one, found, times="files")))
    same_tree(f"the tree of {layer_id}", nearest, found, times="files")


def _open(tree: Snapshot, found: Snapshot) -> Snapshot:
    """The same tree, whatever the metadata of a directory without an entry is: no text says it."""

    def seen(path: bytes, node: Node) -> Node:
        there = found.nodes.get(path)
        is_open = node.is_directory and node.mtime_ns is None and there is not None and there.is_directory
        return there if there is not None and is_open else node

    return replace(tree, nodes={path: seen(path, node) for path, node in tree.nodes.items()})


def _decided(layers: Sequence[Sequence[Member]], entries: Sequence[Tarred]) -> list[Tarred]:
    """The entries without those for which a driver may refuse the archive, as most archives have one."""
    kept: list[Tarred] = []
    for entry in entries:
        if not applied([*layers, members_of(archive_of([*kept, entry]))]).refusable:
            kept.append(entry)
    return kept


@pytest.mark.requirement("OVL-APPLY-ENTRIES")
@given(data=st.data())
def test_archives_of_any_entries(bench: Bench, data: st.DataObject) -> None:
    """Two layers on the standard tree, the second against its parent or against a twin of it."""
    drawn = [bench.draw(data, layer_archives(privileged=bench.privileged)) for _ in range(2)]
    merged = bench.draw(data, st.booleans())
    wild = bench.draw(data, st.sampled_from((False, False, False, True)))
    layers = [members_of(_standard())]
    with bench.store() as store:
        parent = store.create(_BASE)
        store.apply(_BASE, store.bytes_of_archive(_standard(), "the standard tree"))
        for number, found in enumerate(drawn, start=1):
            entries = found if wild else _decided(layers, found)
            layers.append(members_of(archive_of(entries)))
            layer_id = store.create(f"layer-{number}", parent)
            against = parent
            if merged:
                against = store.create(f"twin-{number}", _BASE if number > 1 else "")
                store.apply(against, store.diff(parent))
            archive = store.bytes_of_archive(archive_of(entries), "drawn", *(one.describe() for one in entries))
            refusal = store.may_refuse(ApplyDiff(layer_id, against, store.label(archive)))
            if refusal is not None:
                # Whether a driver takes a parent that is not the layer's, no text says.
                if not merged and not applied(layers).refusable:
                    raise Deviation(f"the driver refused an archive that it must apply: {refusal}", NotDone())
                return
            if depends_on_following(layers):
                return
            _shows_one(store, layer_id, layers)
            parent = layer_id


@pytest.mark.requirement("OVL-APPLY-ENTRIES")
@pytest.mark.parametrize("between", ["", "whiteout", "more directories"])
def test_entries_below_a_symlink_that_another_replaces(bench: Bench, between: str) -> None:
    """They lie where the symlink leads then, or where it was, as directories: never where it led before."""
    others = {
        "": [],
        "whiteout": [archives.whiteout("one/.wh.none")],
        "more directories": [archives.file(f"other-{number}/f") for number in range(40)],
    }
    entries = [
        archives.directory("one"),
        archives.directory("two"),
        archives.symlink("s", "one"),
        archives.file("s/f"),
        *others[between],
        archives.symlink("s", "two"),
        archives.file("s/g"),
    ]
    with bench.store() as store:
        store.create(_BASE)
        archive = store.archive(entries)
        if store.may_refuse(store.applying(_BASE, archive)) is None:
            _shows_one(store, _BASE, [members_of(archive.read_bytes())])


@pytest.mark.requirement("OVL-APPLY-ENTRIES")
@pytest.mark.parametrize("depth", [3, 40])
def test_entries_below_a_symlink_that_leads_up(bench: Bench, depth: int) -> None:
    """Out of a tree that is deeper than an unpacker keeps directories open: to the root, or nearly there."""
    deep = "/".join(["s"] * depth)
    entries = [
        archives.directory("t"),
        archives.directory(deep),
        archives.symlink(f"{deep}/up", "../" * depth + "t"),
        archives.symlink(f"{deep}/less", "../" * (depth - 1) + "t"),
        archives.file(f"{deep}/up/f"),
        archives.directory("s/t"),
        archives.file(f"{deep}/less/g"),
    ]
    with bench.store() as store:
        store.create(_BASE)
        archive = store.archive(entries)
        if store.may_refuse(store.applying(_BASE, archive)) is None:
            _shows_one(store, _BASE, [members_of(archive.read_bytes())])
