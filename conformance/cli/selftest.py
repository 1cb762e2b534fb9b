"""``selftest``: run the suite on drivers that are known to be wrong, and tell which of them it finds."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from conformance.cli.base import Duration, main
from conformance.cli.following import follow
from conformance.cli.killsummary import print_kills
from conformance.cli.progress import Progress
from conformance.faulty.basis import BASIS
from conformance.faulty.catalogue import EXCEPTIONS, FAULTS
from conformance.faulty.fault import Fault
from conformance.kills import KillMatrix, Seen, Specimen, judged, uncovered
from conformance.lab.scratch import scratch_directory
from conformance.plugin import EXAMPLES
from conformance.report.killfile import KillReport, Selftest, write
from conformance.report.killtable import kill_table
from conformance.report.records import digest_of
from conformance.results import Verdict
from conformance.spec import load_requirements
from conformance.trials import Job, Trials, seen_of

_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_REFERENCE: Final = "refdriver:Driver"
_TIME: Final = 60.0  # seconds for a trial, and for one of all tests
_TIME_FOR_ALL: Final = 600.0
# Tried with the faults, to see that what kills them is what is wrong with them.
_CONTROL: Final = Job(
    "Faithful",
    "python:conformance.faulty.basis:Faithful",
    ("OVL-LIFE-CREATE", "OVL-APPLY-ROUND-TRIP"),
    "host",
    "",
    1,
)


class HarnessFailed(Exception):
    """Nothing can be said of any fault; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of the command line. ``complete`` says whether these are all faults of the catalogue."""

    faults: tuple[Fault, ...]
    complete: bool
    profile: str
    budget: float
    jobs: int
    seeds: tuple[int, ...]
    whole: bool
    basis: str


def _names(context: click.Context, parameter: click.Parameter, begun: str) -> list[Any]:
    del context, parameter
    return [one.name for one in FAULTS if one.name.lower().startswith(begun.lower())]


@main.command(short_help="Run the suite on drivers that are known to be wrong.")
@click.option(
    "--fault", "names", multiple=True, metavar="NAME", shell_complete=_names, help="Only this (repeatable)."
)
@click.option(
    "--needs",
    multiple=True,
    type=click.Choice(sorted({one.needs for one in FAULTS if one.needs})),
    help="Only faults that take this of the host (repeatable).",
)
@click.option("--budget", type=Duration(), help="Time for each trial: 60s, and 10m where all tests are run.")
@click.option(
    "--profile",
    type=click.Choice(("smoke", "standard")),
    default="standard",
    show_default=True,
    help="How much to try.",
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trials at a time.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the examples.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many, from --seed on.")
@click.option("--whole", is_flag=True, help="Run all tests of the profile, and tell everything that fails.")
@click.option(
    "--basis",
    metavar="MODULE:CLASS",
    default=lambda: os.environ.get(BASIS, _REFERENCE),
    show_default=_REFERENCE,
    help="The correct driver that is made wrong.",
)
@click.option(
    "--scratch", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where to make stores."
)
@click.option("--results", "results_file", type=_FILE, help="Write the result there (JSON lines).")
@click.option("--markdown", "markdown_file", type=_FILE, help="Write the kill matrix there.")
def selftest(
    names: tuple[str, ...],
    needs: tuple[str, ...],
    budget: float | None,
    profile: str,
    jobs: int,
    seed: int,
    seeds: int,
    whole: bool,
    basis: str,
    scratch: Path | None,
    results_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Run the suite on drivers that are wrong in one way each, and tell which of them it finds (the kill matrix).

    Ends with 1 if one of them is not found by the requirement that it is named for, or if no fault breaks some
    requirement; in the profile smoke, of which all tests are run, if fewer than half are found.
    """
    for path in (results_file, markdown_file):
        if path and not path.parent.is_dir():
            raise click.UsageError(f"{path.parent} is no directory; make it first")
    whole = whole or profile == "smoke"
    asked = Asked(
        _chosen(names, needs),
        not names and not needs,
        profile,
        budget or (_TIME_FOR_ALL if whole else _TIME),
        jobs,
        tuple(range(seed, seed + seeds)),
        whole,
        basis,
    )
    with scratch_directory(scratch) as directory:
        try:
            report = tried(asked, directory, Console(highlight=False))
        except HarnessFailed as error:
            click.echo(f"overlay-conformance: the harness failed: {error}", err=True)
            sys.exit(2)
    print_kills(report)
    if results_file:
        write(results_file, report)
    if markdown_file:
        markdown_file.write_text(kill_table(report))
    sys.exit(report.exit_code)


def tried(asked: Asked, directory: Path, console: Console) -> KillReport:
    """Try the faults with their scratch below a directory; raises HarnessFailed."""
    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    task = Trials(
        str(directory), os.getpid(), asked.basis, tuple(_jobs(asked)), asked.profile, asked.jobs, asked.budget
    )
    with Progress(console, "importing") as progress:
        told = follow("conformance.trials", asdict(task), progress, heard=progress.advance)
    if told.failure:
        raise HarnessFailed(told.failure)
    seen = [(one["fault"], one["seed"], seen_of(one)) for one in told.events]
    _check_control(asked.basis, [one for name, _, one in seen if name == _CONTROL.fault])
    about = Selftest(
        suite=importlib.metadata.version("overlay-conformance"),
        specification=digest_of(load_requirements()),
        basis=asked.basis,
        version=told.opened["version"],
        kernel=platform.release(),
        machine=platform.machine(),
        profile=asked.profile,
        examples=EXAMPLES[asked.profile],
        seeds=asked.seeds,
        jobs=asked.jobs,
        budget=asked.budget,
        whole=asked.whole,
        complete=asked.complete,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
    )
    by_name = {one.name: Specimen.of(one) for one in asked.faults}
    trials = [judged(by_name[name], seed, one) for name, seed, one in seen if name != _CONTROL.fault]
    trials.sort(key=lambda one: (list(by_name).index(one.fault), one.seed))
    matrix = KillMatrix(tuple(by_name.values()), tuple(trials), asked.profile)
    if not asked.complete or asked.profile == "smoke":
        return KillReport(about, matrix)
    return KillReport(about, matrix, uncovered(matrix, load_requirements(), EXCEPTIONS), EXCEPTIONS)


def _jobs(asked: Asked) -> Iterable[Job]:
    yield _CONTROL
    for fault in asked.faults:
        for seed in asked.seeds:
            yield Job(fault.name, fault.connection, fault.breaks, fault.backing, fault.needs, seed, asked.whole)


def _check_control(basis: str, seen: Sequence[Seen]) -> None:
    for one in seen:
        wrong = [outcome for outcome in one.outcomes if outcome.verdict in (Verdict.FAIL, Verdict.ERROR)]
        if wrong or one.failure:
            said = f"{wrong[0].test}: {wrong[0].reason}" if wrong else one.failure
            raise HarnessFailed(
                f"{basis} does not pass without a fault, so what its faults do proves nothing: {said}"
            )


def _chosen(names: tuple[str, ...], needs: tuple[str, ...]) -> tuple[Fault, ...]:
    known = {one.name for one in FAULTS}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no fault {name}; docs/kill-matrix.md has them all")
    return tuple(one for one in FAULTS if (not names or one.name in names) and (not needs or one.needs in needs))
