"""Calls of a driver, as values: what is asked of it, independent of how its kind is reached.

drivers.performing performs a call, the script of each kind of driver writes it as a command of a reproducer, and
history.trace describes it. ``layer`` and ``parent`` are ids of layers; a ``parent`` of "" is none. ``archive`` is
the label of a file (History.label).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Create:
    """Create a layer. ``read_write`` says of which kind of layer the ``options`` are; None for no options."""

    layer: str
    parent: str = ""
    options: Mapping[str, str] | None = None
    read_write: bool = True


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a layer."""

    layer: str


@dataclass(frozen=True, slots=True)
class Get:
    """Mount a layer and answer the path of its tree; ``label`` is a mount label of SELinux."""

    layer: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Put:
    """Release a layer that was got."""

    layer: str


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether there is a layer."""

    layer: str


@dataclass(frozen=True, slots=True)
class Status:
    """Facts about the driver."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Facts about a layer."""

    layer: str


@dataclass(frozen=True, slots=True)
class Diff:
    """Write the archive of a layer against another.

    It is read in pieces of ``piece`` bytes (0 for as many as the adapter likes), and given up after ``most`` bytes
    (-1 for never).
    """

    layer: str
    parent: str
    archive: str
    piece: int = 0
    most: int = -1


@dataclass(frozen=True, slots=True)
class ApplyDiff:
    """Unpack an archive into a layer; with a ``piece``, from an object that only reads, so many bytes at most."""

    layer: str
    parent: str
    archive: str
    piece: int = 0


@dataclass(frozen=True, slots=True)
class DiffSize:
    """The size in bytes of what a layer changes."""

    layer: str
    parent: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a layer changes, path by path."""

    layer: str
    parent: str


@dataclass(frozen=True, slots=True)
class Reopen:
    """Leave the home, and open it again with the same options."""


@dataclass(frozen=True, slots=True)
class Close:
    """Clean up and close the home."""


Call = (
    Create
    | Remove
    | Get
    | Put
    | Exists
    | Status
    | Metadata
    | Diff
    | ApplyDiff
    | DiffSize
    | Changes
    | Reopen
    | Close
)
