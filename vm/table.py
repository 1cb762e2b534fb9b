"""The result of a matrix in Markdown: counts of each kernel and filesystem, what differs, and what was run.

Made of the result file and ``timings.json`` alone, so the page of docs/ is written again from the same data.
"""

from __future__ import annotations

import re
import statistics
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from conformance.report.matrix import Cell, Column, Matrix
from conformance.report.records import Run
from conformance.spec.verdicts import Verdict
from vm.timings import STEPS, overhead

BEGIN: Final = "<!-- made by: overlay-conformance matrix collect --markdown -->"
PACKAGE: Final = "kernel package "  # how notes of a run begin
MACHINE: Final = "machine of "
_BAD: Final = (Verdict.ERROR, Verdict.FAIL, Verdict.XPASS)
_SHOWN: Final = (Verdict.PASS, Verdict.XFAIL, Verdict.UNTESTED)
_SHORT: Final = {Verdict.PASS: "pass", Verdict.XFAIL: "known", Verdict.UNTESTED: "untested"}
# An error says nothing of the driver or the kernel, so it is no difference.
_JUDGED: Final = (
    Verdict.FAIL,
    Verdict.XPASS,
    Verdict.PASS,
    Verdict.XFAIL,
    Verdict.DECLINED,
    Verdict.NOT_APPLICABLE,
)
_CONTROL: Final = "mounter:"  # drivers that are the bare kernel
_LONGEST: Final = 160  # characters of a reason
_NAMED: Final = 8  # requirements in one line of a table
_NUMBER: Final = re.compile(r"(\d+)\.(\d+)")


def as_markdown(matrix: Matrix, timings: Mapping[str, Mapping[str, float]], scripts: Collection[str] = ()) -> str:
    """The whole table, without a heading of level 1; ``scripts`` are the evidence folders that have one."""
    return "\n".join(_lines(matrix, timings, scripts)).rstrip("\n") + "\n"


def _lines(matrix: Matrix, timings: Mapping[str, Mapping[str, float]], scripts: Collection[str]) -> Iterator[str]:
    dates = sorted(run.started[:10] for run in matrix.runs)
    yield f"## Results of {dates[0] if dates[0] == dates[-1] else f'{dates[0]} to {dates[-1]}'}"
    yield ""
    yield from _about(matrix.runs)
    yield from _between_kernels(matrix, scripts)
    for driver, columns in _by_driver(matrix).items():
        yield f"### {driver}"
        yield ""
        yield from _counts(matrix, columns)
        yield from _between_backings(matrix, columns)
        yield from _failures(matrix, columns)
    yield from _times(timings)
    yield from _not_judged(matrix.runs)
    yield from _runs(matrix.runs)


def _about(runs: Sequence[Run]) -> Iterator[str]:
    suites = _list({f"overlay-conformance {run.suite}, specification {run.specification}" for run in runs})
    profiles = _list({f"profile {run.profile} with {run.examples} examples" for run in runs})
    yield f"{sum(max(1, len(run.backings)) for run in runs)} cells; {suites}; {profiles}."
    yield "The numbers count requirements. Requirements that are not applicable or that the driver declines are not"
    yield "counted; requirements that did not run within the time of a cell are untested."
    yield ""
    yield "| kernel | package | machine | hours of tests |"
    yield "|---|---|---|--:|"
    rows: dict[tuple[str, str, str], float] = {}
    for run in runs:
        row = (run.kernel, _noted(run, PACKAGE), _noted(run, MACHINE))
        rows[row] = rows.get(row, 0.0) + run.seconds / 3600
    for row in sorted(rows, key=lambda one: (_in_order(one[0]), one)):
        yield f"| {' | '.join(row)} | {rows[row]:.1f} |"
    yield ""


def _noted(run: Run, what: str) -> str:
    return next((one.removeprefix(what) for one in run.notes if one.startswith(what)), "")


def _by_driver(matrix: Matrix) -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = {}
    for column in sorted(matrix.columns, key=lambda one: (one.driver, _in_order(one.kernel), one.backing)):
        who = "" if column.lane == "root" else f", {column.lane.replace('-', ' ')}"
        # The version of the bare kernel is its release, which the rows have.
        version = "" if column.version == column.kernel else f" {column.version}"
        found.setdefault(f"{column.driver}{version}{who}", []).append(column)
    return found


