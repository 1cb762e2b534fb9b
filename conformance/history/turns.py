"""Turns of the life-cycle machine: what is drawn, before it is known which layer it is about.

``which`` chooses a store and ``number`` a layer of it; 0 is the newest layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from conformance.operations import ops


@dataclass(frozen=True, slots=True)
class HoldLayer:
    """Get a layer, and keep it mounted."""

    which: int
    number: int


@dataclass(frozen=True, slots=True)
class ReleaseLayer:
    """Put one of the layers that are held."""

    which: int
    number: int


@dataclass(frozen=True, slots=True)
class CreateChild:
    """Create a layer on another; a read-write layer, without options, if it is for a container."""

    which: int
    number: int
    layer_id: str
    for_container: bool = False


@dataclass(frozen=True, slots=True)
class WriteLayer:
    """Do operations in a layer; ``diffed`` if it is diffed before, too."""

    which: int
    number: int
    done: tuple[ops.Operation, ...]
    diffed: bool


@dataclass(frozen=True, slots=True)
class RemoveLayer:
    """Remove a layer."""

    which: int
    number: int


@dataclass(frozen=True, slots=True)
class ReopenStore:
    """Open a home again."""

    which: int


@dataclass(frozen=True, slots=True)
class CopyLayer:
    """Diff a layer and apply it to a twin."""

    which: int
    number: int


Turn = HoldLayer | ReleaseLayer | CreateChild | WriteLayer | RemoveLayer | ReopenStore | CopyLayer
