"""What the harness does for a driver that lacks it, and what it can compare of the driver's trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conformance.harness.deviation import Deviation
from conformance.operations.listing import as_listed
from conformance.operations.trees import Node, Snapshot


@dataclass(frozen=True, slots=True)
class Manner:
    """What the harness does for a driver that lacks it.

    ``filled`` layers get archives of the harness where a test changes their trees; ``archived`` layers are written
    as archives by the harness where the driver writes no diffs. A driver that is ``late`` reads an archive when its
    layer is got, so each one is followed by a get. Times of directories are compared if they are ``timed``. Of a
    tree that is ``listed`` names and types are compared, or names and which are directories if not ``typed``.
    """

    filled: bool = False
    archived: bool = False
    late: bool = False
    timed: bool = True
    listed: bool = False
    typed: bool = True

    def seen(self, tree: Snapshot) -> Snapshot:
        """What can be compared of a tree."""
        return as_listed(tree, types=self.typed) if self.listed else tree


class Seen(dict[bytes, Node]):
    """The nodes of a tree that a driver shows: a test that looks for a missing one has found a deviation."""

    def __init__(self, nodes: Mapping[bytes, Node], layer_id: str) -> None:
        super().__init__(nodes)
        self._layer_id = layer_id

    def __missing__(self, path: bytes) -> Node:
        raise Deviation(f"the tree of {self._layer_id} has no {path!r}, which a test looks for")
