"""What a diff says of deletions."""

from __future__ import annotations

import os

from conformance.harness.assertions import nothing
from conformance.history.findings import WrongAnswer
from conformance.operations.trees import Snapshot


def deletes_what_is_gone(layer_id: str, names: set[str], before: Snapshot, after: Snapshot) -> None:
    """The names of a layer's diff delete each path that is gone, or a directory above it; raises Deviation."""
    lacking = []
    for path in before.nodes.keys() - after.nodes.keys():
        parent, _, name = os.fsdecode(path).rpartition("/")
        above = os.fsencode(parent)
        if parent and (above not in after.nodes or not after.nodes[above].is_directory):
            continue  # gone with its directory
        inside = f"{parent}/" if parent else ""
        if not {f"{inside}.wh.{name}", f"{inside}.wh..wh..opq"} & names and not _replaced(above, names):
            lacking.append(path)
    nothing(f"deletion in {layer_id} without a whiteout in its diff ({sorted(names)})", lacking, WrongAnswer())


def _replaced(directory: bytes, names: set[str]) -> bool:
    """Whether a directory above is opaque, which deletes everything in it."""
    parts = os.fsdecode(directory).split("/")
    return any("/".join([*parts[:end], ".wh..wh..opq"]) in names for end in range(1, len(parts) + 1))
