"""Drivers by connection string: ``KIND:ARGUMENTS``.

A kind is one of this package, or an entry point of the group ``overlay_conformance.adapters`` of anybody's: a
function that takes the arguments and gives a DriverSource, and raises ValueError, OSError, ImportError or
AttributeError, with what to do next, when it cannot. It reads its arguments itself, but for ``writable=PATH``,
which every kind takes and which it does not see.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from conformance.drivers.connection import (
    COMMON,
    WRITABLE,
    BadConnection,
    Key,
    checked,
    checked_declined,
    checked_paths,
    parse,
    parse_arguments,
    suggestion,
    writable_in,
)
from conformance.drivers.containerd import adapter as containerd
from conformance.drivers.containers_storage import adapter as containers_storage
from conformance.drivers.graphdriver import adapter as graphdriver
from conformance.drivers.protocol import Dialect, DriverSource
from conformance.drivers.python import adapter as python

GROUP: Final = "overlay_conformance.adapters"
KINDS: Final[Mapping[str, Callable[[str], DriverSource]]] = {
    "python": python.source,
    "containers-storage": containers_storage.source,
    "graphdriver": graphdriver.source,
    "containerd": containerd.source,
}
# What each takes after the "?", besides connection.COMMON.
KEYS: Final[Mapping[str, Sequence[Key]]] = {
    "python": python.KEYS,
    "containers-storage": containers_storage.KEYS,
    "graphdriver": graphdriver.KEYS,
    "containerd": containerd.KEYS,
}


class UnknownDriver(Exception):
    """The connection string names no driver that can be reached; the text says what to write."""


def connect(connection: str) -> DriverSource:
    """The driver that a connection string names; raises UnknownDriver."""
    kind, _, arguments = connection.partition(":")
    source = KINDS.get(kind) or _of_others(kind)
    if source is None:
        raise UnknownDriver(
            f"{connection!r} names no driver{suggestion(kind, KINDS)}; write"
            " python:MODULE:CLASS (python:refdriver:Driver), containers-storage:DRIVER"
            " (containers-storage:overlay), graphdriver:SOCKET, graphdriver:?command=COMMAND"
            " or containerd:SNAPSHOTTER (containerd:overlayfs)"
        )
    try:
        if kind in KINDS:
            checked(parse_arguments(kind, arguments), KEYS[kind])
        else:
            arguments, writable = _without_writable(arguments)
            checked_paths(writable)
        found = source(arguments)
        checked_declined(found.info.declined, "what the driver declines")
    except (ImportError, AttributeError, ValueError, OSError) as error:
        raise UnknownDriver(f"cannot reach {connection!r}: {error}") from error
    return found


def dialect_of(connection: str) -> Dialect | None:
    """How a script reaches the driver, None if there is no way; raises UnknownDriver.

    A Python driver is not imported for it: its code runs in the mount namespace of a run only.
    """
    kind, _, arguments = connection.partition(":")
    if kind != "python":
        with closing(connect(connection)) as source:
            return source.dialect
    try:
        return python.dialect_of(arguments)
    except ValueError as error:
        raise UnknownDriver(f"cannot reach {connection!r}: {error}") from error


def writable_of(connection: str) -> tuple[Path, ...]:
    """The paths outside the scratch directory that a driver writes to: ``writable=PATH`` of its connection string.

    Each is absolute and exists. Raises UnknownDriver for others, as :func:`connect` does.
    """
    kind, _, arguments = connection.partition(":")
    try:
        if kind in KINDS:
            return writable_in(parse(connection))
        return checked_paths(_without_writable(arguments)[1])
    except BadConnection as error:
        raise UnknownDriver(f"cannot reach {connection!r}: {error}") from error


def keys_of(kind: str) -> tuple[Key, ...]:
    """What a kind of this package takes after the ``?``."""
    return (*KEYS[kind], *COMMON)


def _without_writable(arguments: str) -> tuple[str, list[str]]:
    """Arguments of a kind of others, whatever form they have, without ``writable=PATH``; and these paths."""
    name, mark, query = arguments.partition("?")
    parts = query.split("&")
    ours = [part for part in parts if part.startswith(f"{WRITABLE.name}=")]
    rest = "&".join(part for part in parts if part not in ours)
    paths = [value for _, value in parse_arguments("", f"?{'&'.join(ours)}").options] if ours else []
    return (name + (mark + rest if rest or not ours else ""), paths)


def _of_others(kind: str) -> Callable[[str], DriverSource] | None:
    for entry in importlib.metadata.entry_points(group=GROUP, name=kind):
        found: Callable[[str], DriverSource] = entry.load()
        return found
    return None
