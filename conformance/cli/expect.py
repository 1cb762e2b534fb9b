"""``expect``: look after a driver's file of known failures."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from conformance.cli import options
from conformance.cli.base import main
from conformance.report import expectations, records
from conformance.spec import load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict


@main.group()
def expect() -> None:
    """Maintain a file of known failures (docs/known-failures.md)."""


@expect.command(short_help="Check a file: format, review dates and stored cases.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(file: Path) -> None:
    """Check FILE: its format, requirements, review dates and stored cases."""
    known = expectations.load(file, load_requirements(), _today())
    expectations.stored_cases(known, file)
    review = f", the next review by {min(one.review_by for one in known)}" if known else ""
    click.echo(f"{file}: {len(known)} known failures{review}")


@expect.command(short_help="Update a file from the results of a run.")
@click.argument("file", type=options.FILE)
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def update(file: Path, results: Path) -> None:
    """Update FILE from RESULTS of a run with it: remove entries that passed, add new failures, keep the rest.

    The stored case of a new failure is copied beside FILE, into cases/.
    """
    parts = records.read(results)
    outcomes = [outcome for part in parts for outcome in part.outcomes]
    before = file.read_text() if file.exists() else ""
    cases = _kept_cases(outcomes, results, file)
    text = expectations.updated(before, outcomes, cases, _today())
    beside = file.with_name(file.name + ".part")
    beside.write_text(text)
    beside.replace(file)
    new = sorted({one for outcome in outcomes if outcome.verdict is Verdict.FAIL for one in outcome.requirements})
    gone = sorted({one for outcome in outcomes if outcome.verdict is Verdict.XPASS for one in outcome.requirements})
    for word, names in (("expected from now on", new), ("no longer expected", gone)):
        if names:
            click.echo(f"{word}: {', '.join(names)}")
    click.echo(
        f"{file} {'written' if text != before else 'is unchanged'}; give each new entry its reason and a link"
    )


def _kept_cases(outcomes: Sequence[TestOutcome], results: Path, file: Path) -> dict[str, str]:
    """The first case of each failed requirement, copied beside the file; its path from there."""
    found: dict[str, str] = {}
    for outcome in outcomes:
        source = results.parent / outcome.evidence / "case.json"
        if outcome.verdict is not Verdict.FAIL or not outcome.evidence or not source.is_file():
            continue
        target = file.parent / "cases" / f"{os.path.basename(outcome.evidence)}.json"
        for requirement in outcome.requirements:
            if requirement not in found:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                found[requirement] = os.path.relpath(target, file.parent)
    return found


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
