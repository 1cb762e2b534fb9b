"""The table of observations: questions by drivers, as values, as Markdown and as HTML.

Made of files of ``observe`` and of the questions. Where the text decides a question, an answer that it does not
permit is marked.
"""

from __future__ import annotations

import html
import itertools
import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.corpus.observed import vectors_of_cases
from conformance.harness.observation import LINES, Observation, Observed, Observing
from conformance.history.printable import printable
from conformance.observing.question import SILENT, Case, Question
from conformance.operations.archives import Entry
from conformance.spec.errors import HarnessError
from conformance.spec.values import BadValue

SUFFIX: Final = ".jsonl.xz"
ROOT: Final = "root"  # the privilege level
_NOT_ASKED: Final = "-"
_WITHOUT: Final = (
    "The same drivers without the privileges of root. Only questions that one of them answers otherwise than as"
    " root are here."
)
_NO_LINKS: Final[Mapping[str, str]] = {}


class BadObservations(HarnessError):
    """A file that is none of ``observe``, or is not whole."""


@dataclass(frozen=True, slots=True)
class Column:
    """One driver, with its answers by question."""

    about: Observing
    answers: Mapping[str, Observation]


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer; ``deviates`` where the text decides and does not permit it."""

    value: str
    detail: str = ""
    deviates: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A question and its cells, in the order of the columns."""

    case: Case
    question: Question
    cells: tuple[Cell, ...]


def read(path: Path) -> Column:
    """A file of ``observe --output``, compressed or not; raises BadObservations, with what to do."""
    try:
        data = path.read_bytes()
        text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode()
        values = [LINES.value(json.loads(line)) for line in text.splitlines()]
    except (OSError, lzma.LZMAError, UnicodeDecodeError, json.JSONDecodeError, BadValue, AttributeError) as error:
        raise BadObservations(f"{path} is no file of 'observe --output': {error}") from error
    match values:
        case [Observing() as about, *between, Observed(exit_code=0)]:
            answers = {one.question: one for one in between if isinstance(one, Observation)}
            return Column(about, answers)
        case _:
            raise BadObservations(f"{path} is not whole: observe the driver again, with --output {path}")


def rows(columns: Sequence[Column], cases: Sequence[Case]) -> list[Row]:
    """All questions that at least one driver was asked."""
    found = []
    for case in cases:
        for question in case.questions:
            cells = tuple(_cell(question, one.answers.get(question.name)) for one in columns)
            if any(cell.value != _NOT_ASKED for cell in cells):
                found.append(Row(case, question, cells))
    return found


def by_privilege(columns: Sequence[Column]) -> tuple[list[Column], list[Column]]:
    """The columns of the table, and those of the same drivers without privileges.

    A driver that was observed without privileges only has its column in the table.
    """
    names = {one.about.name for one in columns if one.about.lane == ROOT}
    without = [one for one in columns if one.about.lane != ROOT and one.about.name in names]
    return [one for one in columns if one not in without], without


def rows_without_privileges(columns: Sequence[Column], cases: Sequence[Case]) -> list[Row]:
    """The questions on which a driver without privileges answers something else than the same one as root."""
    privileged, others = by_privilege(columns)
    as_root = {one.about.name: one.answers for one in privileged}

    def differs(column: Column, question: str) -> bool:
        there, root = column.answers.get(question), as_root.get(column.about.name, {}).get(question)
        return there is not None and root is not None and there.value != root.value

    return [row for row in rows(others, cases) if any(differs(one, row.question.name) for one in others)]


def _cell(question: Question, answer: Observation | None) -> Cell:
    if answer is None:
        return Cell(_NOT_ASKED)
    return Cell(answer.value, answer.detail, bool(question.right) and answer.value not in question.right)


def as_markdown(columns: Sequence[Column], cases: Sequence[Case]) -> str:
    """The tables, and the layers of each case."""
    return "\n".join(_lines(columns, cases)) + "\n"


def _lines(columns: Sequence[Column], cases: Sequence[Case]) -> Iterator[str]:
    privileged, others = by_privilege(columns)
    found = rows(privileged, cases)
    yield from _about(columns)
    yield ""
    yield from _table(privileged, found)
    if others:
        yield from ("### Without privileges", "", _WITHOUT, "")
        yield from _table(others, rows_without_privileges(columns, cases))
    if changed := list(_between_versions(privileged, found)):
        yield from ("### Differences between versions", "", *changed, "")
    yield "### Layers of each question"
    yield ""
    for case in dict.fromkeys(row.case.name for row in found):
        yield from _described([row for row in found if row.case.name == case])


def _table(columns: Sequence[Column], found: Sequence[Row]) -> Iterator[str]:
    yield f"| question | {' | '.join(_text(one.about.name) for one in columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for row in found:
        cells = (f"**{_text(one.value)}**" if one.deviates else _text(one.value) for one in row.cells)
        yield f"| [{_text(row.question.asks)}](#{row.case.name}) | {' | '.join(cells)} |"
    yield ""


def _between_versions(columns: Sequence[Column], found: Sequence[Row]) -> Iterator[str]:
    """What differs between two columns of one connection string, in their order."""
    by_driver: dict[str, list[int]] = {}
    for number, column in enumerate(columns):
        by_driver.setdefault(column.about.driver, []).append(number)
    for numbers in by_driver.values():
        for old, new in itertools.pairwise(numbers):
            changes = [
                f"{_text(row.question.asks)}: {_text(before)}, then {_text(after)}"
                for row in found
                if (before := row.cells[old].value) != (after := row.cells[new].value)
                if _NOT_ASKED not in (before, after)
            ]
            names = f"{_text(columns[old].about.name)} and {_text(columns[new].about.name)}"
            yield f"- {names}: {'; '.join(changes) or 'none'}"


