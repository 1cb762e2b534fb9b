"""What becomes of generated mutants, and the score."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from conformance.harness.events import GeneratedFate as Fate
from conformance.harness.events import Judged
from conformance.selftest.generated.mutants import GeneratedMutant
from conformance.spec.values import Count


@dataclass(frozen=True, slots=True)
class Tried:
    """A mutant and its fate.

    ``test`` and ``requirements`` are those that killed it. ``reason`` is the failure, why the preflight failed, why
    it is equivalent, or, for a survivor, what the harness said, if anything. ``reached`` counts the tests that
    execute the mutated statement; ``seconds`` is the time of the trial, 0 without one. ``kind`` is that of the
    reason why it survives, if the list of survivors has one.
    """

    mutant: GeneratedMutant
    fate: Fate
    test: str = ""
    requirements: tuple[str, ...] = ()
    reason: str = ""
    reached: int = 0
    seconds: float = 0.0
    kind: str = ""

    @classmethod
    def of(cls, mutant: GeneratedMutant, said: Judged) -> Tried:
        """A mutant with the result that an event or a line of a file has."""
        return cls(
            mutant, said.fate, said.test, said.requirements, said.reason, said.reached, said.seconds, said.kind
        )

    @property
    def judged(self) -> Judged:
        """The result without the mutant."""
        return Judged(
            *(self.mutant.id, self.fate, self.test, self.requirements, self.reason, self.reached, self.seconds),
            kind=self.kind,
        )


@dataclass(frozen=True, slots=True)
class Score:
    """How many mutants have each fate."""

    killed: Count = 0
    survived: Count = 0
    stillborn: Count = 0
    equivalent: Count = 0
    undecided: Count = 0

    @classmethod
    def of(cls, tried: Iterable[Tried]) -> Score:
        """The counts of some mutants."""
        fates = [one.fate for one in tried]
        return cls(*(fates.count(one) for one in Fate))

    @property
    def share(self) -> float:
        """Killed of those that are neither equivalent nor stillborn, 0 to 1; 1 if there are none."""
        judged = self.killed + self.survived + self.undecided
        return self.killed / judged if judged else 1.0


def scores_by(tried: Iterable[Tried], key: Callable[[Tried], str]) -> dict[str, Score]:
    """The score of each group, by its name."""
    groups: dict[str, list[Tried]] = {}
    for one in tried:
        groups.setdefault(key(one), []).append(one)
    return {name: Score.of(members) for name, members in sorted(groups.items())}


def median_seconds(tried: Iterable[Tried]) -> float:
    """The median time of a trial that ended with a kill, in seconds; 0 without a kill."""
    seconds = [one.seconds for one in tried if one.fate is Fate.KILLED]
    return statistics.median(seconds) if seconds else 0.0
