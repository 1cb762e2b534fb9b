"""What the changes of a layer say of a path."""

from __future__ import annotations

from collections import Counter

from conformance.harness.assertions import equal, nothing
from conformance.harness.bench import Store
from conformance.history.calls import Changes
from conformance.history.findings import WrongAnswer, WrongChange
from conformance.operations.trees import Node, Snapshot
from conformance.suites.comparable import may_be_equal


def changes_of(store: Store, layer_id: str, parent: str | None = None) -> dict[bytes, str]:
    """The kind of change by relative path; raises Deviation for a path that is listed twice."""
    against = store.parent_of(layer_id) if parent is None else parent
    found = store.do(Changes(layer_id, against))
    twice = [path for path, count in Counter(change.path for change in found).items() if count > 1]
    nothing(f"paths that the changes of {layer_id} list more than once", twice, WrongAnswer())
    return {change.path.lstrip(b"/"): change.kind for change in found if change.path != b"/"}


def says(layer_id: str, path: bytes, kind: str, changes: dict[bytes, str]) -> None:
    """The changes say this of one path, "" for nothing; raises Deviation."""
    found = changes.get(path, "")
    what = f"what the changes of {layer_id} say of {path!r}"
    equal(what, found or "nothing", kind or "nothing", WrongChange(path, kind, found))


def gone_with_a_parent(path: bytes, after: Snapshot, changes: dict[bytes, str]) -> bool:
    """Whether something above the path was deleted, or became something else than a directory."""
    parts = path.split(b"/")
    above = [b"/".join(parts[:end]) for end in range(1, len(parts))]
    return any(
        changes.get(one) == "delete" or (one in after.nodes and not after.nodes[one].is_directory) for one in above
    )


def differ(before: Node, after: Node, *, times: bool = False) -> bool:
    """Whether two nodes of one path differ in what changes are about, with ``times`` those of files included.

    Not the times of directories (behaviour#directory-times).
    """
    if times and not after.is_directory and before.mtime_ns != after.mtime_ns and not may_be_equal(before, after):
        return True
    return (before.mode, before.uid, before.gid, before.content, before.target, before.device) != (
        after.mode,
        after.uid,
        after.gid,
        after.content,
        after.target,
        after.device,
    )


def explain(
    layer_id: str, before: Snapshot, after: Snapshot, changes: dict[bytes, str], *, exactly: bool = False
) -> None:
    """The changes say how one tree becomes the other; raises Deviation.

    An entry that was copied up and is as it was may be listed as modified, unless the changes are to be the
    differences ``exactly``; then files whose time alone differs are to be there too, and files that only got
    another name may be.
    """
    wanted: dict[bytes, str] = {}
    for path in after.nodes.keys() - before.nodes.keys():
        wanted[path] = "add"
    for path in before.nodes.keys() - after.nodes.keys():
        if not gone_with_a_parent(path, after, changes):
            wanted[path] = "delete"
    for path in before.nodes.keys() & after.nodes.keys():
        if differ(before.nodes[path], after.nodes[path], times=exactly):
            wanted[path] = "modify"
    for path, kind in sorted(wanted.items()):
        says(layer_id, path, kind, changes)
    for path, kind in sorted(changes.items()):
        allowed = {"modify"} if path in before.nodes and path in after.nodes else set()
        if exactly and allowed and _is_the_same(path, before, after):
            allowed = set()
        if path in before.nodes and path not in after.nodes:
            allowed = {"delete"}
        if wanted.get(path, kind if kind in allowed else None) != kind:
            says(layer_id, path, "", changes)


def _is_the_same(path: bytes, before: Snapshot, after: Snapshot) -> bool:
    linked = any(path in group and group not in before.link_groups for group in after.link_groups)
    return not linked and not after.nodes[path].is_directory and before.nodes[path] == after.nodes[path]
