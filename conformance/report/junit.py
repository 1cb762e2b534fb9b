"""JUnit XML, as GitLab, Jenkins and others read it: a suite for each column, a case for each requirement."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Final

from conformance.history.printable import one_line, printable
from conformance.report.consequences import LABEL, consequence_of
from conformance.report.matrix import Cell, Column, Matrix
from conformance.spec import Requirement
from conformance.spec.verdicts import TestOutcome, Verdict

_FAILURES: Final = (Verdict.FAIL, Verdict.XPASS)
_LEFT_OUT: Final = (Verdict.DECLINED, Verdict.NOT_APPLICABLE, Verdict.UNTESTED, Verdict.XFAIL)


def junit(matrix: Matrix) -> str:
    """The whole document."""
    root = ET.Element("testsuites", name="overlay-conformance")
    for column in matrix.columns:
        _suite(root, matrix, column)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, matrix: Matrix, column: Column) -> None:
    cells = [(one, matrix.cells[one.id, column]) for one in matrix.requirements if (one.id, column) in matrix.cells]
    verdicts = [cell.verdict for _, cell in cells]
    suite = ET.SubElement(
        root,
        "testsuite",
        name=one_line(title_of(column)),
        tests=str(len(cells)),
        failures=str(sum(one in _FAILURES for one in verdicts)),
        errors=str(verdicts.count(Verdict.ERROR)),
        skipped=str(sum(one in _LEFT_OUT for one in verdicts)),
        time=f"{sum(_seconds(cell) for _, cell in cells):.3f}",
    )
    for requirement, cell in cells:
        family = re.sub(r"[^a-z0-9]+", "_", requirement.family.lower()).strip("_")
        case = ET.SubElement(
            suite,
            "testcase",
            classname=one_line(f"{family}.{column.backing}"),
            name=requirement.id,
            time=f"{_seconds(cell):.3f}",
        )
        _result(case, cell, requirement)


def _result(case: ET.Element, cell: Cell, requirement: Requirement) -> None:
    reasons = [outcome.reason for outcome in cell.outcomes if outcome.reason]
    first = reasons[0].splitlines()[0] if reasons else cell.verdict.value
    kind = "failure" if cell.verdict in _FAILURES else "error" if cell.verdict is Verdict.ERROR else "skipped"
    if cell.verdict is not Verdict.PASS:
        node = ET.SubElement(case, kind, message=one_line(f"{cell.verdict.value}: {first}"))
        if kind != "skipped":
            node.set("type", cell.verdict.value)
            seen = (consequence_of(one, {requirement.id: requirement}) for one in cell.outcomes)
            consequences = [f"{LABEL}: {one}" for one in dict.fromkeys(seen) if one]
            parts = ["\n".join([requirement.sentence, *consequences]), *map(_told, cell.outcomes)]
            node.text = printable("\n\n".join(parts), lines=True)


def _told(outcome: TestOutcome) -> str:
    steps = [f"{number}. {step}" for number, step in enumerate(outcome.steps, 1)]
    evidence = [f"evidence: {outcome.evidence}"] if outcome.evidence else []
    return "\n".join([outcome.test, outcome.reason, *steps, *evidence])


def _seconds(cell: Cell) -> float:
    return sum(outcome.seconds for outcome in cell.outcomes)


def title_of(column: Column) -> str:
    """A column in one line."""
    where = f"Linux {column.kernel}, {column.backing}, {column.lane}"
    return f"{column.driver} {column.version}, {where}, {column.profile}"
