"""The seam between the suite and a driver under test.

Words. A *layer* is made on a parent, or on nothing. *get* gives the path of its whole tree and *put* gives it
back. A *diff* is a tar archive of what a layer changes in its parent; *applying* it to an empty layer on an
equal parent makes an equal layer. What a driver refuses, it says by :class:`DriverRefused`; any other error
from an adapter is an error of the harness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class DriverRefused(Exception):
    """The driver under test answered with an error; the text is the driver's own."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of ``changes``: an absolute path within the layer; ``kind`` is add, modify or delete."""

    path: bytes
    kind: str


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """Who the driver is, and what it declines: a capability's name and the reason why it lacks it."""

    name: str
    version: str
    declined: Mapping[str, str] = field(default_factory=dict)


class DriverUnderTest(Protocol):
    """One driver opened on one home. Every method may raise DriverRefused."""

    @property
    def home(self) -> str:
        """The directory that holds the driver's layers."""

    def create(self, layer_id: str, parent: str) -> None:
        """Make an empty layer; ``parent`` is "" for a base layer."""

    def remove(self, layer_id: str) -> None:
        """Remove a layer."""

    def get(self, layer_id: str) -> str:
        """The path of the layer's tree."""

    def put(self, layer_id: str) -> None:
        """Give a tree back."""

    def exists(self, layer_id: str) -> bool:
        """Whether there is such a layer."""

    def status(self) -> Mapping[str, str]:
        """What the driver says about itself."""

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        """What the driver says about a layer."""

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        """Write the difference from ``parent`` ("" for the whole tree) to a file."""

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        """Apply an archive; the size that the driver reports, if it does."""

    def diff_size(self, layer_id: str, parent: str) -> int:
        """The size of the difference in bytes."""

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        """What the layer changes in ``parent``."""

    def reopen(self) -> DriverUnderTest:
        """The same home, opened by a driver that knows nothing but what is on disk."""

    def close(self) -> None:
        """Let go of the home, with nothing left mounted."""


@dataclass(frozen=True, slots=True)
class DriverSource:
    """How to open a driver under test: ``open`` takes a directory that is empty and its own."""

    info: DriverInfo
    open: Callable[[Path], DriverUnderTest]
