"""A report in Markdown, for a pull request, a job summary or a wiki."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from conformance.history.printable import fenced
from conformance.history.printable import markdown as escaped
from conformance.report.consequences import LABEL, consequence_of
from conformance.report.junit import title_of
from conformance.report.matrix import Cell, Column, Matrix
from conformance.report.records import Run
from conformance.spec import Requirement
from conformance.spec.verdicts import TestOutcome, Verdict

_BAD: Final = (Verdict.FAIL, Verdict.XPASS, Verdict.ERROR)
_STEPS: Final = 40
_NOT_SELECTED: Final = "-"


def markdown(matrix: Matrix) -> str:
    """Counts, what differs between columns, failures with their steps, known failures, and what was left out."""
    return "\n".join(_lines(matrix)) + "\n"


def _lines(matrix: Matrix) -> Iterator[str]:
    yield "# overlay-conformance"
    yield ""
    yield from _counts(matrix)
    yield from _differences(matrix)
    yield from _failures(matrix)
    yield from _passes(matrix)
    yield from _listed(matrix, "Known failures", (Verdict.XFAIL,))
    yield from _listed(
        matrix, "Not judged", (Verdict.DECLINED, Verdict.NOT_APPLICABLE, Verdict.UNTESTED), folded=True
    )
    yield from _runs(matrix)


def _counts(matrix: Matrix) -> Iterator[str]:
    found = {column: matrix.counts(column) for column in matrix.columns}
    verdicts = [verdict for verdict in Verdict if any(verdict in counts for counts in found.values())]
    yield (
        "| driver | kernel | backing filesystem | privilege level | profile | "
        + " | ".join(one.value for one in verdicts)
        + " |"
    )
    yield "|---|---|---|---|---|" + "--:|" * len(verdicts)
    for column, counts in found.items():
        words = [f"{column.driver} {column.version}", column.kernel, column.backing, column.lane, column.profile]
        yield f"| {' | '.join(map(escaped, words))} | {' | '.join(str(counts.get(one, 0)) for one in verdicts)} |"
    yield ""


def _differences(matrix: Matrix) -> Iterator[str]:
    if len(matrix.columns) < 2:
        return
    rows = []
    for requirement in matrix.requirements:
        found = [_verdict(matrix.cells.get((requirement.id, column))) for column in matrix.columns]
        if len(set(found) - {_NOT_SELECTED}) > 1:  # what nobody asked for differs from nothing
            rows.append(f"| {requirement.id} | {' | '.join(found)} |")
    yield "## Differences between columns"
    yield ""
    if rows:
        names = [escaped(f"{one.driver} {one.kernel} {one.backing}") for one in matrix.columns]
        yield f"| requirement | {' | '.join(names)} |"
        yield "|---|" + "---|" * len(names)
        yield from rows
    else:
        yield "None: every requirement has one verdict everywhere."
    yield ""


def _verdict(cell: Cell | None) -> str:
    return cell.verdict.value if cell else _NOT_SELECTED


def _failures(matrix: Matrix) -> Iterator[str]:
    said: set[tuple[str, str]] = set()
    known = {one.id: one for one in matrix.requirements}
    for requirement in matrix.requirements:
        for column in matrix.columns:
            cell = matrix.cells.get((requirement.id, column))
            if cell is None or cell.verdict not in _BAD:
                continue
            if not said:
                yield "## Failures"
                yield ""
            for outcome in cell.outcomes:
                key = (title_of(column), outcome.test)
                if key not in said:
                    said.add(key)
                    yield from _failure(outcome, column, known)
    if said:
        yield ""


def _failure(outcome: TestOutcome, column: Column, requirements: Mapping[str, Requirement]) -> Iterator[str]:
    yield f"### {outcome.verdict.value} {', '.join(outcome.requirements)}"
    yield ""
    yield f"{escaped(title_of(column))}, {escaped(outcome.test)}"
    yield ""
    if consequence := consequence_of(outcome, requirements):
        yield f"{LABEL[0].upper()}{LABEL[1:]}: {escaped(consequence)}"
        yield ""
    yield from _block(outcome.reason)
    if outcome.evidence:
        yield f"Evidence: {escaped(outcome.evidence)}"
        yield ""
    if outcome.steps:
        yield f"<details><summary>{len(outcome.steps)} steps</summary>"
        yield ""
        steps = [f"{number:3}. {step}" for number, step in enumerate(outcome.steps[:_STEPS], 1)]
        more = [f"and {len(outcome.steps) - _STEPS} more"] if len(outcome.steps) > _STEPS else []
        yield from _block("\n".join(steps + more))
        yield "</details>"
        yield ""


def _block(text: str) -> Iterator[str]:
    yield from fenced(text)
    yield ""


def _listed(matrix: Matrix, title: str, verdicts: tuple[Verdict, ...], *, folded: bool = False) -> Iterator[str]:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for requirement in matrix.requirements:
        for column in matrix.columns:
            cell = matrix.cells.get((requirement.id, column))
            if cell and cell.verdict in verdicts:
                reason = cell.outcomes[0].reason if cell.outcomes else "no test of it ran"
                first = reason.split("\n", 1)[0]
                where = f"{column.driver}, {column.kernel}, {column.backing}"
                rows.setdefault((requirement.id, cell.verdict.value, first), []).append(where)
    if not rows:
        return
    if folded:
        yield f"<details><summary>{title}: {len(rows)}</summary>"
    else:
        yield f"## {title}"
    yield ""
    yield "| requirement | verdict | reason | where |"
    yield "|---|---|---|---|"
    for (requirement_id, verdict, reason), places in rows.items():
        yield f"| {requirement_id} | {verdict} | {escaped(reason)} | {escaped('; '.join(places))} |"
    yield ""
    if folded:
        yield "</details>"
        yield ""


def _failure_of(run: Run) -> str:
    if run.interrupted:
        return f"; **partial, {escaped(run.failure)}**: what did not run is UNTESTED"
    if run.failure:
        return f"; **the run failed**: {escaped(run.failure.split(chr(10), 1)[0])}"
    said = [f"**partial, {escaped(run.stopped)}**: what did not run is UNTESTED"] if run.stopped else []
    said += [f"**partial**: only tests that match -k {escaped(run.expression)}"] if run.expression else []
    said += [f"budget {escaped(run.budget)}"] if run.budget else []
    said += [] if run.shrinks else ["examples of failures are not shrunk"]
    return "".join(f"; {one}" for one in said)


def _passes(matrix: Matrix) -> Iterator[str]:
    """Of how many of their tests those passes are for which not all tests ran."""
    rows: dict[tuple[str, str], list[str]] = {}
    for requirement in matrix.requirements:
        for column in matrix.columns:
            cell = matrix.cells.get((requirement.id, column))
            if cell and cell.verdict is Verdict.PASS and cell.share.ran < cell.share.tests:
                where = f"{column.driver}, {column.kernel}, {column.backing}"
                rows.setdefault((requirement.id, cell.share.words(column.profile)), []).append(where)
    if not rows:
        return
    yield f"<details><summary>Passed with some of their tests: {len(rows)}</summary>"
    yield ""
    yield "| requirement | PASS of | where |"
    yield "|---|---|---|"
    for (requirement_id, said), places in rows.items():
        yield f"| {requirement_id} | {said} | {escaped('; '.join(places))} |"
    yield ""
    yield "</details>"
    yield ""


def _runs(matrix: Matrix) -> Iterator[str]:
    for run in matrix.runs:
        yield (
            f"Run {run.id}: overlay-conformance {run.suite}, specification {run.specification}, seed {run.seed},"
            f" {run.examples} examples, {run.seconds:.0f} s, {run.started}" + _failure_of(run)
        )
        yield ""
