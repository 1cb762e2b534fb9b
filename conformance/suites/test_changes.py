"""Changes explain the child: every path that differs, once, and of the right kind."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.model import Node, Snapshot
from conformance.bench import Bench
from conformance.strategies import chains
from conformance.workbench import Deviation, Workbench


def changes_of(store: Workbench, layer_id: str) -> dict[bytes, str]:
    """The kind of change by relative path; raises Deviation for a path that is listed twice."""
    store.tell(f"changes of {layer_id}")
    found = store.driver.changes(layer_id, store.parent_of(layer_id))
    twice = [path for path, count in Counter(change.path for change in found).items() if count > 1]
    if twice:
        raise Deviation(f"changes of {layer_id} list these paths more than once: {twice}")
    return {change.path.lstrip(b"/"): change.kind for change in found if change.path != b"/"}


def gone_with_a_parent(path: bytes, after: Snapshot, changes: dict[bytes, str]) -> bool:
    """Whether something above the path was deleted, or became something else than a directory."""
    parts = path.split(b"/")
    above = [b"/".join(parts[:end]) for end in range(1, len(parts))]
    return any(
        changes.get(one) == "delete" or (one in after.nodes and not after.nodes[one].is_directory) for one in above
    )


def differ(before: Node, after: Node) -> bool:
    """Whether two nodes of one path differ in what changes are about. Times of directories are left out."""
    return (before.mode, before.uid, before.gid, before.content, before.target, before.device) != (
        after.mode,
        after.uid,
        after.gid,
        after.content,
        after.target,
        after.device,
    )


@pytest.mark.requirement("OVL-CHANGES-EXPLAIN")
@given(data=st.data())
def test_changes_explain_the_child(bench: Bench, data: st.DataObject) -> None:
    chain = data.draw(chains(privileged=bench.privileged, least=2))
    with bench.store() as store:
        for layer_id in store.build(chain)[1:]:
            before, after = store.expected(store.parent_of(layer_id)), store.expected(layer_id)
            explain(layer_id, before, after, changes_of(store, layer_id))


def explain(layer_id: str, before: Snapshot, after: Snapshot, changes: dict[bytes, str]) -> None:
    wanted: dict[bytes, str] = {}
    for path in after.nodes.keys() - before.nodes.keys():
        wanted[path] = "add"
    for path in before.nodes.keys() - after.nodes.keys():
        if not gone_with_a_parent(path, after, changes):
            wanted[path] = "delete"
    for path in before.nodes.keys() & after.nodes.keys():
        if differ(before.nodes[path], after.nodes[path]):
            wanted[path] = "modify"
    for path, kind in sorted(wanted.items()):
        if changes.get(path) != kind:
            raise Deviation(
                f"changes of {layer_id}: expected {kind} of {path!r}, got {changes.get(path, 'nothing')}"
            )
    for path, kind in sorted(changes.items()):
        # An entry that was copied up and is as it was may be listed as modified: that explains nothing wrongly.
        allowed = {"modify"} if path in before.nodes and path in after.nodes else set()
        if path in before.nodes and path not in after.nodes:
            allowed = {"delete"}
        if wanted.get(path, kind if kind in allowed else None) != kind:
            raise Deviation(f"changes of {layer_id}: {kind} of {path!r} did not happen")


@pytest.mark.requirement("OVL-CHANGES-PARENTS")
@given(data=st.data())
def test_the_directory_of_an_addition_or_deletion_is_listed(bench: Bench, data: st.DataObject) -> None:
    chain = data.draw(chains(privileged=bench.privileged, least=2))
    with bench.store() as store:
        for layer_id in store.build(chain)[1:]:
            changes = changes_of(store, layer_id)
            for path in (path for path, kind in changes.items() if kind != "modify"):
                parent = os.path.dirname(path)
                if parent and parent not in changes:
                    raise Deviation(f"changes of {layer_id} list {path!r} and not its directory {parent!r}")
