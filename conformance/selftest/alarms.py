"""What the suite makes of a variant: it conforms, or there is a false alarm.

A hearing is one run of the suite on one such driver. A requirement that fails on it is a false alarm, but for those
of level SHOULD that it waives.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from conformance.selftest.kills import Name, Seen
from conformance.selftest.variants.variant import Variant
from conformance.spec.values import Count, Key, RequirementId, Seconds
from conformance.spec.verdicts import Verdict


class Standing(enum.Enum):
    """What came out. UNDECIDED is as bad as an alarm: the harness failed, or nothing was judged."""

    CONFORMS = "CONFORMS"
    FALSE_ALARM = "FALSE-ALARM"
    UNDECIDED = "UNDECIDED"
    NOT_APPLICABLE = "NOT-APPLICABLE"


@dataclass(frozen=True, slots=True)
class Choice:
    """A variant: which permitted choice it makes."""

    name: Name
    chooses: str
    source: Annotated[str, Key("A driver that makes the choice, or the specification that permits it.")]
    touches: Annotated[
        tuple[Annotated[str, Key(pattern="^OVL-[A-Z0-9-]+$")], ...],
        Key("Ids of requirements, or prefixes of ids, that the choice can affect.", least=1),
    ]
    waives: Annotated[
        tuple[RequirementId, ...], Key("Requirements of level SHOULD that it waives.", name="forgoes")
    ] = ()
    backing: Annotated[str, Key("The backing filesystem.")] = "host"

    @classmethod
    def of(cls, one: Variant) -> Choice:
        """The same, without the driver."""
        return cls(one.name, one.chooses, one.source, one.touches, one.waives, one.backing)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A test that failed on a variant."""

    requirements: Annotated[tuple[RequirementId, ...], Key(least=1)]
    test: str
    reason: Annotated[str, Key("Its first line.")]


@dataclass(frozen=True, slots=True)
class Hearing:
    """The result of a variant with one seed."""

    variant: Annotated[Name, Key(name="different")]
    seed: int
    standing: Annotated[
        Standing,
        Key(
            "FALSE-ALARM: a requirement failed that it does not waive. UNDECIDED: the harness failed, nothing was"
            " tested, or a waived requirement passed; counts as a failure, too."
        ),
    ]
    passed: Annotated[Count, Key("Tests that passed.")] = 0
    alarms: tuple[Alarm, ...] = ()
    waived: Annotated[tuple[RequirementId, ...], Key("Waived requirements that failed.", name="forgone")] = ()
    reason: Annotated[str, Key("Why nothing can be said of it.")] = ""
    seconds: Annotated[Seconds, Key("The whole hearing.")] = 0.0

    @property
    def is_good(self) -> bool:
        """Whether the suite is right about the driver, or cannot try it here."""
        return self.standing in (Standing.CONFORMS, Standing.NOT_APPLICABLE)


def heard(choice: Choice, seed: int, seen: Seen) -> Hearing:
    """What the process of a hearing saw, as the standing of its driver."""
    if seen.lacking:
        return Hearing(choice.name, seed, Standing.NOT_APPLICABLE, reason=seen.lacking, seconds=seen.seconds)
    alarms, waived = _failures(choice, seen)
    verdicts = [one.verdict for one in seen.outcomes]
    errors = [f"{one.test}: {one.reason}" for one in seen.outcomes if one.verdict is Verdict.ERROR]
    said = [seen.failure] if seen.failure else errors[:1]
    passed = verdicts.count(Verdict.PASS)
    if not said and not passed:
        said = ["no test of the requirements that it touches passed"]
    kept = {id_ for one in seen.outcomes if one.verdict is Verdict.PASS for id_ in one.requirements}
    missed = [one for one in choice.waives if one in kept and one not in waived]
    if not said and missed:
        said = [f"it waives {', '.join(missed)}, and did not fail"]
    standing = Standing.FALSE_ALARM if alarms else Standing.UNDECIDED if said else Standing.CONFORMS
    if set(verdicts) == {Verdict.NOT_APPLICABLE}:
        standing, said = Standing.NOT_APPLICABLE, [seen.outcomes[0].reason]
    reason = "".join(said).strip()
    return Hearing(choice.name, seed, standing, passed, alarms, waived, reason, seen.seconds)


def _failures(choice: Choice, seen: Seen) -> tuple[tuple[Alarm, ...], tuple[str, ...]]:
    """The alarms, and the requirements that failed by choice."""
    # A test that was cut while its failure was shrunk has no outcome, but a kill.
    failed = {one.test: (one.requirements, one.reason) for one in seen.kills}
    failed |= {one.test: (one.requirements, one.reason) for one in seen.outcomes if one.verdict is Verdict.FAIL}
    alarms = []
    waived: set[str] = set()
    for test, (requirements, reason) in failed.items():
        if set(requirements) <= set(choice.waives):
            waived |= set(requirements)
        else:
            alarms.append(Alarm(requirements, test, (reason.strip().splitlines() or [""])[0][:500]))
    return tuple(alarms), tuple(one for one in choice.waives if one in waived)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What came of one variant with all seeds; ``passed`` is the fewest tests that passed."""

    choice: Choice
    standing: Standing
    passed: int
    alarms: tuple[Alarm, ...]
    waived: tuple[str, ...]
    reason: str

    @property
    def requirements(self) -> tuple[str, ...]:
        """Those that raised a false alarm."""
        return tuple(dict.fromkeys(one for alarm in self.alarms for one in alarm.requirements))


def summed_up(choice: Choice, hearings: Iterable[Hearing]) -> Verdicts:
    """The worst of its hearings, which may be among others."""
    own = [one for one in hearings if one.variant == choice.name]
    worst = (Standing.FALSE_ALARM, Standing.UNDECIDED, Standing.CONFORMS)
    return Verdicts(
        choice,
        next((one for one in worst if any(hearing.standing is one for hearing in own)), Standing.NOT_APPLICABLE),
        min((one.passed for one in own if one.standing is not Standing.NOT_APPLICABLE), default=0),
        tuple(dict.fromkeys(alarm for one in own for alarm in one.alarms)),
        tuple(dict.fromkeys(id_ for one in own for id_ in one.waived)),
        "\n".join(dict.fromkeys(one.reason for one in own if one.reason)),
    )


def false_alarms(hearings: Iterable[Hearing]) -> list[Hearing]:
    """The hearings that fail a build."""
    return [one for one in hearings if not one.is_good]