def _about(columns: Sequence[Column]) -> Iterator[str]:
    yield "| column | version | connection string | privilege level | kernel | filesystem | date |"
    yield "|---|---|---|---|---|---|---|"
    for one in (column.about for column in columns):
        fields = (one.name, one.version, f"`{one.driver}`", one.lane, one.kernel, one.backing, one.date)
        yield f"| {' | '.join(map(_text, fields))} |"


def _described(of_case: Sequence[Row]) -> Iterator[str]:
    case = of_case[0].case
    yield f'<a id="{case.name}"></a>'
    yield f"**{case.name}**{_vector(case)}"
    for row in of_case:
        if row.question.says != SILENT:
            yield f"- {_decided(row.question)}"
    for number, layer in enumerate(case.layers):
        yield f"- layer {number + 1}: {'; '.join(_entries(layer))}"
    yield ""


def _vector(case: Case) -> str:
    """The vector of a case and its question in docs/corpus.md; "" if there is none."""
    if (one := vectors_of_cases().get(case.name)) is None:
        return ""
    question = f" of [{one.question}](corpus.md#{one.question.lower()})" if one.question else ""
    return f" (vector `{one.name}`{question})"


def _decided(question: Question) -> str:
    permitted = f"; permitted: {', '.join(question.right)}" if question.right else ""
    return f"{question.asks}: the text says that {question.says}{permitted}"


def _entries(layer: tuple[Entry, ...] | bytes) -> Iterator[str]:
    if isinstance(layer, bytes):
        yield f"an archive of {len(layer)} bytes"
    else:
        for entry in layer:
            yield f"`{printable(entry.describe())}`"


def as_html(columns: Sequence[Column], cases: Sequence[Case], vectors: Mapping[str, str] = _NO_LINKS) -> str:
    """A page that needs no network and no script.

    Each answer is a link to the layers of its case, and these to the case's vector: ``vectors`` has its address.
    """
    return "\n".join(_page(columns, cases, vectors)) + "\n"


def _page(columns: Sequence[Column], cases: Sequence[Case], vectors: Mapping[str, str]) -> Iterator[str]:
    privileged, others = by_privilege(columns)
    found = rows(privileged, cases)
    yield _HEAD
    yield from _table_in_html(privileged, found, "")
    if others:
        yield f"<h2>Without privileges</h2><p>{html.escape(_WITHOUT)}</p>"
        yield from _table_in_html(others, rows_without_privileges(columns, cases), "unprivileged-")
    yield "<h2>Layers of each question</h2>"
    for case in dict.fromkeys(row.case.name for row in found):
        yield from _layers_in_html([row for row in found if row.case.name == case], vectors)


def _table_in_html(columns: Sequence[Column], found: Sequence[Row], prefix: str) -> Iterator[str]:
    yield f"<table><thead><tr><th>question</th>{''.join(map(_heading, columns))}</tr></thead><tbody>"
    for row in found:
        said = html.escape(f"{row.case.name}. The text: {row.question.says}")
        link = f'<a href="#case-{row.case.name}">'
        asks = f"{link}{html.escape(row.question.asks)}</a>"
        yield f'<tr id="{prefix}{row.question.name}"><th title="{said}">{asks}</th>'
        for cell in row.cells:
            kind = ' class="deviates"' if cell.deviates else ""
            title = f' title="{html.escape(printable(cell.detail))}"' if cell.detail else ""
            yield f"<td{kind}{title}>{link}{html.escape(cell.value)}</a></td>"
        yield "</tr>"
    yield "</tbody></table>"


def _layers_in_html(of_case: Sequence[Row], vectors: Mapping[str, str]) -> Iterator[str]:
    case = of_case[0].case
    yield f'<h3 id="case-{case.name}">{case.name}</h3><ul>'
    if address := vectors.get(case.name):
        yield f'<li>vector: <a href="{html.escape(address)}">{html.escape(address)}</a></li>'
    for row in of_case:
        if row.question.says != SILENT:
            yield f"<li>{html.escape(_decided(row.question))}</li>"
    for number, layer in enumerate(case.layers):
        entries = "; ".join(html.escape(one.strip("`")) for one in _entries(layer))
        yield f"<li>layer {number + 1}: <code>{entries}</code></li>"
    yield "</ul>"


def _heading(column: Column) -> str:
    one = column.about
    said = f"{one.driver}, {one.version}, {one.lane}, Linux {one.kernel}, {one.backing}, {one.date}"
    return f'<th title="{html.escape(said)}">{html.escape(one.name)}</th>'


_HEAD: Final = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Where drivers and unpackers differ</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1rem; color-scheme: light dark; }
table { border-collapse: collapse; }
th, td { border: 1px solid #8886; padding: .2rem .4rem; text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: Canvas; }
tbody th { font-weight: 400; min-width: 16rem; }
td a, th a { color: inherit; text-decoration: none; }
td a:hover, th a:hover { text-decoration: underline; }
.deviates { font-weight: 700; background: #b3261e; color: #fff; }
</style></head><body>
<h1>Where drivers and unpackers differ</h1>
<p>What each shows of the same layers. Red: the image specification decides, and does not permit it. A title has the
layers' name, the words of a refusal, or the version. Each answer is a link to the layers below the table.</p>"""


def _text(said: str) -> str:
    return printable(said).replace("|", "\\|")
