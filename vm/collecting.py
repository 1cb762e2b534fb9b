"""``matrix status``, ``collect`` and ``publish``: what is made of the results of cells."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from conformance.spec.profiles import PROFILES
from vm.common import OUTPUT, choosing, chosen_cells, refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.report.records import Part
    from vm.plan import Cell
    from vm.status import State

DATA: Final = Path("docs/matrix")
_PAGE: Final = Path("docs/matrix.md")


@click.command(short_help="Show what is judged and what is missing.")
@choosing
@click.option("--profile", type=click.Choice(PROFILES), help="Profile (default: from the matrix).")
@click.option("--examples", type=click.IntRange(1), help="Examples for each property (default: from the matrix).")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the examples.")
@click.argument("output", type=click.Path(file_okay=False, path_type=Path), default=Path(OUTPUT))
def status(
    output: Path,
    matrix_file: Path | None,
    provider: str | None,
    profile: str | None,
    examples: int | None,
    seed: int,
    **choice: tuple[str, ...],
) -> None:
    """Show for each cell how many of its requirements are judged, and what is missing.

    OUTPUT is that of a run, also while it runs, or a directory of published results.
    """
    with refusals():
        from vm import timings
        from vm.published import unpacked
        from vm.status import lines_of

        wanted, cells = chosen_cells(matrix_file, provider, choice)
        with unpacked(output) as place:
            states = _states(
                cells, place, profile or wanted.defaults.profile, examples or wanted.defaults.examples, seed
            )
            suite = {name: steps["suite"] for name, steps in timings.read(place / "timings.json").items()}
            for line in lines_of(states, suite):
                click.echo(line)
        sys.exit(1 if any(one.missing for one in states) else 0)


def _states(cells: list[Cell], output: Path, profile: str, examples: int, seed: int) -> list[State]:
    from conformance.report.records import digest_of
    from conformance.spec import load_requirements
    from vm.published import CELLS, RESULTS
    from vm.status import Question, state_of

    version = importlib.metadata.version("overlay-conformance")
    question = Question(version, digest_of(load_requirements()), profile, examples, seed)
    return [state_of(cell, output / CELLS / cell.name / RESULTS, question) for cell in cells]


@click.command("publish", short_help="Keep whole cells as data, and write the page of all.")
@choosing
@click.option("--profile", type=click.Choice(PROFILES), help="Profile (default: from the matrix).")
@click.option("--examples", type=click.IntRange(1), help="Examples for each property (default: from the matrix).")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the examples.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA,
    show_default=True,
    help="Directory of the archives of cells.",
)
@click.option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    default=_PAGE,
    show_default=True,
    help="Page that gets the table, between its markers or at its end.",
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write the HTML page of all to this file."
)
@click.argument("output", type=click.Path(file_okay=False, path_type=Path), default=Path(OUTPUT))
def publish_command(
    output: Path,
    data: Path,
    page: Path,
    html: Path | None,
    matrix_file: Path | None,
    provider: str | None,
    profile: str | None,
    examples: int | None,
    seed: int,
    **choice: tuple[str, ...],
) -> None:
    """Put the cells of OUTPUT that are complete into the archives of published results, and write the page of all.

    A cell with a requirement that is not judged is left out. Without new cells, the page alone is written again.
    """
    with refusals():
        from vm.published import all_of, publish, unpacked

        wanted, cells = chosen_cells(matrix_file, provider, choice)
        states = _states(
            cells, output, profile or wanted.defaults.profile, examples or wanted.defaults.examples, seed
        )
        whole = [one.cell.name for one in states if not one.missing]
        for file in publish(output, whole, data, _hidden()):
            click.echo(f"{file} written")
        for one in states:
            if one.missing and one.kernel:
                click.echo(f"{one.cell.name} left out: {len(one.missing)} requirements are not judged", err=True)
        if not all_of(data):
            raise click.UsageError(f"no cell of {output} is complete and none is in {data}; see 'matrix status'")
        with unpacked(data) as place:
            join(sorted((place / "cells").glob("*/results.jsonl")), place, page, quiet=True)
            if html:
                html.write_text((place / "page.html").read_text())
        click.echo(f"{page} written" + (f", {html} written" if html else ""))


def _hidden() -> Callable[[str], frozenset[str]]:
    """Of which requirements no reproducer is published yet, by the connection of a driver."""
    from vm.drivers import builds, deviations

    data = Path(builds.Page().data)
    known = deviations.load(data) if (data / deviations.FILE).exists() else deviations.Deviations(1)
    return lambda connection: known.private_requirements(connection.partition("?")[0].replace(":", " ", 1))


@click.command(short_help="Merge the results of the cells of a run.")
@click.argument("output", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(OUTPUT))
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the table into this page, between its markers or at its end.",
)
def collect(output: Path, markdown: Path | None) -> None:
    """Merge the results of cells in OUTPUT into results.jsonl, page.html and table.md."""
    with refusals():
        files = sorted((output / "cells").glob("*/results.jsonl"))
        if not files:
            raise click.UsageError(
                f"no cell in {output} has a result; 'overlay-conformance matrix run' writes them"
            )
        sys.exit(join(files, output, markdown))


def join(files: list[Path], output: Path, markdown: Path | None = None, *, quiet: bool = False) -> int:
    """Write the joined results, their page and their table; the exit code of all cells together."""
    from conformance.report import records
    from conformance.report.markers import between
    from conformance.report.matrix import matrix_of
    from conformance.report.page import page
    from conformance.spec import load_requirements
    from vm import table, timings
    from vm.lost import recognised

    found = {str(file): _moved(records.read(file), file.parent, output) for file in files if file.exists()}
    parts = records.merge(list(zip(found, recognised(list(found.values())), strict=True)))
    records.write(output / "results.jsonl", parts)
    folders = {outcome.evidence for part in parts for outcome in part.outcomes if outcome.evidence}
    scripts = {one: output / one / "repro.sh" for one in folders}
    texts = {one: path.read_text(errors="replace") for one, path in scripts.items() if path.is_file()}
    matrix = matrix_of(parts, load_requirements())
    (output / "page.html").write_text(page(matrix, texts))
    made = table.as_markdown(matrix, timings.read(output / "timings.json"), texts)
    (output / "table.md").write_text(made)
    if not quiet:
        click.echo(f"results.jsonl, page.html and table.md written in {output}")
    if markdown:
        markdown.write_text(between(markdown.read_text() if markdown.exists() else "", table.BEGIN, made))
        if not quiet:
            click.echo(f"{markdown} written")
    codes = {part.exit_code for part in parts}
    return next((code for code in (2, 1, 0) if code in codes), 3)


def _moved(parts: list[Part], folder: Path, output: Path) -> list[Part]:
    """The same with paths of evidence that are relative to the joined file."""
    below = folder.relative_to(output)
    return [
        replace(
            part,
            outcomes=tuple(
                replace(one, evidence=str(below / one.evidence)) if one.evidence else one for one in part.outcomes
            ),
        )
        for part in parts
    ]
