"""``replay``: try a stored case on a driver again."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from conformance.cli.base import interruption_of_verb, main, say
from conformance.cli.completion import connections
from conformance.cli.consoles import console
from conformance.cli.progress import Progress
from conformance.harness.following import follow
from conformance.harness.task import Task
from conformance.history.case import BadCase, Case
from conformance.lab.backing import HOST
from conformance.lab.scratch import scratch_directory
from conformance.spec.verdicts import PREFLIGHT, TestOutcome, Verdict

_CODES: Final = {"FIXED": 0, "STILL": 1, "ERROR": 2}


@main.command()
@click.argument("case", type=click.Path(exists=True, path_type=Path))
@click.argument("driver", shell_complete=connections)
@click.option(
    "--times", type=click.IntRange(1), default=3, show_default=True, help="How many replays must pass for FIXED."
)
@click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory in which stores are created.",
)
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
            told = follow(
                "conformance.harness.worker",
                _task(stored, driver, directory),
                progress,
                interruption=interruption_of_verb(),
            )
        verdict, reason = answer(told.outcomes, told.failure, stored)
        if verdict != "FIXED":
            break
    say(f"{verdict}: {', '.join(stored.requirements)} ({stored.test}) with {driver}")
    if reason:
        say("  " + reason.replace("\n", "\n  "))
    sys.exit(_CODES[verdict])


def _task(stored: Case, driver: str, directory: Path) -> Task:
    backings = () if stored.backing in ("", HOST) else (stored.backing,)
    return Task(
        driver,
        str(directory),
        os.getpid(),
        stored.requirements,
        "release",  # so that no test is left out; only the case's own is run
        1,
        int(datetime.datetime.now(datetime.UTC).timestamp()),  # nothing is drawn
        backings,
        replay={stored.test: stored.as_json()["drawn"]},
        unshrunk=stored.requirements,
        replay_only=True,
    )


def answer(outcomes: Sequence[TestOutcome], failure: str, stored: Case) -> tuple[str, str]:
    """FIXED, STILL or ERROR, and why."""
    if failure:
        return "ERROR", failure
    early = [one for one in outcomes if one.test == PREFLIGHT]
    if early and not set(early[0].requirements) & set(stored.requirements):
        return "ERROR", early[0].reason
    if stored.test == PREFLIGHT and not early:
        return "FIXED", ""
    if not outcomes:
        return "ERROR", f"this version of the suite has no test {stored.test}; use the version that wrote the case"
    for outcome in outcomes:
        if outcome.verdict is Verdict.FAIL:
            return "STILL", outcome.reason
        if outcome.verdict is not Verdict.PASS:
            return "ERROR", outcome.reason
    return "FIXED", ""
