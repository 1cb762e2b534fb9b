"""What one run is about, as values: prepared once (host.py), and handed to the processes that run tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.drivers.protocol import CallLimit
from conformance.harness.place import Place


@dataclass(frozen=True, slots=True)
class Replay:
    """What is not drawn anew. Tests are named as in cases, without their backing filesystem.

    ``cases`` has what was drawn (encoded) by test; with ``only``, no other test is run. ``settled`` names tests,
    with their filesystem, that a replay has settled, so they are not run again. ``unshrunk`` are requirements
    whose failure is known: no time is spent on a smaller one.
    """

    cases: Mapping[str, Any] = field(default_factory=dict)
    only: bool = False
    settled: tuple[str, ...] = ()
    unshrunk: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the suite. ``lacking`` names capabilities of the host that are not there, and why.

    ``stores`` is a directory for stores beside those of the places, on a filesystem that can hold layers, unless
    ``unfit`` says why it cannot.
    ``shrinks`` says whether failing examples are shrunk.
    """

    driver: str
    profile: str
    examples: int
    selected: tuple[str, ...]
    lane: str
    places: tuple[Place, ...]
    lacking: Mapping[str, str]
    notes: tuple[str, ...]
    deadline: float | None = None  # of time.monotonic(), which all processes of one machine share
    replay: Replay = field(default_factory=Replay)
    call_timeout: float = CallLimit().seconds
    stores: str = ""
    unfit: str = ""
    shrinks: bool = True

    @property
    def limit(self) -> CallLimit:
        """How long a call of the driver may take."""
        return CallLimit(self.call_timeout, self.deadline)

    @property
    def privileged(self) -> bool:
        """Whether the run is real root."""
        return self.lane == "root"


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of the command line, before the host is examined."""

    driver: str
    profile: str
    examples: int
    selected: tuple[str, ...]
    backings: tuple[str, ...]
    deadline: float | None = None
    replay: Replay = field(default_factory=Replay)
    writable: tuple[Path, ...] = ()  # directories that stay writable beside the scratch directory
    call_timeout: float = CallLimit().seconds
    shrinks: bool = True