def _in_order(kernel: str) -> tuple[int, int, str]:
    match = _NUMBER.match(kernel)
    return (int(match[1]), int(match[2]), kernel) if match else (0, 0, kernel)


def _counts(matrix: Matrix, columns: Sequence[Column]) -> Iterator[str]:
    backings = sorted({one.backing for one in columns})
    yield f"| kernel | {' | '.join(backings)} |"
    yield "|---|" + "---|" * len(backings)
    places = {(one.kernel, one.backing): one for one in columns}
    for kernel in sorted({one.kernel for one in columns}, key=_in_order):
        cells = [_count(matrix, places.get((kernel, backing))) for backing in backings]
        yield f"| {_short(kernel)} | {' | '.join(cells)} |"
    yield ""


def _count(matrix: Matrix, column: Column | None) -> str:
    if column is None:
        return ""
    counts = matrix.counts(column)
    bad = [f"**{counts[one]} {one.value}**" for one in _BAD if counts.get(one)]
    rest = [f"{counts[one]} {_SHORT[one]}" for one in _SHOWN if counts.get(one)]
    return ", ".join(bad + rest) or "none applicable"


def _short(kernel: str) -> str:
    match = _NUMBER.match(kernel)
    return match[0] if match else kernel


def _between_kernels(matrix: Matrix, scripts: Collection[str]) -> Iterator[str]:
    """What differs between kernels with one driver, those of the bare kernel first, each with its reproducer."""
    rows: dict[tuple[str, ...], list[str]] = {}
    drivers = _by_driver(matrix)
    for driver in sorted(drivers, key=lambda one: not one.startswith(_CONTROL)):
        columns = drivers[driver]
        for requirement in matrix.requirements:
            said: dict[tuple[str, str, str], list[str]] = {}
            for backing in sorted({one.backing for one in columns}):
                places = {_short(one.kernel): one for one in columns if one.backing == backing}
                found = _verdicts(matrix, requirement.id, places)
                if len(found) > 1:
                    cells = [matrix.cells[requirement.id, places[one]] for one in found[_least_good(found)]]
                    said.setdefault((_said(found), _reason(cells[0]), _reproducer(cells, scripts)), []).append(
                        backing
                    )
            for (verdicts, why, script), backings in said.items():
                row = (verdicts, ", ".join(backings), driver, why, script)
                rows.setdefault(row, []).append(requirement.id)
    yield "### Differences between kernels"
    yield ""
    heads = ("requirement", "verdict on kernels", "backing filesystem", "driver", "why", "reproducer")
    yield from _rows(heads, rows) if rows else ("None.", "")


def _least_good(found: Iterable[Verdict]) -> Verdict:
    """The verdict that a difference is about."""
    return min(found, key=lambda one: (one is Verdict.PASS, list(Verdict).index(one)))


def _reproducer(cells: Iterable[Cell], scripts: Collection[str]) -> str:
    """The script of a failure, else its steps, as a path in the archive of its cell."""
    folders = [one.evidence for cell in cells for one in cell.outcomes if one.evidence]
    named = [f"`{one}/repro.sh`" for one in folders if one in scripts]
    return next(iter([*named, *(f"`{one}/failure.md`" for one in folders)]), "")


def _between_backings(matrix: Matrix, columns: Sequence[Column]) -> Iterator[str]:
    """What differs between filesystems on one kernel at least; kernels with the same verdicts are listed once."""
    rows: dict[tuple[str, ...], list[str]] = {}
    kernels = sorted({one.kernel for one in columns}, key=_in_order)
    for requirement in matrix.requirements:
        said: dict[str, list[str]] = {}
        for kernel in kernels:
            places = {one.backing: one for one in columns if one.kernel == kernel}
            found = _verdicts(matrix, requirement.id, places)
            if len(found) > 1:
                said.setdefault(_said(found), []).append(_short(kernel))
        for words, where in said.items():
            told = "all" if len(where) == len(kernels) else ", ".join(where)
            rows.setdefault((words, told), []).append(requirement.id)
    yield from _table(
        "Differences between backing filesystems", ("requirement", "verdict on filesystems", "kernels"), rows
    )


def _table(title: str, heads: Sequence[str], rows: Mapping[tuple[str, ...], Sequence[str]]) -> Iterator[str]:
    yield f"**{title}**" + ("" if rows else ": none.")
    yield ""
    if rows:
        yield from _rows(heads, rows)


