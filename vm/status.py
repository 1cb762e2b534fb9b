"""What is judged of a matrix, and what is missing: by cell and requirement, before, while and after it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.report.records import BadResults, Part, read
from conformance.spec.verdicts import Verdict
from vm.keeping import settled
from vm.plan import Cell

_OPEN: Final = (Verdict.UNTESTED, Verdict.ERROR)
_NAMED: Final = 6  # requirements or cells in one line


@dataclass(frozen=True, slots=True)
class Question:
    """What makes results comparable: a cell that answers another question has to be judged again."""

    suite: str
    specification: str
    profile: str
    examples: int
    seed: int


@dataclass(frozen=True, slots=True)
class State:
    """A cell and its result.

    ``missing`` has a reason for each requirement that is not judged; ``kernel`` is the release that judged, "" if
    there is no result that counts.
    """

    cell: Cell
    missing: Mapping[str, str]
    kernel: str = ""

    @property
    def judged(self) -> int:
        """How many of its requirements have a verdict that says something."""
        return len(self.cell.requirements) - len(self.missing)


def state_of(cell: Cell, file: Path, question: Question) -> State:
    """The state of a cell by its result file."""
    try:
        (part,) = read(file)
    except (BadResults, ValueError):
        return _none(cell, "not run")
    run = part.run
    asked = Question(run.suite, run.specification, run.profile, run.examples, run.seed)
    if run.interrupted and asked == question:
        left = set(cell.requirements) - settled(part)
        return State(cell, {one: "interrupted" for one in cell.requirements if one in left}, run.kernel)
    if run.failure:
        return _none(cell, f"the machine was lost: {run.failure.splitlines()[0]}")
    if asked != question:
        return _none(cell, "its result is of another suite, specification, profile, seed or number of examples")
    return State(cell, _missing(cell, part), run.kernel)


def _none(cell: Cell, why: str) -> State:
    return State(cell, dict.fromkeys(cell.requirements, why))


def _missing(cell: Cell, part: Part) -> dict[str, str]:
    """Without a verdict; a profile that is a choice of tests has no test of some requirements, which is no lack."""
    said = {one.requirement: one.verdict for one in part.results()}
    return {
        one: said[one].value if one in said else "not selected in its run"
        for one in cell.requirements
        if (one in said or not part.run.is_partial) and said.get(one, Verdict.UNTESTED) in _OPEN
    }


def lines_of(states: Sequence[State], seconds: Mapping[str, float]) -> Iterator[str]:
    """For people: judged of all for each cell in a table, then what is missing and how long it may take.

    ``seconds`` is how long cells took that were run, by their names.
    """
    rows: dict[tuple[str, str, str], dict[str, State]] = {}
    columns: dict[str, None] = {}
    for one in states:
        cell = one.cell
        where = cell.backing.name if cell.overlay.name == "default" else f"{cell.backing.name}+{cell.overlay.name}"
        columns[where] = None
        rows.setdefault((cell.kernel.name, cell.driver.name, cell.privilege), {})[where] = one
    heads = ("kernel", "driver", "privilege", *columns)
    table = [heads]
    for names, found in rows.items():
        table.append((*names, *(_share(found.get(column)) for column in columns)))
    widths = [max(len(row[index]) for row in table) for index in range(len(heads))]
    for row in table:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield from _rest(states, seconds)


def _share(state: State | None) -> str:
    if state is None:
        return "-"
    return f"{state.judged}/{len(state.cell.requirements)}"


def _rest(states: Sequence[State], seconds: Mapping[str, float]) -> Iterator[str]:
    left = [one for one in states if one.missing]
    if not left:
        yield f"complete: {len(states)} cells, nothing is missing"
        return
    missing = sum(len(one.missing) for one in left)
    total = sum(len(one.cell.requirements) for one in states)
    yield f"{missing} of {total} verdicts are missing, in {len(left)} of {len(states)} cells"
    each = [seconds[one.cell.name] / len(one.cell.requirements) for one in states if seconds.get(one.cell.name)]
    if each:
        guess = missing * sum(each) / len(each) / 60
        yield f"about {guess:.0f} min of machine time, by the cells that were run"
    whole: dict[str, list[str]] = {}
    for one in left:
        by_reason: dict[str, list[str]] = {}
        for name, why in one.missing.items():
            by_reason.setdefault(why, []).append(name)
        for why, names in by_reason.items():
            if len(names) == len(one.cell.requirements):
                whole.setdefault(why, []).append(one.cell.name)
            else:
                yield f"  {one.cell.name}: {_names(names)}: {why}"
    for why, cells in whole.items():
        yield f"  {why}: {len(cells)} cells: {_names(cells)}"


def _names(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_NAMED])} and {more} more"
