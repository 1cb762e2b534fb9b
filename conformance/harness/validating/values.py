"""What a validation of an adapter finds, as values; ``validate-adapter --json`` writes them as lines."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from conformance.spec.lines import Form, Lines
from conformance.spec.values import Count, Key, Seconds

FORMAT: Final = 1


class Result(enum.Enum):
    """What came of a check; UNCLEAR is for what this host or this adapter does not let anybody tell."""

    OK = "OK"
    WRONG = "WRONG"
    UNCLEAR = "UNCLEAR"
    DECLINED = "declined"


class Whose(enum.Enum):
    """Who has to be repaired."""

    ADAPTER = "adapter"
    DRIVER = "driver"
    EITHER = "adapter or driver"
    NOBODY = ""


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation of one adapter begins."""

    format: Literal[1]
    driver: Annotated[str, Key("Connection string of the driver: KIND:ARGUMENTS.")]
    version: Annotated[str, Key("Version of the driver, or 'unknown'.")]
    own: Annotated[bool, Key("Whether the adapter is one of overlay-conformance itself.")]
    lane: Annotated[str, Key("Privilege level: root, user-namespace or none.")]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    result: Result
    whose: Annotated[Whose, Key("Who has to be repaired; empty where nothing has to.")]
    said: Annotated[str, Key("What was seen.")]
    next: Annotated[str, Key("What to do next, or empty.")] = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one call; all times are medians."""

    call: str
    calls: Annotated[Count, Key("Number of calls.")]
    seconds: Annotated[Seconds, Key("Time from the call to its answer.")]
    adapter: Annotated[
        Seconds, Key("CPU time of the process in which the adapter runs, the start of other processes included.")
    ]
    commands: Annotated[
        Seconds | None,
        Key("CPU time of processes that the call started and that ended with it; null if there were none."),
    ] = None


@dataclass(frozen=True, slots=True)
class Validated:
    """The last line; without it, the validation was ended."""

    exit_code: Annotated[int, Key("docs/exit-codes.md")]


Line = Validation | Check | Timing | Validated
LINES: Final[Lines[Line]] = Lines(
    "record",
    (Form("validation", Validation), Form("check", Check), Form("timing", Timing), Form("end", Validated)),
)
