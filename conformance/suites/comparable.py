"""What a diff between two layers brings, and what a comparison of two trees may miss: behaviour#naive-diff."""

from __future__ import annotations

from dataclasses import replace

from conformance.operations.trees import Node, Snapshot


def may_be_equal(before: Node | None, after: Node) -> bool:
    """Whether two times are different ones of one second, of which one has no fraction, as archives cut them."""
    if before is None or before.mtime_ns is None or after.mtime_ns is None or before.mtime_ns == after.mtime_ns:
        return False
    (second, fraction), (second_after, fraction_after) = (
        divmod(one, 10**9) for one in (before.mtime_ns, after.mtime_ns)
    )
    return second == second_after and (not fraction or not fraction_after)


def brought(before: Snapshot, after: Snapshot) -> Snapshot:
    """The tree that a diff makes of the first: the second, but for such times and those of directories."""
    nodes = {
        path: replace(node, mtime_ns=None) if may_be_equal(before.nodes.get(path), node) else node
        for path, node in after.without_directory_times().nodes.items()
    }
    return Snapshot(nodes, after.link_groups)


def with_new_links(before: Snapshot, tree: Snapshot) -> Snapshot:
    """The tree with links of names alone that the first lacks.

    For drivers that decline ``compared-links``: a file that did not change is in no diff of theirs, so that a new
    name of it is a file of its own.
    """
    groups = (group - before.nodes.keys() for group in tree.link_groups)
    return Snapshot(tree.nodes, frozenset(frozenset(group) for group in groups if len(group) > 1))
