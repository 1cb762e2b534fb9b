"""``selftest``: run the suite on drivers that are known to be wrong, and tell which of them it finds."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from conformance.cli.base import Duration, main
from conformance.cli.following import follow
from conformance.cli.killsummary import print_kills
from conformance.cli.progress import Progress
from conformance.faulty import basis as basis_of
from conformance.faulty.basis import BASIS
from conformance.faulty.catalogue import EXCEPTIONS, FAULTS
from conformance.faulty.fault import Fault
from conformance.kills import KillMatrix, Specimen, judged, uncovered
from conformance.lab.scratch import scratch_directory
from conformance.plugin import EXAMPLES
from conformance.report.killfile import KillReport, Selftest, write
from conformance.report.killtable import kill_table
from conformance.report.records import digest_of
from conformance.results import Verdict
from conformance.spec import load_requirements
from conformance.trials import Job, Trials, seen_of

_REFERENCE: Final = "refdriver:Driver"
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
# Tried with the faults, to see that what kills them is what is wrong with them.
_CONTROL: Final = Specimen("Faithful", ("OVL-LIFE-CREATE", "OVL-APPLY-ROUND-TRIP"), "Nothing is wrong.", "control")


def _names(context: click.Context, parameter: click.Parameter, begun: str) -> list[Any]:
    del context, parameter
    return [one.name for one in FAULTS if one.name.lower().startswith(begun.lower())]


@main.command(short_help="Run the suite on drivers that are known to be wrong.")
@click.option(
    "--fault", "names", multiple=True, metavar="NAME", shell_complete=_names, help="Only this (repeatable)."
)
@click.option("--budget", type=Duration(), help="Time for each trial: 60s, and 10m with --whole.")
@click.option(
    "--profile",
    type=click.Choice(("smoke", "standard")),
    default="standard",
    show_default=True,
    help="How much to try.",
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trials at a time.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the examples.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Try with so many seeds, from --seed."
)
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
    requirement; in the profile smoke, if fewer than half are found.
    """
    faults = _chosen(names)
    for path in (results_file, markdown_file):
        if path and not path.parent.is_dir():
            raise click.UsageError(f"{path.parent} is no directory; make it first")
    whole = whole or profile == "smoke"
    budget = budget or (600.0 if whole else 60.0)
    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    console = Console(highlight=False)
    with scratch_directory(scratch) as directory, Progress(console, "importing") as progress:
        numbers = tuple(range(seed, seed + seeds))
        wanted = [_job(one, number, whole) for one in faults for number in numbers]
        control = Job.of(_CONTROL, f"python:{basis_of.__name__}:{_CONTROL.name}", seed, whole=False)
        task = Trials(str(directory), os.getpid(), basis, (control, *wanted), profile, jobs, budget)
        told = follow("conformance.trials", asdict(task), progress)
    failure = told.failure or _failed_control(told.events, basis)
    if failure:
        click.echo(f"overlay-conformance: the harness failed: {failure}", err=True)
        sys.exit(2)
    about = Selftest(
        suite=importlib.metadata.version("overlay-conformance"),
        specification=digest_of(load_requirements()),
        basis=basis,
        version=told.opened.get("version", "unknown"),
        kernel=platform.release(),
        machine=platform.machine(),
        profile=profile,
        examples=EXAMPLES[profile],
        seeds=numbers,
        jobs=jobs,
        budget=budget,
        whole=whole,
        complete=not names,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
    )
    report = _report(about, tuple(Specimen.of(one) for one in faults), told.events)
    print_kills(report)
    if results_file:
        write(results_file, report)
    if markdown_file:
        markdown_file.write_text(kill_table(report))
    sys.exit(report.exit_code)


def _job(fault: Fault, seed: int, whole: bool) -> Job:
    return Job.of(Specimen.of(fault), fault.connection, seed, whole=whole)


def _report(about: Selftest, faults: tuple[Specimen, ...], events: list[dict[str, Any]]) -> KillReport:
    by_name = {one.name: one for one in faults}
    found = [one for one in events if one["fault"] in by_name]
    matrix = KillMatrix(
        faults, tuple(judged(by_name[one["fault"]], one["seed"], seen_of(one)) for one in found), about.profile
    )
    if not about.complete or about.profile == "smoke":
        return KillReport(about, matrix)
    return KillReport(about, matrix, uncovered(matrix, load_requirements(), EXCEPTIONS), EXCEPTIONS)


def _failed_control(events: list[dict[str, Any]], basis: str) -> str:
    """Why nothing that was killed would mean anything: the correct driver is killed too; "" if it is not."""
    seen = next(seen_of(one) for one in events if one["fault"] == _CONTROL.name)
    wrong = [one for one in seen.outcomes if one.verdict in (Verdict.FAIL, Verdict.ERROR)]
    if wrong:
        return f"{basis} is not correct itself: {wrong[0].test}: {wrong[0].reason}"
    return seen.failure


def _chosen(names: tuple[str, ...]) -> tuple[Fault, ...]:
    known = {one.name for one in FAULTS}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no fault {name}; conformance/faulty/ has them all")
    return tuple(one for one in FAULTS if not names or one.name in names)
