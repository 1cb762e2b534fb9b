"""``replay``: try a stored case on a driver again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from conformance.cli import options
from conformance.cli.base import interruption_of_verb, main, say
from conformance.cli.completion import connections
from conformance.cli.consoles import console
from conformance.cli.progress import Progress
from conformance.evidence.replaying import tried
from conformance.history.case import BadCase, Case
from conformance.lab.scratch import scratch_directory

_CODES: Final = {"FIXED": 0, "STILL": 1, "ERROR": 2}


@main.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.argument("driver", shell_complete=connections)
@click.option(
    "--times", type=click.IntRange(1), default=3, show_default=True, help="How many replays must pass for FIXED."
)
@options.SCRATCH
def replay(case: Path, driver: str, times: int, scratch: Path | None) -> None:
    """Replay CASE (a case.json or its evidence folder) on DRIVER: FIXED (exit status 0), STILL (1) or ERROR (2)."""
    path = case / "case.json" if case.is_dir() else case
    try:
        stored = Case.from_json(json.loads(path.read_text()))
    except (OSError, ValueError, BadCase) as error:
        raise click.UsageError(f"{path}: {error}") from error
    # What depends on the moment may go well once; a driver that is right does right each time.
    for _ in range(times):
        with scratch_directory(scratch) as directory, Progress(console(), f"replaying {stored.test}") as progress:
            verdict, reason = tried(stored, driver, directory, progress, interruption_of_verb())
        if verdict != "FIXED":
            break
    say(f"{verdict}: {', '.join(stored.requirements)} ({stored.test}) with {driver}")
    if reason:
        say("  " + reason.replace("\n", "\n  "))
    sys.exit(_CODES[verdict])
