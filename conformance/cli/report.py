"""``report``, ``merge`` and ``schema``: result files in, what people and machines read of them out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from conformance.cli import options
from conformance.cli.base import main
from conformance.cli.trend import print_trend
from conformance.report import generatedfile, killfile, records, speedfile, submissions
from conformance.report import trend as trends
from conformance.report.badge import badge
from conformance.report.causes import cause_of
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.report.matrix import Matrix, matrix_of
from conformance.report.page import page
from conformance.report.records import Part
from conformance.report.schemas import CORPUS, OBSERVATIONS, VALIDATION
from conformance.report.statement import Statement, statement_markdown, statements
from conformance.report.trend import Trend
from conformance.report.trendmarkdown import trend_markdown
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.values import as_plain
from conformance.spec.verdicts import TestOutcome, Verdict

_FILES = click.Path(exists=True, dir_okay=False, path_type=Path)
_SCRIPT_LIMIT = 64 << 10  # bytes of a script that the page holds


@main.command()
@click.argument("results", nargs=-1, required=True, type=_FILES)
@click.option("--html", type=options.FILE, help="A self-contained HTML page.")
@click.option("--junit", "junit_file", type=options.FILE, help="JUnit XML.")
@click.option("--markdown", "markdown_file", type=options.FILE, help="Markdown, such as for a job summary.")
@click.option("--badge", "badge_file", type=options.FILE, help="An SVG badge.")
@click.option("--kills", type=_FILES, help="Result file of 'selftest' to show in the HTML page.")
@click.option("--benchmarks", type=_FILES, help="File of 'python -m benchmarks --json' to draw in the HTML page.")
@click.option(
    "--export-pytest",
    "pytest_file",
    type=options.FILE,
    help="A pytest file with a test for each failure, for the driver's own test suite.",
)
@click.option(
    "--statement", "statement_file", type=options.FILE, help="A statement of conformance: .json, or Markdown."
)
@click.option(
    "--against",
    "old",
    multiple=True,
    type=_FILES,
    metavar="OLD",
    help="Result file of an earlier run to compare with (repeatable): what is NEW, GONE, FIXED or STILL failing?",
)
@click.option("--trend", "trend_file", type=options.FILE, help="What changed since --against: .json, or Markdown.")
def report(
    results: tuple[Path, ...],
    html: Path | None,
    junit_file: Path | None,
    markdown_file: Path | None,
    badge_file: Path | None,
    kills: Path | None,
    benchmarks: Path | None,
    pytest_file: Path | None,
    statement_file: Path | None,
    old: tuple[Path, ...],
    trend_file: Path | None,
) -> None:
    """Write reports from RESULTS, files of 'run --results'. Several files are merged first.

    With --against, the command prints what changed since the results OLD, and the exit status is 1 if a failure is
    new (docs/exit-codes.md).
    """
    if trend_file and not old:
        raise click.UsageError("--trend needs --against OLD")
    parts, trend = _compared(results, old) if old else (_merged(results), None)
    matrix = matrix_of(parts, load_requirements())
    killed = killfile.read(kills) if kills else None
    speed = speedfile.read(benchmarks) if benchmarks else None
    wanted: list[tuple[Path | None, Callable[[], str]]] = [
        (
            html,
            lambda: page(
                *(matrix, _scripts(parts, results)),
                kills=killed,
                trend=trend,
                stated=_statements(matrix),
                speed=speed,
            ),
        ),
        (junit_file, lambda: junit(matrix)),
        (markdown_file, lambda: (trend_markdown(trend) + "\n" if trend else "") + markdown(matrix)),
        (badge_file, lambda: badge(_only(matrix, "--badge"))),
        (pytest_file, lambda: _exported(parts, results)),
        (statement_file, lambda: _stated(matrix, statement_file)),
        (trend_file, lambda: _changed(trend, trend_file)),
    ]
    if not trend and not any(path for path, _ in wanted):
        click.echo(markdown(matrix), nl=False)
    # Nothing is written if anything cannot be: no report of an earlier run is left beside one of this.
    outputs = [path for path, _ in wanted if path]
    for path in outputs:
        _check_output(path, [*results, *old, *(one for one in (kills, benchmarks) if one)], outputs)
    for path, text in [(path, make()) for path, make in wanted if path]:
        _write(path, text)
        click.echo(f"{path} written")
    if trend:
        print_trend(trend)
        sys.exit(trend.exit_code)


@main.command()
@click.argument("results", nargs=-1, required=True, type=_FILES)
@click.option("-o", "--output", required=True, type=options.FILE, help="The result file to write.")
def merge(results: tuple[Path, ...], output: Path) -> None:
    """Merge RESULTS of several jobs or machines into one result file; contradictory files are refused.

    Files of 'selftest --results' are merged, too: for each mutant, the first file that could try it counts.
    """
    if all(map(killfile.is_selftest, results)):
        killfile.write(output, killfile.joined([(str(path), killfile.read(path)) for path in results]))
    else:
        records.write(output, _merged(results))
    click.echo(f"{output} written")


@main.command()
@click.option("--kills", is_flag=True, help="Print the schema for 'selftest --results'.")
@click.option("--generated", is_flag=True, help="Print the schema for 'selftest --generated N --results'.")
@click.option("--trend", is_flag=True, help="Print the schema for 'report --against OLD --trend FILE.json'.")
@click.option("--validation", is_flag=True, help="Print the schema for 'validate-adapter --json'.")
@click.option("--observations", is_flag=True, help="Print the schema for 'observe --output'.")
@click.option(
    "--corpus", type=click.Choice(tuple(CORPUS)), help="Print a schema of 'corpus build' or 'corpus check'."
)
@click.option("--benchmarks", is_flag=True, help="Print the schema for 'python -m benchmarks --json'.")
@click.option(
    "--benchmarks-suite", is_flag=True, help="Print the schema for 'python -m benchmarks --suite --json'."
)
@click.option("--product", is_flag=True, help="Print the schema for the product file of a submission.")
def schema(
    kills: bool,
    generated: bool,
    trend: bool,
    validation: bool,
    observations: bool,
    corpus: str | None,
    benchmarks: bool,
    benchmarks_suite: bool,
    product: bool,
) -> None:
    """Print the JSON schema of a line of a result file."""
    files = (
        *((corpus == name, path) for name, path in CORPUS.items()),
        (product, submissions.SCHEMA),
        (benchmarks, speedfile.SCHEMA),
        (benchmarks_suite, speedfile.SHARE_SCHEMA),
        (validation, VALIDATION),
        (observations, OBSERVATIONS),
        (generated, generatedfile.SCHEMA),
        (trend, trends.SCHEMA),
        (kills, killfile.SCHEMA),
    )
    file = next((path for wanted, path in files if wanted), records.SCHEMA)
    click.echo(file.read_text(), nl=False)


def _merged(results: Sequence[Path]) -> list[Part]:
    return records.merge([(str(path), records.read(path)) for path in results])


def _compared(results: Sequence[Path], old: Sequence[Path]) -> tuple[list[Part], Trend]:
    """The new parts, and what changed; raises click.UsageError, as the exit status 1 says that a failure is new."""
    try:
        parts = _merged(results)
        return parts, trends.compare(_merged(old), parts, load_requirements())
    except records.BadResults as error:
        raise click.UsageError(str(error)) from error


def _changed(trend: Trend | None, path: Path | None) -> str:
    assert trend is not None, "--trend needs --against"
    if path and path.suffix == ".json":
        return json.dumps(as_plain(trend), indent=1) + "\n"
    return trend_markdown(trend)


def _scripts(parts: Sequence[Part], results: Sequence[Path]) -> dict[str, str]:
    """The reproducers that are still where the result files say, by the path of their evidence folder."""
    found: dict[str, str] = {}
    for outcome in (outcome for part in parts for outcome in part.outcomes if outcome.evidence):
        for path in results:
            script = path.parent / outcome.evidence / "repro.sh"
            if script.is_file() and script.stat().st_size <= _SCRIPT_LIMIT:
                found[outcome.evidence] = script.read_text(errors="replace")
    return found


def _exported(parts: Sequence[Part], results: Sequence[Path]) -> str:
    """A pytest file with the failures that have evidence folders, one for each requirement and cause."""
    from conformance.evidence.exporting import Exported, pytest_file

    connections = sorted({part.run.connection for part in parts})
    if len(connections) != 1:
        raise click.UsageError(
            f"--export-pytest needs results of one driver; these are of {', '.join(connections)}"
        )
    found: dict[tuple[str, tuple[str, ...]], Exported] = {}
    failures = [one for part in parts for one in part.outcomes if one.verdict in (Verdict.FAIL, Verdict.XFAIL)]
    for outcome in failures:
        key = (cause_of(outcome), outcome.requirements)
        file = _case(outcome, results) if outcome.evidence and key not in found else None
        if file:
            found[key] = Exported(json.loads(file.read_text()), key[0])
    if failures and not found:
        raise click.UsageError("--export-pytest needs the evidence folders of the run, and they are not there")
    suite = ", ".join(sorted({part.run.suite for part in parts}))
    return pytest_file(list(found.values()), connections[0], suite, load_requirements())


def _case(outcome: TestOutcome, results: Sequence[Path]) -> Path | None:
    files = [path.parent / outcome.evidence / "case.json" for path in results]
    return next((file for file in files if file.is_file()), None)


def _check_output(path: Path, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Raise click.UsageError for a file that cannot be written, that is read, or that is named twice."""
    if any(path.resolve() == one.resolve() for one in inputs):
        raise click.UsageError(f"{path} is read, too; nothing was written")
    if [one.resolve() for one in outputs].count(path.resolve()) > 1:
        raise click.UsageError(f"{path} is named for two reports; nothing was written")
    if not path.parent.is_dir():
        raise click.UsageError(f"{path.parent} is not a directory; create it first, nothing was written")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.UsageError(f"{path} cannot be written; nothing was written")


def _statements(matrix: Matrix) -> list[Statement]:
    return statements(matrix, load_requirements(), load_capabilities())


def _only(matrix: Matrix, option: str) -> Statement:
    found = _statements(matrix)
    if len(found) != 1:
        names = ", ".join(f"{one.driver} {one.version}" for one in found)
        raise click.UsageError(f"{option} needs results of one driver; these are of {names}")
    return found[0]


def _stated(matrix: Matrix, path: Path | None) -> str:
    statement = _only(matrix, "--statement")
    if path and path.suffix == ".json":
        return json.dumps(as_plain(statement), indent=1) + "\n"
    return statement_markdown(statement)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, errors="surrogateescape")
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
