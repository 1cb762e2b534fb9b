"""``observe`` and ``divergence``: what drivers do where the specification of layers leaves it open."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import lzma
import os
import platform
import sys
from pathlib import Path

import click

from conformance.cli import options
from conformance.cli.base import interruption_of_verb, main, say, say_error
from conformance.cli.completion import connections
from conformance.cli.consoles import console
from conformance.cli.progress import Progress
from conformance.corpus.observed import expected_files
from conformance.harness.events import Opened
from conformance.harness.following import Followed, follow
from conformance.harness.observation import FORMAT, LINES, Line, Observed, Observing
from conformance.lab.scratch import scratch_directory
from conformance.observing.questions import cases
from conformance.observing.table import SUFFIX, as_html, as_markdown, read
from conformance.observing.task import Task
from conformance.report.markers import between
from conformance.spec.naming import suggestion

BEGIN = "<!-- made by: overlay-conformance divergence --markdown -->"


@main.command()
@click.argument("driver", shell_complete=connections)
@click.option("--case", "only", multiple=True, metavar="NAME", help="Only these cases (repeatable).")
@click.option("--name", help="Name of the column in a table (default: the driver's name and version).")
@click.option("-o", "--output", type=options.FILE, help=f"File to write (JSON lines; {SUFFIX}: compressed).")
@options.CALL_TIMEOUT
@options.SCRATCH
def observe(
    driver: str,
    only: tuple[str, ...],
    name: str | None,
    output: Path | None,
    call_timeout: float,
    scratch: Path | None,
) -> None:
    """Show what DRIVER does with layers where the image specification is silent, or decides.

    No requirement is judged. Exit status 0, or 2 if not everything could be observed.
    """
    known = [one.name for one in cases()]
    for case in only:
        if case not in known:
            raise click.UsageError(f"there is no case {case}{suggestion(case, known)}")
    with (
        scratch_directory(scratch) as directory,
        Progress(console(stderr=True), "observing", say_error) as progress,
    ):
        task = Task(driver, str(directory), os.getpid(), call_timeout, only)
        told = follow("conformance.observing.worker", task, progress, interruption=interruption_of_verb())
    code = 2 if told.failure else 0
    opened = told.opened or Opened(driver, "unknown", "none", (), {}, {}, ())
    for one in told.observations:
        say(f"{one.question:32}{one.value}{f'  ({one.detail})' if one.detail else ''}")
    if told.failure:
        say_error(told.complaint)
    elif output:
        _write(output, _lines(driver, name, opened, told, code))
        say(f"{output} written")
    sys.exit(code)


def _lines(driver: str, name: str | None, opened: Opened, told: Followed, code: int) -> list[Line]:
    about = Observing(
        FORMAT,
        driver,
        name or f"{opened.name} {opened.version}",
        opened.version,
        opened.lane,
        platform.release(),
        ", ".join(opened.backings),
        importlib.metadata.version("overlay-conformance"),
        datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    return [about, *told.observations, Observed(code)]


def _write(path: Path, lines: list[Line]) -> None:
    data = "".join(json.dumps(LINES.plain(one)) + "\n" for one in lines).encode()
    path.write_bytes(lzma.compress(data, preset=9) if path.suffix == ".xz" else data)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--markdown", type=options.FILE, help="File whose part between markers is replaced.")
@click.option("--html", "html_file", type=options.FILE, help="HTML page to write.")
@click.option(
    "--corpus", metavar="ADDRESS", help="Where the HTML page links to vectors: a directory of 'corpus build'."
)
def divergence(files: tuple[Path, ...], markdown: Path | None, html_file: Path | None, corpus: str | None) -> None:
    """Write the table of observations of FILES (of 'observe --output'; a directory: all in it)."""
    paths = [path for one in files for path in (sorted(one.glob(f"*{SUFFIX}")) if one.is_dir() else [one])]
    if not paths:
        raise click.UsageError(f"there is no *{SUFFIX} in {', '.join(map(str, files))}")
    columns = [read(path) for path in paths]
    made = as_markdown(columns, cases())
    if corpus and not html_file:
        raise click.UsageError("--corpus is of the HTML page: add --html FILE")
    if markdown:
        before = markdown.read_text() if markdown.exists() else ""
        markdown.write_text(between(before, BEGIN, made))
        say(f"{markdown} written")
    if html_file:
        there = corpus.rstrip("/") if corpus else ""
        vectors = {case: f"{there}/{file}" for case, file in expected_files().items()} if there else {}
        html_file.write_text(as_html(columns, cases(), vectors))
        say(f"{html_file} written")
    if not markdown and not html_file:
        click.echo(made, nl=False)
