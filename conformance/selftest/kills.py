"""What a trial of a mutant says: killed by the requirement that it is named for, or survived.

A trial is one run of the suite on one mutant. A requirement kills a mutant by failing on it, and by nothing else:
an error of the harness, or a failure of another requirement, does not kill it.
"""

from __future__ import annotations

import enum
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from conformance.drivers.python.defects import DEFECTS
from conformance.harness.events import Kill, Tried
from conformance.selftest.mutants.mutant import Mutant
from conformance.spec.values import Key, RequirementId, Seconds
from conformance.spec.verdicts import TestOutcome, Verdict

# A driver that runs into these has not been written with care; a mutant is, and raises what drivers raise.
_DEFECT: Final = re.compile(rf"(?<!\w)({'|'.join(sorted(one.__name__ for one in DEFECTS))}): ")


Name = Annotated[str, Key(pattern="^[A-Za-z][A-Za-z0-9]*$")]


class Fate(enum.Enum):
    """The result of a mutant. KILLED-BY-OTHERS counts as survived."""

    KILLED = "KILLED"
    BY_OTHERS = "KILLED-BY-OTHERS"
    SURVIVED = "SURVIVED"
    NOT_APPLICABLE = "NOT-APPLICABLE"


@dataclass(frozen=True, slots=True)
class Specimen:
    """A mutant: how it is broken."""

    name: Name
    breaks: Annotated[
        tuple[RequirementId, ...],
        Key("Requirements that have to fail on it; it is named for the first.", least=1),
    ]
    sentence: str
    source: Annotated[str, Key("The bug of a real driver, or the boundary that it moves.")]
    backing: Annotated[str, Key("The backing filesystem.")] = "host"
    hard: Annotated[bool, Key("Only a rare combination shows it.")] = False
    needs: Annotated[str, Key("What it needs of the host; empty if nothing.")] = ""

    @classmethod
    def of(cls, mutant: Mutant) -> Specimen:
        """The same, without the driver."""
        return cls(
            mutant.name, mutant.breaks, mutant.sentence, mutant.source, mutant.backing, mutant.hard, mutant.needs
        )

    @property
    def named_for(self) -> str:
        """The requirement that has to kill it."""
        return self.breaks[0]


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a mutant with one seed."""

    mutant: Annotated[Name, Key(name="fault")]
    seed: int
    fate: Annotated[
        Fate,
        Key(
            "KILLED: the requirement that it is named for failed. KILLED-BY-OTHERS: others failed; counts as"
            " survived, except in the profile quick (smoke until 0.3.0)."
        ),
    ]
    kills: Annotated[tuple[Kill, ...], Key("Tests that failed, in their order.")] = ()
    missed: Annotated[tuple[RequirementId, ...], Key("Requirements that should have failed and did not.")] = ()
    reason: Annotated[
        str, Key("Why it survived, is not applicable, or did not fail all requirements that it should.")
    ] = ""
    seconds: Annotated[Seconds, Key("The whole trial.")] = 0.0

    def killed_by(self, requirement: str) -> Kill | None:
        """The kill of that requirement that was first."""
        found = [one for one in self.kills if requirement in one.requirements]
        return min(found, key=lambda one: one.seconds) if found else None

    def is_killed_by_quick(self, requirement: str) -> bool:
        """Whether a test of the profile quick kills it by that requirement, with the examples of that profile."""
        return any(one.quick and requirement in one.requirements for one in self.kills)

    @property
    def killers(self) -> tuple[str, ...]:
        """Every requirement that failed, in the order in which it did."""
        return tuple(dict.fromkeys(one for kill in self.kills for one in kill.requirements))


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back from the process of a trial: outcomes, kills, and why it could not be tried or did not end."""

    outcomes: tuple[TestOutcome, ...] = ()
    kills: tuple[Kill, ...] = ()
    lacking: str = ""
    failure: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, tried: Tried) -> Seen:
        """What the event says, without its mutant and its seed."""
        return cls(tried.outcomes, tried.kills, tried.lacking, tried.failure, tried.seconds)


def judged(mutant: Specimen, seed: int, seen: Seen) -> Trial:
    """What the process of a trial saw, as the fate of its mutant."""
    dead = {one for kill in seen.kills for one in kill.requirements}
    missed = tuple(one for one in mutant.breaks if one not in dead)
    about = [one for one in seen.outcomes if set(one.requirements) & set(missed)]
    if seen.lacking or (not seen.kills and about and all(one.verdict is Verdict.NOT_APPLICABLE for one in about)):
        return Trial(
            mutant.name,
            seed,
            Fate.NOT_APPLICABLE,
            reason=seen.lacking or about[0].reason,
            seconds=seen.seconds,
        )
    fate = Fate.KILLED if mutant.named_for in dead else Fate.BY_OTHERS if dead else Fate.SURVIVED
    said = [seen.failure] if seen.failure else []
    said += [_why(one) for one in about]
    if missed and not about:
        said.append(f"no test of {missed[0]} was run")
    return Trial(mutant.name, seed, fate, seen.kills, missed, "; ".join(dict.fromkeys(said)), seen.seconds)


