"""Deviations: what failures of real drivers are, and who says so, in the file ``deviations.toml`` of the data."""

from __future__ import annotations

import enum
import fnmatch
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from conformance.report.causes import cause_of
from conformance.spec.errors import HarnessError
from conformance.spec.values import BadValue, RequirementId, from_plain
from conformance.spec.verdicts import TestOutcome
from vm.drivers.builds import Name
from vm.drivers.data import Judged

FILE: Final = "deviations.toml"


class BadDeviations(HarnessError):
    """The file of deviations is wrong, or a failure has no judgement; the text says what to do."""


class Judgement(enum.Enum):
    """What a failure is.

    TRUE: the driver does not do what the requirement's source asks for, and upstream is not known to know. KNOWN:
    the same, and upstream knows. BY_DESIGN: upstream chose it. DISPUTABLE: whether the requirement is right for
    this driver is open.
    """

    TRUE = "true"
    KNOWN = "known"
    BY_DESIGN = "by-design"
    DISPUTABLE = "disputable"


@dataclass(frozen=True, slots=True)
class Deviation:
    """Failures with one cause in a driver's source.

    A failure belongs to it if its requirement, line, cause and test are of these; ``lines``, ``causes`` and
    ``tests`` are patterns of fnmatch(3). ``by`` says who judged, and by what. ``upstream`` are threads, none if
    none was found.
    ``report`` is the name of a report in docs/upstream. With ``private`` no page shows how to reproduce it, as
    SECURITY.md asks for.
    """

    name: Name
    title: str
    judgement: Judgement
    by: str
    why: str
    requirements: tuple[RequirementId, ...]
    lines: tuple[str, ...]
    causes: tuple[str, ...] = ("*",)
    tests: tuple[str, ...] = ("*",)
    source: str = ""
    upstream: tuple[str, ...] = ()
    report: str = ""
    private: bool = False

    def is_of(self, line: str) -> bool:
        """Whether it may be seen in a line."""
        return any(fnmatch.fnmatchcase(line, one) for one in self.lines)

    def has(self, line: str, requirement: str, outcome: TestOutcome) -> bool:
        """Whether a failure of a requirement in a line belongs to it."""
        return (
            requirement in self.requirements
            and self.is_of(line)
            and any(fnmatch.fnmatchcase(cause_of(outcome), one) for one in self.causes)
            and any(fnmatch.fnmatchcase(outcome.test, one) for one in self.tests)
        )


@dataclass(frozen=True, slots=True)
class Questioned:
    """A requirement that every driver breaks, and why it stays, or what is to become of it."""

    requirement: RequirementId
    answer: str


@dataclass(frozen=True, slots=True)
class Deviations:
    """The whole file."""

    format: Literal[1]
    deviation: tuple[Deviation, ...] = ()
    questioned: tuple[Questioned, ...] = ()

    def of(self, line: str, requirement: str, outcome: TestOutcome) -> Deviation | None:
        """The deviation that a failure belongs to, the first of the file that has it."""
        return next((one for one in self.deviation if one.has(line, requirement, outcome)), None)

    def private_requirements(self, line: str) -> frozenset[str]:
        """The requirements of which no reproducer is published for a line."""
        return frozenset(
            name for one in self.deviation if one.private and one.is_of(line) for name in one.requirements
        )


def load(data: Path) -> Deviations:
    """Read the file of a directory of data; raises BadDeviations."""
    file = data / FILE
    try:
        found = from_plain(Deviations, tomllib.loads(file.read_text()))
    except FileNotFoundError as error:
        raise BadDeviations(
            f"{file}: there is no such file; run this in a checkout of the project, or name its directory by --data"
        ) from error
    except (OSError, ValueError, BadValue) as error:
        raise BadDeviations(f"{file}: {error}") from error
    names = [one.name for one in found.deviation]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise BadDeviations(f"{file}: {', '.join(twice)} is there twice; rename one of them")
    return found


def unjudged(found: Iterable[Judged], deviations: Deviations) -> list[str]:
    """The failures that no deviation has, in words."""
    return [
        f"{one.build.name}: {requirement}: {cause_of(outcome)}"
        for one in found
        for requirement, outcome in one.failures
        if deviations.of(one.build.line, requirement, outcome) is None
    ]
