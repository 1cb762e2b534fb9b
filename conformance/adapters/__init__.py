"""Drivers by connection string: ``KIND:ARGUMENTS``.

A kind is one of this package, or an entry point of the group ``overlay_conformance.adapters`` of anybody's: a
function that takes the arguments and gives a DriverSource, and raises ValueError, OSError, ImportError or
AttributeError, with what to do next, when it cannot.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from conformance.adapters import containerd, containers_storage, graphdriver, inprocess
from conformance.driver import DriverSource

_WRITABLE: Final = "writable"
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
    writable_of(connection)
    kind, _, arguments = _without_writable(connection).partition(":")
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


def writable_of(connection: str) -> tuple[Path, ...]:
    """The directories that a connection string declares with ``writable=``, of whatever kind of driver it is.

    They stay writable in the mount namespace of a run. Raises UnknownDriver for what is no absolute path of a
    directory that exists.
    """
    paths = [Path(value) for key, value in parse_qsl(connection.partition("?")[2]) if key == _WRITABLE]
    for path in paths:
        if not path.is_absolute() or not path.is_dir():
            raise UnknownDriver(
                f"{connection!r}: {_WRITABLE}={path} is no directory; name one that exists, by its absolute path"
            )
        if path.resolve() == Path("/"):
            raise UnknownDriver(
                f"{connection!r}: {_WRITABLE}=/ would protect nothing; name what the driver writes to"
            )
    return tuple(paths)


def _without_writable(connection: str) -> str:
    head, _, query = connection.partition("?")
    left = [word for word in query.split("&") if word and word.partition("=")[0] != _WRITABLE]
    return f"{head}?{'&'.join(left)}" if left else head


def _of_others(kind: str) -> Callable[[str], DriverSource] | None:
    for entry in importlib.metadata.entry_points(group=GROUP, name=kind):
        found: Callable[[str], DriverSource] = entry.load()
        return found
    return None
