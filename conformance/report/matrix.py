"""Requirements by columns: what every report shows, from the parts of a result file."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from conformance.report.records import Part, Run
from conformance.spec import VARIES, Requirement
from conformance.spec.verdicts import NOT_COUNTED, Share, TestOutcome, Verdict, judge, shares_of, worst


@dataclass(frozen=True, slots=True, order=True)
class Column:
    """A driver on a kernel on a backing filesystem, in one profile.

    Where runs differ in the parameters of overlay, ``backing`` says those that are unusual, too.
    """

    driver: str
    version: str
    kernel: str
    backing: str
    lane: str
    profile: str


@dataclass(frozen=True, slots=True)
class Cell:
    """What is known of one requirement in one column; ``outcomes`` are those that decided the verdict.

    ``share`` is how many of the requirement's tests ran there.
    """

    verdict: Verdict
    outcomes: tuple[TestOutcome, ...]
    share: Share = NOT_COUNTED


@dataclass(frozen=True, slots=True)
class Matrix:
    """Cells by requirement and column; what has no cell was not selected."""

    requirements: tuple[Requirement, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, Column], Cell]
    runs: tuple[Run, ...]

    def verdicts(self, columns: Iterable[Column]) -> dict[str, Verdict]:
        """The verdict on each requirement that has a cell in one of the columns, over all of them."""
        found: dict[str, list[Verdict]] = {}
        for column in columns:
            for one in self.requirements:
                if cell := self.cells.get((one.id, column)):
                    # Where one filesystem has no test of it, those of another decide.
                    found.setdefault(one.id, []).extend([cell.verdict] if cell.outcomes else [])
        return {name: worst(said) for name, said in found.items()}

    def counts(self, column: Column) -> dict[Verdict, int]:
        """How often each verdict is in a column."""
        found = [cell.verdict for (_, where), cell in self.cells.items() if where == column]
        return {verdict: found.count(verdict) for verdict in Verdict if verdict in found}


def matrix_of(parts: Sequence[Part], requirements: Mapping[str, Requirement]) -> Matrix:
    """The matrix of a result file."""
    outcomes: dict[Column, list[TestOutcome]] = {}
    selected: dict[Column, dict[str, None]] = {}
    places: dict[Column, tuple[str, str, str]] = {}
    counts: dict[Column, dict[str, int]] = {}
    unusual = _unusual([part.run for part in parts])
    for part in parts:
        said = " ".join(f"{name}={value}" for name, value in part.run.overlay.items() if (name, value) in unusual)
        for column, found in _by_column(part, said).items():
            places[column] = (part.run.kernel, column.backing.removesuffix(f" {said}"), said)
            outcomes.setdefault(column, []).extend(found)
            for of_backing in (*part.run.tests.values(), part.run.tests.get(places[column][1], {})):
                counts.setdefault(column, {}).update(of_backing)  # the column's own last
            named = [one for outcome in found for one in outcome.requirements]
            # What a profile or -k leaves out is no finding, so a requirement without an outcome has no cell.
            asked = () if part.run.is_partial else part.to_judge
            selected.setdefault(column, {}).update(dict.fromkeys([*asked, *named]))
    cells: dict[tuple[str, Column], Cell] = {}
    for column, found in outcomes.items():
        shares = shares_of(found, counts.get(column, {}))
        for result in judge(selected[column], found):
            share = shares.get(result.requirement, NOT_COUNTED)
            cells[result.requirement, column] = Cell(result.verdict, result.outcomes, share)
    _fill_in(cells, places, requirements)
    shown = tuple(one for one in requirements.values() if any(one.id == name for name, _ in cells))
    return Matrix(shown, tuple(sorted(outcomes)), cells, tuple(part.run for part in parts))


def _unusual(runs: Sequence[Run]) -> set[tuple[str, str]]:
    """Values of parameters of overlay that fewer runs have than another one."""
    found: dict[str, Counter[str]] = {}
    for run in runs:
        for name, value in run.overlay.items():
            found.setdefault(name, Counter())[value] += 1
    usual = {name: max(sorted(counts), key=counts.__getitem__) for name, counts in found.items()}
    return {(name, value) for name, counts in found.items() for value in counts if value != usual[name]}


def _fill_in(
    cells: dict[tuple[str, Column], Cell],
    places: Mapping[Column, tuple[str, str, str]],
    requirements: Mapping[str, Requirement],
) -> None:
    """Give a verdict that cannot differ between two columns, and so was tested in one of them, to both.

    An error is not: it was of one place, and says nothing of the driver.
    """

    def like(requirement: Requirement, column: Column) -> tuple[str, ...]:
        differing = [one for what, one in zip(VARIES, places[column], strict=True) if what in requirement.varies]
        return (column.driver, column.version, column.lane, column.profile, *differing)

    for requirement in requirements.values():
        known: dict[tuple[str, ...], Cell] = {}
        # Tests on the filesystem itself come first.
        for elsewhere, column in itertools.product((False, True), places):
            there = cells.get((requirement.id, column))
            if (
                there
                and there.verdict is not Verdict.ERROR
                and _elsewhere(there, requirement, places[column]) is elsewhere
            ):
                known.setdefault(like(requirement, column), there)
        for column in places:
            cell = known.get(like(requirement, column))
            there = cells.get((requirement.id, column))
            if cell and (there is None or _elsewhere(there, requirement, places[column])):
                cells[requirement.id, column] = cell


def _elsewhere(cell: Cell, requirement: Requirement, place: tuple[str, str, str]) -> bool:
    """Whether a cell is of tests on other filesystems, although they can differ (:func:`_borrowed`)."""
    _, backing, _ = place
    return "backing" in requirement.varies and all(one.backing not in ("", backing) for one in cell.outcomes)


def _by_column(part: Part, said: str) -> dict[Column, list[TestOutcome]]:
    run = part.run
    columns = {
        backing: Column(run.driver, run.version, run.kernel, f"{backing} {said}".strip(), run.lane, run.profile)
        for backing in run.backings or ("host",)
    }
    first = next(iter(columns.values()))
    found: dict[Column, list[TestOutcome]] = {column: [] for column in columns.values()}
    for outcome in part.outcomes:
        found[columns.get(outcome.backing, first)].append(outcome)
    return {column: [*own, *_borrowed(own, part.outcomes)] for column, own in found.items()}


def _borrowed(own: Sequence[TestOutcome], all_of_run: Sequence[TestOutcome]) -> list[TestOutcome]:
    """What the filesystem makes no difference to ran once in a run, and tells of all of its columns."""
    known = {one for outcome in own for one in outcome.requirements}
    return [outcome for outcome in all_of_run if not known & set(outcome.requirements)]
