"""Observations: what a driver was seen to do, without a verdict. ``observe --output`` writes them as lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from conformance.spec.lines import Form, Lines
from conformance.spec.values import Key

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Observing:
    """The observations of one driver begin."""

    format: Literal[1]
    driver: Annotated[str, Key("Connection string of the driver: KIND:ARGUMENTS.")]
    name: Annotated[str, Key("Name of the column in a table.")]
    version: Annotated[str, Key("Version of the driver, or 'unknown'.")]
    lane: Annotated[str, Key("Privilege level: root, user-namespace or none.")]
    kernel: Annotated[str, Key("Release of the kernel, as uname -r.")]
    backing: Annotated[str, Key("Type of the filesystem that the layers are on.")]
    suite: Annotated[str, Key("Version of overlay-conformance.")]
    date: Annotated[str, Key("Day of the observations, YYYY-MM-DD.")]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one question was answered by."""

    case: Annotated[str, Key("Name of the layers that were applied.")]
    question: Annotated[str, Key("Name of the question.")]
    value: Annotated[str, Key("What was seen, in a few words.")]
    detail: Annotated[str, Key("The words of a refusal, or empty.")] = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """The last line; without it, not everything was observed."""

    exit_code: Annotated[int, Key("docs/exit-codes.md")]


Line = Observing | Observation | Observed
LINES: Final[Lines[Line]] = Lines(
    "record",
    (Form("observing", Observing), Form("observation", Observation), Form("end", Observed)),
)
