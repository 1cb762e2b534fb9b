"""``submission``: check what implementers publish."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import click

from conformance.cli.base import main
from conformance.history.printable import printable
from conformance.report import submissions

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


@main.group()
def submission() -> None:
    """Check submissions of results (docs/submitting.md)."""


@submission.command(short_help="Check directories with a product file, results and commands to reproduce them.")
@click.argument("directories", nargs=-1, required=True, metavar="DIRECTORY...", type=_DIRECTORY)
def check(directories: tuple[Path, ...]) -> None:
    """Check each DIRECTORY: versions, core requirements, the product file, and whether results were edited.

    The check cannot tell whether a run took place; the exit status is 1 if a submission is refused.
    """
    refused = False
    for directory in directories:
        found = submissions.check(directory, importlib.metadata.version("overlay-conformance"))
        for line in found.refused:
            click.echo(f"{directory}: refused: {printable(line)}")
        refused = refused or bool(found.refused)
        if found.statement and not found.refused:
            said = f"{found.statement.driver} {found.statement.version}: {found.statement.conclusion}"
            click.echo(f"{directory}: accepted: {printable(said)}, as {found.statement.because}")
    sys.exit(int(refused))
