"""Known failures of a driver: a TOML file beside its sources, strict, with a date by which each is looked at again.

A failure that an entry expects is XFAIL and does not fail the run. An entry whose requirement passes is XPASS and
does: what is expected here has to be true. See docs/known-failures.md.
"""

from __future__ import annotations

import datetime
import fnmatch
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from conformance.history.case import BadCase, Case
from conformance.lab.backing import BACKINGS, HOST
from conformance.spec import Requirement
from conformance.spec.errors import BadFile
from conformance.spec.values import BadValue, Key, from_plain
from conformance.spec.verdicts import PREFLIGHT, TestOutcome, Verdict

if TYPE_CHECKING:
    import tomlkit.items

FORMAT: Final = 1
REVIEW_AFTER: Final = 90  # days until a new entry is to be looked at again


class BadExpectations(BadFile):
    """The file cannot be used as it is; the text names the file, the entry and what to do."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A requirement that is known to fail, and where: an empty condition is always true.

    ``kernel`` and ``driver_version`` are conditions such as ``>=5.10, <6.1``; ``test`` is a pattern of test names;
    ``case`` is the path of a stored case, relative to the file.
    """

    requirement: str
    reason: str
    review_by: Annotated[datetime.date, Key(name="review-by")]
    link: str = ""
    test: str = "*"
    kernel: str = ""
    backing: tuple[str, ...] = ()
    driver_version: Annotated[str, Key(name="driver-version")] = ""
    case: str = ""

    def holds(self, kernel: str, driver_version: str) -> bool:
        """Whether the conditions are true of a kernel and a version of the driver."""
        return within(self.kernel, kernel) and within(self.driver_version, driver_version)

    def is_about(self, outcome: TestOutcome) -> bool:
        """Whether an outcome is of the requirement, the filesystem and the tests of this entry.

        A run ends with a preflight that fails, so such a failure is never an expected one.
        """
        return (
            outcome.test != PREFLIGHT
            and self.requirement in outcome.requirements
            and (not self.backing or outcome.backing in self.backing)
            and fnmatch.fnmatchcase(outcome.test, self.test)
        )

    def in_words(self) -> str:
        """Why the failure is expected."""
        link = f" ({self.link})" if self.link else ""
        return f"known: {self.reason}{link}, to be reviewed by {self.review_by}"


def within(condition: str, version: str) -> bool:
    """Whether a version meets a condition such as ``>=5.10, <6.1``; only its leading numbers count."""
    if not condition:
        return True
    from packaging.specifiers import SpecifierSet  # every run imports this module, and few have such a condition

    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return match is not None and SpecifierSet(condition).contains(match[0], prereleases=True)


def load(path: Path, requirements: Mapping[str, Requirement], today: datetime.date) -> list[Expectation]:
    """The entries of a file; raises BadExpectations for one that is not right, or past its date."""
    try:
        said = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadExpectations(f"{path}: {error}") from error
    if said.get("format") != FORMAT or said.keys() - {"format", "known"}:
        raise BadExpectations(f"{path}: it has to begin with 'format = {FORMAT}' and hold entries [[known]] only")
    found = []
    entries = said.get("known", [])
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise BadExpectations(f"{path}: known has to be entries [[known]]")
    for number, entry in enumerate(entries, 1):
        try:
            found.append(_checked(from_plain(Expectation, entry), requirements, today))
        except (ValueError, BadValue) as error:
            named = entry.get("requirement", "without a requirement")
            raise BadExpectations(f"{path}, entry {number} ({named}): {error}") from error
    return found


def _checked(one: Expectation, requirements: Mapping[str, Requirement], today: datetime.date) -> Expectation:
    """The entry, if what it names is there and its date is to come; raises ValueError."""
    if one.requirement not in requirements:
        raise ValueError("there is no such requirement; 'overlay-conformance list' shows all")
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if not one.reason.strip():
        raise ValueError("an entry needs a reason")
    if one.review_by < today:
        raise ValueError(
            f"its review-by date, {one.review_by}, is past: look at it again, then set a new date or remove it"
        )
    known = {HOST, *(backing.name for backing in BACKINGS)}
    if set(one.backing) - known:
        raise ValueError(f"backing is a list of these: {', '.join(sorted(known))}")
    for key, condition in (("kernel", one.kernel), ("driver-version", one.driver_version)):
        try:
            SpecifierSet(condition)
        except InvalidSpecifier as error:
            raise ValueError(f"{key} is a condition such as '>=5.10, <6.1': {error}") from error
    return one


