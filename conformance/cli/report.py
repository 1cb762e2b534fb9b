"""``report``, ``merge`` and ``schema``: result files in, what people and machines read of them out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from conformance.cli.base import main
from conformance.report import generatedfile, killfile, records
from conformance.report.badge import badge
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.report.matrix import Matrix, matrix_of
from conformance.report.page import page
from conformance.report.records import Part
from conformance.report.statement import Statement, statement_markdown, statements
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.values import as_plain

_FILE = click.Path(dir_okay=False, path_type=Path)
_FILES = click.Path(exists=True, dir_okay=False, path_type=Path)
_SCRIPT_LIMIT = 64 << 10  # bytes of a script that the page holds


@main.command()
@click.argument("results", nargs=-1, required=True, type=_FILES)
@click.option("--html", type=_FILE, help="A self-contained HTML page.")
@click.option("--junit", "junit_file", type=_FILE, help="JUnit XML.")
@click.option("--markdown", "markdown_file", type=_FILE, help="Markdown, such as for a job summary.")
@click.option("--badge", "badge_file", type=_FILE, help="An SVG badge.")
@click.option("--kills", type=_FILES, help="Result file of 'selftest' to show in the HTML page.")
@click.option("--statement", "statement_file", type=_FILE, help="A statement of conformance: .json, or Markdown.")
def report(
    results: tuple[Path, ...],
    html: Path | None,
    junit_file: Path | None,
    markdown_file: Path | None,
    badge_file: Path | None,
    kills: Path | None,
    statement_file: Path | None,
) -> None:
    """Write reports from RESULTS, files of 'run --results'. Several files are merged first."""
    parts = _merged(results)
    matrix = matrix_of(parts, load_requirements())
    killed = killfile.read(kills) if kills else None
    wanted: list[tuple[Path | None, Callable[[], str]]] = [
        (html, lambda: page(matrix, _scripts(parts, results), kills=killed)),
        (junit_file, lambda: junit(matrix)),
        (markdown_file, lambda: markdown(matrix)),
        (badge_file, lambda: badge(_only(matrix, "--badge"))),
        (statement_file, lambda: _stated(matrix, statement_file)),
    ]
    if not any(path for path, _ in wanted):
        click.echo(markdown(matrix), nl=False)
    for path, make in wanted:
        if path:
            _write(path, make())
            click.echo(f"{path} written")


@main.command()
@click.argument("results", nargs=-1, required=True, type=_FILES)
@click.option("-o", "--output", required=True, type=_FILE, help="The result file to write.")
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
def schema(kills: bool, generated: bool) -> None:
    """Print the JSON schema of a line of a result file."""
    file = generatedfile.SCHEMA if generated else killfile.SCHEMA if kills else records.SCHEMA
    click.echo(file.read_text(), nl=False)


def _merged(results: Sequence[Path]) -> list[Part]:
    return records.merge([(str(path), records.read(path)) for path in results])


def _scripts(parts: Sequence[Part], results: Sequence[Path]) -> dict[str, str]:
    """The reproducers that are still where the result files say, by the path of their evidence folder."""
    found: dict[str, str] = {}
    for outcome in (outcome for part in parts for outcome in part.outcomes if outcome.evidence):
        for path in results:
            script = path.parent / outcome.evidence / "repro.sh"
            if script.is_file() and script.stat().st_size <= _SCRIPT_LIMIT:
                found[outcome.evidence] = script.read_text(errors="replace")
    return found


def _only(matrix: Matrix, option: str) -> Statement:
    found = statements(matrix, load_requirements(), load_capabilities())
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