def is_own_defect(reason: str) -> bool:
    """Whether a mutant failed by a defect in its own code instead of its mutation, which proves nothing."""
    return _DEFECT.search(reason) is not None


def _why(outcome: TestOutcome) -> str:
    last = outcome.reason.strip() if outcome.reason.strip() else ""
    return f"{outcome.test}: {outcome.verdict.value}" + (f" ({last})" if last else "")


@dataclass(frozen=True, slots=True)
class KillMatrix:
    """All trials of one selftest, and the profile that they were run in."""

    mutants: tuple[Specimen, ...]
    trials: tuple[Trial, ...]
    profile: str

    def of(self, mutant: Specimen) -> tuple[Trial, ...]:
        """The trials of one mutant, one for each seed."""
        return tuple(one for one in self.trials if one.mutant == mutant.name)

    def fate(self, mutant: Specimen) -> Fate:
        """The worst of its trials: a mutant that survives with one seed has survived."""
        fates = {one.fate for one in self.of(mutant)}
        for fate in (Fate.SURVIVED, Fate.BY_OTHERS, Fate.KILLED):
            if fate in fates:
                return fate
        return Fate.NOT_APPLICABLE

    @property
    def alive(self) -> tuple[Specimen, ...]:
        """The mutants that could be tried and count as survived."""
        tried = [one for one in self.mutants if self.of(one)]
        return tuple(one for one in tried if self.fate(one) in (Fate.SURVIVED, Fate.BY_OTHERS))

    @property
    def share(self) -> float:
        """The part of the mutants that could be tried which was killed, 0 to 1; 1 if none could."""
        tried = [fate for fate in map(self.fate, self.mutants) if fate is not Fate.NOT_APPLICABLE]
        return tried.count(Fate.KILLED) / len(tried) if tried else 1.0

    @property
    def share_of_quick(self) -> float:
        """The part of the mutants that tests of the profile quick kill with each seed, 0 to 1; 1 if none could.

        Mutants that need what few hosts have do not count, wherever they were tried.
        """
        tried = [one for one in self.mutants if not one.needs and self.fate(one) is not Fate.NOT_APPLICABLE]
        killed = [one for one in tried if all(t.is_killed_by_quick(one.named_for) for t in self.of(one))]
        return len(killed) / len(tried) if tried else 1.0

    def kills_of(self, mutant: Specimen) -> list[Kill]:
        """For each seed that killed it, the kill by the requirement that it is named for."""
        found = [one.killed_by(mutant.named_for) for one in self.of(mutant)]
        return [one for one in found if one is not None]

    def size_of(self, mutant: Specimen) -> int | None:
        """The size of its minimal example, the largest of those over the seeds; None if none is known."""
        return max((one.size for one in self.kills_of(mutant) if one.size is not None), default=None)

    def other_killers(self, mutant: Specimen) -> list[str]:
        """The requirements that failed besides the one that it is named for."""
        found = dict.fromkeys(one for trial in self.of(mutant) for one in trial.killers)
        return [one for one in found if one != mutant.named_for]

    def median_and_worst(self) -> tuple[float, float]:
        """Seconds to the kill; zeros if nothing was killed."""
        seconds = [kill.seconds for mutant in self.mutants for kill in self.kills_of(mutant)] or [0.0]
        return statistics.median(seconds), max(seconds)


def uncovered(matrix: KillMatrix, requirements: Iterable[str], exceptions: Mapping[str, str]) -> dict[str, str]:
    """Requirements that no mutant was seen to break, with what is wrong; those that are excepted are left out.

    A mutant that cannot be tried on this host covers what it is said to break.
    """
    said = {one for mutant in matrix.mutants for one in mutant.breaks}
    seen = {one for trial in matrix.trials for one in trial.killers}
    believed = {
        one for mutant in matrix.mutants if matrix.fate(mutant) is Fate.NOT_APPLICABLE for one in mutant.breaks
    }
    found = {}
    for one in requirements:
        if one in exceptions:
            if one in said:
                found[one] = "a mutant breaks it, so it is not an exception; remove it from the list of exceptions"
        elif one not in said:
            found[one] = "no mutant breaks it; write one, or list it as an exception with a reason"
        elif one not in seen | believed:
            found[one] = "no mutant broke it, although one should"
    return found
