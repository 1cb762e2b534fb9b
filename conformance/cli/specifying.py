"""``specification``: all requirements as one page."""

from __future__ import annotations

import click

from conformance.cli.base import main
from conformance.spec.specification import as_markdown


@main.command()
def specification() -> None:
    """Print the whole specification as Markdown."""
    click.echo(as_markdown(), nl=False)
