"""What becomes of generated mutants, and the score."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from conformance.selftest.generated.mutants import GeneratedMutant


class Fate(enum.Enum):
    """STILLBORN fails in the preflight, EQUIVALENT is listed as such; neither counts in the score."""

    KILLED = "KILLED"
    SURVIVED = "SURVIVED"
    STILLBORN = "STILLBORN"
    EQUIVALENT = "EQUIVALENT"


@dataclass(frozen=True, slots=True)
class Tried:
    """A mutant and its fate.

    ``test`` and ``requirements`` are those that killed it. ``reason`` is the failure, why the preflight failed, why
    it is equivalent, or, for a survivor, what the harness said, if anything. ``reached`` counts the tests that
    execute the mutated statement; ``seconds`` is the time of the trial, 0 without one.
    """

    mutant: GeneratedMutant
    fate: Fate
    test: str = ""
    requirements: tuple[str, ...] = ()
    reason: str = ""
    reached: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        fields = asdict(self)
        return {"id": self.mutant.id, **fields.pop("mutant"), **fields, "fate": self.fate.value}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Tried:
        """Back from :meth:`as_json`."""
        own = ("fate", "test", "requirements", "reason", "reached", "seconds")
        mutant = {key: value for key, value in fields.items() if key not in (*own, "id")}
        found = {key: fields[key] for key in own}
        found |= {"fate": Fate(fields["fate"]), "requirements": tuple(fields["requirements"])}
        return cls(GeneratedMutant(**{**mutant, "statement": tuple(mutant["statement"])}), **found)


@dataclass(frozen=True, slots=True)
class Score:
    """How many mutants have each fate."""

    killed: int = 0
    survived: int = 0
    stillborn: int = 0
    equivalent: int = 0

    @classmethod
    def of(cls, tried: Iterable[Tried]) -> Score:
        """The counts of some mutants."""
        fates = [one.fate for one in tried]
        return cls(*(fates.count(one) for one in Fate))

    @property
    def share(self) -> float:
        """Killed of those that are neither equivalent nor stillborn, 0 to 1; 1 if there are none."""
        judged = self.killed + self.survived
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
