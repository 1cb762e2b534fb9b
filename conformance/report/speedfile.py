"""What ``python -m benchmarks --json`` prints, with and without ``--suite``, as values (docs/benchmarks.md).

Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from conformance.spec.errors import BadFile
from conformance.spec.values import BadValue, Count, Key, Seconds, from_plain

FORMAT: Final = 3
SHARE_FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("benchmarks.schema.json")
SHARE_SCHEMA: Final = Path(__file__).with_name("benchmarks-suite.schema.json")


class BadBenchmarks(BadFile):
    """A file that is none of ``python -m benchmarks --json``; the text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The wall time of one benchmark, of so many samples."""

    name: str
    seconds: Annotated[Seconds, Key("The median.")]
    minimum: Seconds
    maximum: Seconds
    samples: Count


@dataclass(frozen=True, slots=True)
class Ratio:
    """The driver's time divided by the peer's, over the rounds; below 1 the driver takes less."""

    median: Seconds
    minimum: Seconds
    maximum: Seconds


@dataclass(frozen=True, slots=True)
class Sample:
    """The times of one round."""

    wall: Seconds
    cpu: Annotated[Seconds, Key("User and system time.")]


@dataclass(frozen=True, slots=True)
class Peer:
    """An operation of the driver and of another program, in turns."""

    name: str
    peer: Annotated[str, Key("What the driver is compared with.")]
    filesystem: str
    load: Annotated[float, Key("The load of one minute, when it was measured.")]
    cpu_ratio: Ratio
    wall_ratio: Ratio
    driver: tuple[Sample, ...]
    other: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """The CPU time of an operation of one size."""

    size: Count
    cpu: Seconds


@dataclass(frozen=True, slots=True)
class Fit:
    """A straight line through the points: seconds at zero and for each, and by how much a point is off at most."""

    at_zero: float
    each: float
    worst: float


@dataclass(frozen=True, slots=True)
class Growth:
    """How the time of an operation grows with a size."""

    name: str
    unit: str
    points: tuple[Point, ...]
    fit: Fit


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a process that performs an operation."""

    name: str
    peak_bytes: Count
    added_bytes: Annotated[int, Key("More than the process has without the operation.")]
    ratio: Annotated[float, Key("The peak divided by what is permitted.")]


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """All that was measured, and where."""

    version: Literal[3]
    machine: str
    scale: Annotated[float, Key("Part of all sizes.")]
    kernel: str
    python: str
    load: Annotated[float, Key("The load of one minute, at the end.")]
    date: Annotated[str, Key("When it ended, in UTC.")]
    speed: tuple[Timing, ...]
    peers: tuple[Peer, ...]
    growth: tuple[Growth, ...]
    memory: tuple[Memory, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The tests of one name, on all filesystems and with all parameters."""

    test: str
    seconds: Seconds
    driver_seconds: Annotated[Seconds, Key("Of these, in the driver or the kernel.")]

    @property
    def harness_seconds(self) -> float:
        """What the suite itself took."""
        return self.seconds - self.driver_seconds


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of a run of the suite is the driver's or the kernel's, on one core."""

    version: Literal[1]
    machine: str
    kernel: str
    python: str
    load: Annotated[float, Key("The load of one minute, at the end.")]
    date: Annotated[str, Key("When it ended, in UTC.")]
    driver: str
    profile: str
    seconds: Annotated[Seconds, Key("Of all tests.")]
    share: Annotated[float, Key("Of 0 to 1: the part of the driver and the kernel.")]
    parts: Annotated[tuple[Part, ...], Key("Those in which the suite itself takes most come first.")]


def read(path: Path) -> Benchmarks:
    """A file of benchmarks; raises BadBenchmarks."""
    try:
        return from_plain(Benchmarks, json.loads(path.read_text()))
    except (OSError, ValueError, BadValue) as error:
        raise BadBenchmarks(
            f"{path} is no result of 'python -m benchmarks --json', format {FORMAT}: {error}; write one, or name"
            " another file"
        ) from error
