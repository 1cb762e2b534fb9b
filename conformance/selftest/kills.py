"""What a trial of a mutant says: killed by the requirement that it is named for, or survived.

A trial is one run of the suite on one mutant. A requirement kills a mutant by failing on it, and by nothing else:
an error of the harness, or a failure of another requirement, does not kill it.
"""

from __future__ import annotations

import enum
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from conformance.drivers.python.defects import DEFECTS
from conformance.selftest.mutants.mutant import Mutant
from conformance.spec.verdicts import TestOutcome, Verdict

# A driver that runs into these has not been written with care; a mutant is, and raises what drivers raise.
_DEFECT: Final = re.compile(rf"(?<!\w)({'|'.join(sorted(one.__name__ for one in DEFECTS))}): ")


class Fate(enum.Enum):
    """The result of a mutant. KILLED-BY-OTHERS counts as survived."""

    KILLED = "KILLED"
    BY_OTHERS = "KILLED-BY-OTHERS"
    SURVIVED = "SURVIVED"
    NOT_APPLICABLE = "NOT-APPLICABLE"


@dataclass(frozen=True, slots=True)
class Specimen:
    """What the matrix says of a mutant: its name, what it breaks (the first is what it is named for), and why."""

    name: str
    breaks: tuple[str, ...]
    sentence: str
    source: str
    backing: str = "host"
    hard: bool = False
    needs: str = ""

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

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Specimen:
        """Back from asdict."""
        return cls(**{**fields, "breaks": tuple(fields["breaks"])})


@dataclass(frozen=True, slots=True)
class Kill:
    """A test that failed on a mutant.

    ``seconds`` is the time from the start of the trial to the first example that failed, ``shrunk_seconds`` to the
    end of shrinking; ``examples`` how many the test tried up to that first one, itself included. ``size`` is that
    of the minimal example: the operations that were generated for it if ``drawn``, else those in its layers; None
    if there was no time to shrink it. ``steps`` counts the steps of its trace, calls of the driver included. The
    tree that many examples begin with counts in neither.
    """

    requirements: tuple[str, ...]
    test: str
    seconds: float
    shrunk_seconds: float
    examples: int
    size: int | None
    drawn: bool
    steps: int
    reason: str

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Kill:
        """Back from asdict."""
        return cls(**{**fields, "requirements": tuple(fields["requirements"])})


@dataclass(frozen=True, slots=True)
class Trial:
    """One mutant, one seed, and what was seen.

    ``kills`` are all tests that failed, in their order; ``missed`` those requirements that the mutant is said to
    break and that did not fail; ``reason`` says why it survived or is not applicable. ``seconds`` is the total.
    """

    mutant: str
    seed: int
    fate: Fate
    kills: tuple[Kill, ...] = ()
    missed: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    def killed_by(self, requirement: str) -> Kill | None:
        """The kill of that requirement that was first."""
        found = [one for one in self.kills if requirement in one.requirements]
        return min(found, key=lambda one: one.seconds) if found else None

    @property
    def killers(self) -> tuple[str, ...]:
        """Every requirement that failed, in the order in which it did."""
        return tuple(dict.fromkeys(one for kill in self.kills for one in kill.requirements))

    def as_json(self) -> dict[str, Any]:
        """As an object of JSON, with the key that ``mutant`` has in the format."""
        fields = {**asdict(self), "fate": self.fate.value}
        return {"fault": fields.pop("mutant"), **fields}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Trial:
        """Back from :meth:`as_json`."""
        kills = tuple(Kill.from_json(one) for one in fields["kills"])
        others = {key: value for key, value in fields.items() if key != "fault"}
        changed = {"mutant": fields["fault"], "missed": tuple(fields["missed"])}
        return cls(**{**others, **changed, "fate": Fate(fields["fate"]), "kills": kills})


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back from the process of a trial: outcomes, kills, and why it could not be tried or did not end."""

    outcomes: tuple[TestOutcome, ...] = ()
    kills: tuple[Kill, ...] = ()
    lacking: str = ""
    failure: str = ""
    seconds: float = 0.0


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
