"""The matrix as one HTML file, to be looked at in a browser: nothing is loaded from anywhere, nothing is sent.

What a driver said is hostile input here. It is in the page as JSON only, in which no character can end the element
that it is in, and the script of the page makes text of it, never markup. The content security policy names the one
script and the one style sheet by their digests, so that nothing else could run even so.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from importlib.resources import files
from typing import Any, Final, Generic, TypeVar

from conformance.history.printable import cut, printable
from conformance.report.brief import expected_and_actual
from conformance.report.causes import EXPLAINED, cause_of
from conformance.report.consequences import consequence_of
from conformance.report.killfile import KillReport
from conformance.report.matrix import Cell, Column, Matrix
from conformance.report.records import Run
from conformance.report.speedfile import Benchmarks
from conformance.report.statement import Statement
from conformance.report.trend import CONCLUSIONS, MEANING, Change, Group, Trend
from conformance.selftest.alarms import Verdicts, summed_up
from conformance.spec import LEVELS, Requirement
from conformance.spec.references import in_words
from conformance.spec.verdicts import TestOutcome, Verdict, totals

_T = TypeVar("_T", bound=Hashable)
_PLACE: Final = re.compile(r"\{\{(title|policy|data)\}\}")
_INLINE: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.S)
_VERDICTS: Final = {verdict: number for number, verdict in enumerate(Verdict)}
_MARKUP: Final = {ord(one): f"\\u{ord(one):04x}" for one in "<>&"}
ERRORS: Final = "ERROR"  # instead of a level
_SEVERITY: Final = (*LEVELS, ERRORS)
_BRIEF: Final = 300  # characters
_OF_RUN: Final = (
    *("driver", "version", "connection", "kernel", "machine", "lane", "profile", "examples", "budget", "seed"),
    *("suite", "specification", "started", "seconds", "backings", "notes", "declined", "lacking", "failure"),
)


def page(
    matrix: Matrix,
    scripts: Mapping[str, str],
    *,
    title: str = "overlay-conformance",
    kills: KillReport | None = None,
    trend: Trend | None = None,
    stated: Sequence[Statement] = (),
    speed: Benchmarks | None = None,
) -> str:
    """One page, of ASCII only; ``scripts`` are the texts to show by the ``evidence`` of the outcomes they repeat.

    With ``kills``, the tables of mutants and variants come before the verdicts; with ``trend``, what changed since
    other results comes first; with ``stated``, the conclusions of these statements are in the head; with ``speed``,
    the ratios of benchmarks are drawn.
    Links to evidence are relative, so the page belongs beside the result file.
    """
    template = files("conformance.report").joinpath("page.html").read_text(encoding="utf-8")
    # Whatever the locale is that writes the page: what is not ASCII is a reference to a character.
    heading = html.escape(printable(title)).encode("ascii", "xmlcharrefreplace").decode()
    said = {
        "title": heading,
        "policy": _policy(template),
        "data": _embedded(
            {
                **_data(matrix, scripts),
                "kills": _plain(_kills(kills)),
                "trend": _plain(_trend(trend, matrix)),
                "statements": _plain(_stated(stated)),
                "speed": _plain(_speed(speed)),
            }
        ),
    }
    return _PLACE.sub(lambda found: said[found[1]], template)


def _policy(template: str) -> str:
    digests = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in _INLINE.findall(template)
    }
    allowed = "; ".join(f"{kind}-src 'sha256-{digest}'" for kind, digest in digests.items())
    return f"default-src 'none'; {allowed}; img-src data:; base-uri 'none'; form-action 'none'"


def _embedded(data: Mapping[str, Any]) -> str:
    # json.dumps escapes all but ASCII, so U+2028 and lone surrogates too; these three it leaves.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_MARKUP)


@dataclass(frozen=True, slots=True)
class _Table(Generic[_T]):
    """Values that repeat, each once, by the number under which it is kept."""

    numbers: dict[_T, int] = field(default_factory=dict)

    def number(self, value: _T) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


@dataclass(frozen=True, slots=True)
class _Tables:
    """What 12,000 cells have in common: texts, lists of texts, and outcomes, each of which decides many cells."""

    scripts: Mapping[str, str]
    requirements: Mapping[str, Requirement]
    texts: _Table[str] = field(default_factory=_Table)
    lists: _Table[tuple[int, ...]] = field(default_factory=_Table)
    outcomes: _Table[tuple[float, ...]] = field(default_factory=_Table)

    def outcome(self, outcome: TestOutcome) -> int:
        """The number of an outcome; those that read the same are one."""
        return self.outcomes.number(
            (
                self._text(outcome.test),
                _VERDICTS[outcome.verdict],
                self._text(outcome.reason),
                self._list(outcome.steps),
                self._list(outcome.kernel),
                round(outcome.seconds, 3),
                round(outcome.driver_seconds, 3),
                self._text(outcome.backing),
                self.texts.number(outcome.evidence),  # the path of a file, and below the text of one: as they are
                self.texts.number(self.scripts.get(outcome.evidence, "") if outcome.evidence else ""),
                self._text(consequence_of(outcome, self.requirements)),
            )
        )

    def _list(self, texts: tuple[str, ...]) -> int:
        return self.lists.number(tuple(map(self._text, texts)))

    def _text(self, text: str) -> int:
        return self.texts.number(printable(text, lines=True))

    def share(self, cell: Cell | None, profile: str) -> int:
        """The number of the words that say how many tests of a requirement ran."""
        return self._text(cell.share.words(profile) if cell else "")


def _data(matrix: Matrix, scripts: Mapping[str, str]) -> dict[str, Any]:
    tables = _Tables(scripts, {one.id: one for one in matrix.requirements})
    rows = [
        _row([(matrix.cells.get((requirement.id, column)), column) for column in matrix.columns], tables)
        for requirement in matrix.requirements
    ]
    return {
        "verdicts": [verdict.value for verdict in Verdict],
        "requirements": [
            _plain([one.id, one.family, one.level, one.sentence, in_words(one.source), _links(one)])
            for one in matrix.requirements
        ],
        "columns": [_plain(asdict(column)) for column in matrix.columns],
        "runs": [_run(run) for run in matrix.runs],
        "rows": rows,
        "totals": _totals(matrix),
        "causes": _causes(matrix),
        "outcomes": list(tables.outcomes.numbers),
        "lists": list(tables.lists.numbers),
        "texts": list(tables.texts.numbers),
    }


def _totals(matrix: Matrix) -> dict[str, dict[str, int]]:
    """The counts of the head: each requirement once, as in the statement and on the terminal."""
    found = totals(matrix.verdicts(matrix.columns), {one.id: one for one in matrix.requirements})
    return {level: {one.value: count for one, count in counts.items()} for level, counts in found.items()}


def _links(requirement: Requirement) -> list[list[str]]:
    """The sources that have an address, with it: no other scheme, and none that the page would complete."""
    return [[one.target, one.address] for one in requirement.source if one.address.startswith("https://")]


@dataclass(slots=True)
class _Found:
    """What is known of a cause so far: the requirements and columns by number, and its tests."""

    first: tuple[int, int]
    outcome: TestOutcome
    level: str
    rows: list[int] = field(default_factory=list)
    columns: set[int] = field(default_factory=set)
    tests: set[tuple[str, str, int]] = field(default_factory=set)


def _causes(matrix: Matrix) -> list[dict[str, Any]]:
    """The causes of what failed, the severe and frequent ones first; errors of the harness are the last."""
    found: dict[str, _Found] = {}
    known = {one.id: one for one in matrix.requirements}
    for row, requirement in enumerate(matrix.requirements):
        for number, column in enumerate(matrix.columns):
            cell = matrix.cells.get((requirement.id, column))
            for outcome in cell.outcomes if cell and cell.verdict in EXPLAINED else ():
                level = ERRORS if outcome.verdict is Verdict.ERROR else requirement.level
                one = found.setdefault(cause_of(outcome), _Found((row, number), outcome, level))
                one.level = min(one.level, level, key=_SEVERITY.index)
                one.rows += [row] if row not in one.rows[-1:] else []
                one.columns.add(number)
                one.tests.add((outcome.test, outcome.backing, number))
    ordered = sorted(found.items(), key=lambda item: (_SEVERITY.index(item[1].level), -len(item[1].tests)))
    return [_cause(words, one, known) for words, one in ordered]


def _cause(words: str, found: _Found, requirements: Mapping[str, Requirement]) -> dict[str, Any]:
    expected, actual = expected_and_actual(found.outcome)
    said = {
        "words": words,
        "level": found.level,
        "first": list(found.first),
        "rows": found.rows,
        "columns": len(found.columns),
        "count": len(found.tests),
        "consequence": consequence_of(found.outcome, requirements),
        "expected": cut(expected, _BRIEF),
        "actual": cut(actual, _BRIEF),
    }
    return {name: _plain(value) for name, value in said.items()}


def _stated(statements: Sequence[Statement]) -> list[list[str]]:
    """The driver, what can be claimed, why, and on how many examples that rests."""
    return [[f"{one.driver} {one.version}", one.conclusion, one.because, one.effort] for one in statements]


def _speed(found: Benchmarks | None) -> dict[str, Any] | None:
    """What is drawn of benchmarks: the ratios of CPU time beside other programs, and how times grow."""
    if found is None:
        return None
    return {
        "about": f"{found.machine}, kernel {found.kernel}, Python {found.python}, {found.date[:10]},"
        f" {found.scale:g} of all sizes",
        "peers": [
            [one.name, one.peer, one.filesystem, one.load, *astuple(one.cpu_ratio)]
            for one in sorted(found.peers, key=lambda peer: peer.filesystem)
        ],
        "growth": [[one.name, one.unit, [[point.size, point.cpu] for point in one.points]] for one in found.growth],
    }


def _trend(trend: Trend | None, matrix: Matrix) -> dict[str, Any] | None:
    """What changed: the runs, what differs, and for each change its causes with requirements."""
    if trend is None:
        return None
    rows = {one.id: number for number, one in enumerate(matrix.requirements)}
    changes = [
        {
            "name": change.value,
            "meaning": MEANING[change],
            "count": trend.counts[change],
            "groups": [_group(one, rows) for one in trend.groups(change)],
        }
        for change in Change
        if trend.counts[change]
    ]
    return {
        "old": trend.old,
        "new": trend.new,
        "compared": trend.compared,
        "conclusion": CONCLUSIONS[trend.exit_code],
        "differences": [[one.what, one.old, one.new, one.of_driver] for one in trend.differences],
        "changes": changes,
    }


def _group(group: Group, rows: Mapping[str, int]) -> dict[str, Any]:
    """A cause; each requirement with the number of its row, -1 for one that is in OLD only."""
    return {
        "level": group.level,
        "cause": group.cause,
        "others": group.others,
        "reason": group.reason,
        "requirements": [[one, rows.get(one, -1), ", ".join(of)] for one, of in group.requirements.items()],
    }


def _kills(report: KillReport | None) -> dict[str, Any] | None:
    """The tables of mutants and of variants: what was run, a line for each, and what nothing breaks."""
    if report is None:
        return None
    about, matrix = report.about, report.matrix
    rows = []
    for mutant in matrix.mutants:
        kills = matrix.kills_of(mutant)
        rows.append(
            {
                **asdict(mutant),
                "fate": matrix.fate(mutant).value,
                "seconds": max((one.seconds for one in kills), default=None),
                "examples": max((one.examples for one in kills), default=None),
                "size": matrix.size_of(mutant),
                "others": matrix.other_killers(mutant),
                "reason": "\n".join(dict.fromkeys(one.reason for one in matrix.of(mutant) if one.reason)),
            }
        )
    median, worst = matrix.median_and_worst()
    said = asdict(about) | {"share": matrix.share, "median": median, "worst": worst}
    return {
        "about": said,
        "mutants": rows,
        "gaps": list(report.gaps.items()),
        "choices": [_choice(summed_up(one, report.hearings)) for one in report.choices],
    }


def _choice(found: Verdicts) -> dict[str, Any]:
    return {
        **asdict(found.choice),
        "standing": found.standing.value,
        "passed": found.passed,
        "alarms": [f"{', '.join(one.requirements)}, {one.test}: {one.reason}" for one in found.alarms],
        "waived": found.waived,
        "reason": found.reason,
    }


def _row(cells: list[tuple[Cell | None, Column]], tables: _Tables) -> list[Any]:
    """The verdicts (a digit for each column, a dot for what was not selected), outcomes, how many tests ran."""
    verdicts = "".join("." if cell is None else str(_VERDICTS[cell.verdict]) for cell, _ in cells)
    outcomes = [[tables.outcome(one) for one in cell.outcomes] if cell else [] for cell, _ in cells]
    return [verdicts, outcomes, [tables.share(cell, column.profile) for cell, column in cells]]


def _run(run: Run) -> dict[str, Any]:
    return {"interrupted": run.interrupted, **{name: _plain(getattr(run, name)) for name in _OF_RUN}}


def _plain(value: Any) -> Any:
    """The same for JSON, in an order that is always the same, with printable texts."""
    match value:
        case str():
            return printable(value, lines=True)
        case Mapping():
            return {_plain(key): _plain(one) for key, one in sorted(value.items())}
        case list() | tuple():
            return [_plain(one) for one in value]
    return value
