"""Drivers by connection string: ``KIND:ARGUMENTS``."""

from __future__ import annotations

from conformance.adapters import containers_storage, inprocess
from conformance.driver import DriverSource


class UnknownDriver(Exception):
    """The connection string names no driver that can be reached; the text says what to write."""


def connect(connection: str) -> DriverSource:
    """The driver that a connection string names; raises UnknownDriver.

    ``python:MODULE:CLASS`` is a class in this process, ``containers-storage:DRIVER[?binary=PATH]`` a driver
    behind the containers-storage command.
    """
    kind, _, arguments = connection.partition(":")
    try:
        match kind:
            case "python":
                return inprocess.source(arguments)
            case "containers-storage":
                return containers_storage.source(arguments)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        raise UnknownDriver(f"cannot reach {connection!r}: {error}") from error
    raise UnknownDriver(
        f"{connection!r} names no driver; write python:MODULE:CLASS (python:refdriver:Driver) or"
        " containers-storage:DRIVER (containers-storage:overlay)"
    )
