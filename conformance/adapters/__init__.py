"""Drivers by connection string: ``KIND:ARGUMENTS``.

A kind is one of this package, or an entry point of the group ``overlay_conformance.adapters`` of anybody's: a
function that takes the arguments and gives a DriverSource, and raises ValueError, OSError, ImportError or
AttributeError, with what to do next, when it cannot.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Final

from conformance.adapters import containerd, containers_storage, graphdriver, inprocess
from conformance.driver import DriverSource

GROUP: Final = "overlay_conformance.adapters"
KINDS: Final[Mapping[str, Callable[[str], DriverSource]]] = {
    "python": inprocess.source,
    "containers-storage": containers_storage.source,
    "graphdriver": graphdriver.source,
    "containerd": containerd.source,
}


class UnknownDriver(Exception):
    """The connection string names no driver that can be reached; the text says what to write."""


def connect(connection: str) -> DriverSource:
    """The driver that a connection string names; raises UnknownDriver."""
    kind, _, arguments = connection.partition(":")
    source = KINDS.get(kind) or _of_others(kind)
    if source is None:
        raise UnknownDriver(
            f"{connection!r} names no driver; write python:MODULE:CLASS (python:refdriver:Driver),"
            " containers-storage:DRIVER (containers-storage:overlay), graphdriver:SOCKET,"
            " graphdriver:?command=COMMAND or containerd:SNAPSHOTTER (containerd:overlayfs)"
        )
    try:
        return source(arguments)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        raise UnknownDriver(f"cannot reach {connection!r}: {error}") from error


def _of_others(kind: str) -> Callable[[str], DriverSource] | None:
    for entry in importlib.metadata.entry_points(group=GROUP, name=kind):
        found: Callable[[str], DriverSource] = entry.load()
        return found
    return None