def _rows(heads: Sequence[str], rows: Mapping[tuple[str, ...], Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for words, ids in rows.items():
        yield f"| {_ids(ids)} | {' | '.join(map(_cell, words))} |"
    yield ""


def _ids(found: Sequence[str]) -> str:
    more = len(found) - _NAMED
    return ", ".join(found) if more <= 0 else f"{', '.join(found[:_NAMED])} and {more} more"


def _verdicts(matrix: Matrix, requirement: str, places: Mapping[str, Column]) -> dict[Verdict, list[str]]:
    """Places by their verdict; an untested requirement differs from nothing."""
    found: dict[Verdict, list[str]] = {}
    for place, column in places.items():
        cell = matrix.cells.get((requirement, column))
        if cell and cell.verdict in _JUDGED:
            found.setdefault(cell.verdict, []).append(place)
    return found


def _said(found: Mapping[Verdict, Sequence[str]]) -> str:
    return "; ".join(f"{one.value}: {', '.join(found[one])}" for one in Verdict if one in found)


def _failures(matrix: Matrix, columns: Sequence[Column]) -> Iterator[str]:
    places: dict[tuple[str, str, str], list[str]] = {}
    for requirement in matrix.requirements:
        for column in columns:
            cell = matrix.cells.get((requirement.id, column))
            if cell and cell.verdict in _BAD:
                where = f"{_short(column.kernel)} {column.backing}"
                places.setdefault((requirement.id, cell.verdict.value, _reason(cell)), []).append(where)
    rows: dict[tuple[str, ...], list[str]] = {}
    for (name, verdict, reason), found in places.items():
        rows.setdefault((verdict, reason, ", ".join(found)), []).append(name)
    yield from _table("Failures", ("requirement", "verdict", "why", "where"), rows)


def _reason(cell: Cell) -> str:
    reason = cell.outcomes[0].reason if cell.outcomes else ""
    return textwrap.shorten((reason.splitlines() or [""])[0], _LONGEST, placeholder=" ...")


def _times(timings: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    whole = [one for one in timings.values() if one.get("suite")]
    if not whole:
        return
    yield "### Time"
    yield ""
    yield "Seconds. A machine is started for the first cell of its kernel and destroyed after the last."
    yield "The overhead of a cell is its time without the suite and without a reset that is judged."
    yield ""
    yield "| step | cells | median | maximum |"
    yield "|---|--:|--:|--:|"
    for step in STEPS:
        yield _time(step, [one[step] for one in whole if one.get(step)])
    yield _time("overhead", [overhead(one) for one in whole])
    yield ""


def _time(step: str, found: Sequence[float]) -> str:
    if not found:
        return f"| {step} | 0 | | |"
    return f"| {step} | {len(found)} | {statistics.median(found):.1f} | {max(found):.1f} |"


def _not_judged(runs: Iterable[Run]) -> Iterator[str]:
    """Cells that ended without a verdict on everything, such as those whose driver failed the preflight."""
    for run in sorted(runs, key=lambda one: (one.connection, _in_order(one.kernel), one.backings)):
        if run.failure:
            where = f"{_short(run.kernel)}, {', '.join(run.backings)}"
            yield f"- incomplete: {_cell(run.connection)} on {where}: {_cell(' '.join(run.failure.split()))}"
            yield ""


def _runs(runs: Iterable[Run]) -> Iterator[str]:
    yield "<details><summary>All cells with their seeds, which repeat their examples</summary>"
    yield ""
    yield "| driver | kernel | on | seed | seconds | requirements |"
    yield "|---|---|---|--:|--:|--:|"
    usual = Counter(tuple(sorted(run.overlay.items())) for run in runs).most_common(1)
    for run in sorted(runs, key=lambda one: (one.connection, _in_order(one.kernel), one.backings)):
        other = set(run.overlay.items()) - set(usual[0][0])
        where = " ".join([*run.backings, *(f"{name}={value}" for name, value in sorted(other))])
        said = f"{run.seed} | {run.seconds:.0f} | {len(run.selected)}"
        yield f"| {_cell(run.connection)} | {_short(run.kernel)} | {where} | {said} |"
    yield ""
    yield "</details>"
    yield ""


def _list(said: Iterable[str]) -> str:
    return " and ".join(sorted(said))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
