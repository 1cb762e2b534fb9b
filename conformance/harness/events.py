"""What the processes of the harness tell each other: one type for each event, and the lines that carry them.

A worker process (:mod:`conformance.harness.serving`) writes ``CHANNEL``; the controller reads it and writes
``PUBLISHED`` for ``--events`` (docs/results.md). Both have the same events under the same names: a published event
has fewer fields, and only the controller knows when a run begins and ends.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from conformance.harness.collected import Inventory
from conformance.harness.observation import Observation
from conformance.harness.validating.values import Check, Timing
from conformance.spec.lines import Form, Lines
from conformance.spec.profiles import PROFILES
from conformance.spec.values import Count, Key, RequirementId, Seconds
from conformance.spec.verdicts import TestOutcome

FORMAT: Final = 1  # of what is published


@dataclass(frozen=True, slots=True)
class Began:
    """The run begins."""

    format: Literal[1]
    driver: Annotated[str, Key("Connection string of the driver: KIND:ARGUMENTS.")]
    profile: Annotated[str, Key(among=PROFILES)]
    requirements: Annotated[Count, Key("Number of selected requirements.")]


@dataclass(frozen=True, slots=True)
class Opened:
    """The worker opened the driver: what it is, and what the host and it can do (session.Session, DriverInfo)."""

    name: str
    version: str
    lane: str
    backings: tuple[str, ...]
    declined: Mapping[str, str]
    lacking: Mapping[str, str]
    notes: tuple[str, ...]
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collected:
    """The tests of the run are known."""

    tests: Annotated[Count, Key("In the first round; with --budget there may be more.")]
    inventory: Inventory | None = None


@dataclass(frozen=True, slots=True)
class Testing:
    """A test begins. The controller counts the tests."""

    test: str
    number: Annotated[int, Key("From 1.", minimum=1)] = 0


@dataclass(frozen=True, slots=True)
class Kill:
    """A test that failed on a mutant.

    The tree that many examples begin with counts neither in ``size`` nor in ``steps``.
    """

    requirements: Annotated[tuple[RequirementId, ...], Key(least=1)]
    test: str
    seconds: Annotated[Seconds, Key("From the start of the trial to the first example that failed.")]
    shrunk_seconds: Annotated[Seconds, Key("From the start of the trial to the end of shrinking.")]
    examples: Annotated[int, Key("How many examples the test tried, up to the first that failed.", minimum=1)]
    size: Annotated[
        Count | None,
        Key(
            "Operations generated for the minimal example, or those in its layers if none were generated, without"
            " the tree that many examples begin with; null if there was no time to shrink it."
        ),
    ]
    drawn: Annotated[bool, Key("Whether the size counts generated operations, or else those in the layers.")]
    steps: Annotated[Count, Key("Number of steps in its trace, calls of the driver included.")]
    reason: Annotated[str, Key("Its first line.")]
    quick: Annotated[
        bool, Key("Whether the test is in the profile quick, and failed within the examples of that profile.")
    ] = False


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial of a mutant or variant ended: what its process saw, and why it could not be tried or did not end."""

    mutant: str
    seed: int
    outcomes: tuple[TestOutcome, ...] = ()
    kills: tuple[Kill, ...] = ()
    lacking: str = ""
    failure: str = ""
    seconds: float = 0.0


class GeneratedFate(enum.Enum):
    """The result of a generated mutant; STILLBORN and EQUIVALENT do not count in the score.

    UNDECIDED says that the trial was not finished, or that its kill is not proven; in the score it is no kill.
    """

    KILLED = "KILLED"
    SURVIVED = "SURVIVED"
    STILLBORN = "STILLBORN"
    EQUIVALENT = "EQUIVALENT"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True, slots=True)
class Judged:
    """A generated mutant, and its result."""

    id: Annotated[
        str, Key("Module, function, operator, ordinal and a digest of the change, with ':' between them.")
    ]
    fate: Annotated[
        GeneratedFate,
        Key(
            "STILLBORN: the driver cannot be imported, or fails in the preflight. EQUIVALENT: listed as such, and"
            " not killed. UNDECIDED: the trial did not end, or the correct driver failed the test, too."
        ),
    ]
    test: Annotated[str, Key("The test that killed it, or empty.")]
    requirements: Annotated[tuple[RequirementId, ...], Key("The requirements that the test failed for.")]
    reason: Annotated[
        str,
        Key(
            "The failure; why the preflight failed; why the mutant is equivalent; for a survivor, what the list of"
            " survivors or the harness says of it, if anything."
        ),
    ]
    reached: Annotated[Count, Key("Number of tests that execute the statement.")]
    seconds: Annotated[Seconds, Key("Time of the trial, 0 if there was none.")]
    kind: Annotated[str, Key("For a survivor that is listed: the kind of its reason (docs/selftest.md).")] = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """What one privilege level can test; ``made`` has why overlay cannot work there, by backing filesystem."""

    lane: str
    lacking: Mapping[str, str]
    made: Mapping[str, str]
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Compared:
    """In what two drivers differ, "" if in nothing, and the steps that show it."""

    found: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The worker did all of its task; ``version`` is that of the driver where no Opened said it.

    ``stopped`` is why it did not: the run reached its limit of failures.
    """

    rounds: int = 1
    version: str = ""
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker cannot go on; with ``of_driver`` because the driver cannot be reached or used."""

    message: str
    of_driver: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The last line; without it, the run was ended."""

    exit_code: Annotated[int, Key("docs/exit-codes.md")]


Event = (
    Opened
    | Collected
    | Testing
    | TestOutcome
    | Tried
    | Judged
    | Examined
    | Compared
    | Check
    | Timing
    | Observation
    | Finished
    | Failed
)
CHANNEL: Final[Lines[Event]] = Lines(
    "event",
    (
        Form("opened", Opened),
        Form("collected", Collected),
        Form("test", Testing),
        Form("outcome", TestOutcome),
        Form("tried", Tried),
        Form("judged", Judged),
        Form("examined", Examined),
        Form("compared", Compared),
        Form("check", Check),
        Form("timing", Timing),
        Form("observation", Observation),
        Form("finished", Finished),
        Form("failed", Failed),
    ),
)

Published = Began | Collected | Testing | TestOutcome | End
PUBLISHED: Final[Lines[Published]] = Lines(
    "event",
    (
        Form("run", Began),
        Form("collected", Collected, only=("tests",)),
        Form("test", Testing),
        Form("outcome", TestOutcome, only=("test", "verdict", "seconds")),
        Form("end", End),
    ),
)


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """The process of one trial ended: what the host lacks for it, how pytest failed, and the time that it took."""

    lacking: str
    failure: str
    seconds: float


# What the process of one trial writes to a file, which outlives it when its time is up.
TrialEvent = TestOutcome | Kill | TrialEnded
TRIAL: Final[Lines[TrialEvent]] = Lines(
    "event", (Form("outcome", TestOutcome), Form("kill", Kill), Form("ended", TrialEnded))
)