def stored_cases(known: Sequence[Expectation], file: Path) -> dict[str, Case]:
    """The stored cases of entries, by the name of the test; raises BadExpectations for one that cannot be read."""
    found: dict[str, Case] = {}
    for one in known:
        if one.case:
            path = file.parent / one.case
            try:
                case = Case.from_json(json.loads(path.read_text()))
            except (OSError, ValueError, BadCase) as error:
                raise BadExpectations(f"{file}, {one.requirement}: its case {path}: {error}") from error
            found[case.test] = case
    return found


@dataclass(frozen=True, slots=True)
class Applied:
    """Outcomes after the known failures were taken into account, and entries that could match nothing here."""

    outcomes: list[TestOutcome]
    matchless: list[str]


def apply(known: Sequence[Expectation], outcomes: Sequence[TestOutcome], *, partial: bool = False) -> Applied:
    """FAIL becomes XFAIL where all its requirements are expected to fail; PASS becomes XPASS where none did fail.

    ``known`` are entries whose conditions hold. An entry about requirements that the driver declines can never
    match, and is named in ``matchless``. A ``partial`` run may have left out the tests that fail, so that no PASS
    becomes XPASS.
    """
    judged = [_expected(outcome, known) if outcome.verdict is Verdict.FAIL else outcome for outcome in outcomes]
    matchless = []
    for one in known:
        about = [outcome for outcome in judged if one.is_about(outcome)]
        verdicts = {outcome.verdict for outcome in about}
        if verdicts & {Verdict.XFAIL, Verdict.FAIL, Verdict.ERROR}:
            continue
        if Verdict.PASS in verdicts and not partial:
            judged = [_unexpected(outcome, one) for outcome in judged]
        elif verdicts == {Verdict.DECLINED}:
            matchless.append(f"{one.requirement}: the driver declines it, so it cannot fail; remove the entry")
    return Applied(judged, matchless)


def _expected(outcome: TestOutcome, known: Sequence[Expectation]) -> TestOutcome:
    about = [one for one in known if one.is_about(outcome)]
    if {one.requirement for one in about} != set(outcome.requirements):
        return outcome
    said = "; ".join(dict.fromkeys(one.in_words() for one in about))
    return replace(outcome, verdict=Verdict.XFAIL, reason=f"{said}\n{outcome.reason}")


def _unexpected(outcome: TestOutcome, one: Expectation) -> TestOutcome:
    if outcome.verdict is not Verdict.PASS or not one.is_about(outcome):
        return outcome
    said = f"expected to fail ({one.in_words()}), and passed; remove the entry, or narrow its conditions"
    return replace(outcome, verdict=Verdict.XPASS, reason=said)


def updated(text: str, outcomes: Sequence[TestOutcome], cases: Mapping[str, str], today: datetime.date) -> str:
    """The text of a file after a run: without entries that passed, with one for each new failure.

    ``cases`` has the path of a stored case by requirement. Comments, order and all other entries stay as they are.
    """
    import tomlkit

    document = tomlkit.parse(text) if text else tomlkit.document()
    document.setdefault("format", FORMAT)
    entries = document.setdefault("known", tomlkit.aot())
    passed = {one for outcome in outcomes if outcome.verdict is Verdict.XPASS for one in outcome.requirements}
    for number in reversed(range(len(entries))):
        if entries[number]["requirement"] in passed:
            del entries[number]
    failed: dict[str, TestOutcome] = {}
    for outcome in outcomes:
        if outcome.verdict is Verdict.FAIL and outcome.test != PREFLIGHT:
            for one in outcome.requirements:
                failed.setdefault(one, outcome)
    there = {entry["requirement"] for entry in entries}
    for requirement, outcome in failed.items():
        if requirement not in there:
            entries.append(_new_entry(requirement, outcome, cases.get(requirement, ""), today))
    return tomlkit.dumps(document)


def _new_entry(requirement: str, outcome: TestOutcome, case: str, today: datetime.date) -> tomlkit.items.Table:
    import tomlkit

    entry = tomlkit.table()
    entry["requirement"] = requirement
    entry["reason"] = (outcome.reason.splitlines() or ["not told"])[0][:200]
    entry["review-by"] = today + datetime.timedelta(days=REVIEW_AFTER)
    if case:
        entry["case"] = case
    return entry
