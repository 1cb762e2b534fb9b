"""``selftest``: run the suite on drivers that are known to be wrong, and tell which of them it finds."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from conformance.cli.base import Duration, main
from conformance.cli.following import follow
from conformance.cli.progress import Progress
from conformance.faulty.basis import BASIS
from conformance.faulty.catalogue import EXCEPTIONS, FAULTS
from conformance.faulty.fault import Fault
from conformance.kills import Fate, Kill, Matrix, Trial, judged, uncovered
from conformance.lab.scratch import scratch_directory
from conformance.spec import load_requirements
from conformance.trials import Job, Trials, seen_of

_REFERENCE: Final = "refdriver:Driver"
_HALF: Final = 0.5


def _names(context: click.Context, parameter: click.Parameter, begun: str) -> list[Any]:
    del context, parameter
    return [one.name for one in FAULTS if one.name.lower().startswith(begun.lower())]


@main.command(short_help="Run the suite on drivers that are known to be wrong.")
@click.option(
    "--fault", "names", multiple=True, metavar="NAME", shell_complete=_names, help="Only this (repeatable)."
)
@click.option("--budget", type=Duration(), default="60s", show_default=True, help="Time for each trial.")
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
def selftest(
    names: tuple[str, ...],
    budget: float,
    profile: str,
    jobs: int,
    seed: int,
    seeds: int,
    whole: bool,
    basis: str,
    scratch: Path | None,
) -> None:
    """Run the suite on drivers that are wrong in one way each, and tell which of them it finds (the kill matrix).

    Ends with 1 if one of them is not found by the requirement that it is named for, or if no fault breaks some
    requirement; in the profile smoke, if fewer than half are found.
    """
    faults = _chosen(names)
    console = Console(highlight=False)
    with scratch_directory(scratch) as directory, Progress(console, "importing") as progress:
        wanted = tuple(Job.of(fault, seed + number) for fault in faults for number in range(seeds))
        whole = whole or profile == "smoke"
        task = Trials(str(directory), os.getpid(), basis, wanted, profile, jobs, budget, whole)
        told = follow("conformance.trials", asdict(task), progress)
    by_name = {one.name: one for one in faults}
    trials = tuple(judged(by_name[one["fault"]], one["seed"], seen_of(one)) for one in told.events)
    if told.failure:
        click.echo(f"overlay-conformance: the harness failed: {told.failure}", err=True)
        sys.exit(2)
    matrix = Matrix(faults, trials, profile)
    _print(matrix)
    gaps = uncovered(matrix, load_requirements(), EXCEPTIONS) if not names and profile != "smoke" else {}
    for requirement, said in gaps.items():
        click.echo(f"{requirement}: {said}")
    if profile == "smoke":
        sys.exit(0 if matrix.share >= _HALF else 1)
    sys.exit(1 if matrix.alive or gaps else 0)


def _chosen(names: tuple[str, ...]) -> tuple[Fault, ...]:
    known = {one.name for one in FAULTS}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no fault {name}; conformance/faulty/ has them all")
    return tuple(one for one in FAULTS if not names or one.name in names)


def _print(matrix: Matrix) -> None:
    for fault in matrix.faults:
        for trial in sorted(matrix.of(fault), key=lambda one: one.seed):
            click.echo(_line(fault, trial))
            if trial.missed and trial.fate is Fate.KILLED:
                click.echo(f"{'':17} not broken: {', '.join(trial.missed)}")
            others = [one for one in trial.killers if one not in fault.breaks]
            if others:
                click.echo(f"{'':17} broken too: {', '.join(others)}")
            if trial.reason:
                click.echo(f"{'':17} {trial.reason}")
    counts = {fate: sum(matrix.fate(one) is fate for one in matrix.faults) for fate in Fate}
    said = ", ".join(f"{count} {fate.value}" for fate, count in counts.items() if count)
    median, worst = matrix.median_and_worst()
    share = f"{matrix.share:.0%} of those that could be tried"
    click.echo(f"{len(matrix.faults)} faults, profile {matrix.profile}: {said}; {share}")
    click.echo(f"time to the kill: median {median:.1f} s, worst {worst:.1f} s")


def _line(fault: Fault, trial: Trial) -> str:
    kill = trial.killed_by(fault.breaks[0]) or (trial.kills[0] if trial.kills else None)
    return f"{trial.fate.value:16} {fault.name:28} {_told(kill, fault) if kill else fault.breaks[0]}"


def _told(kill: Kill, fault: Fault) -> str:
    by = fault.breaks[0] if fault.breaks[0] in kill.requirements else kill.requirements[0]
    examples = "1 example" if kill.examples == 1 else f"{kill.examples} examples"
    drawn = "" if kill.drawn is None else f", {kill.drawn} drawn"
    return f"{by:32} {kill.seconds:6.2f} s  {examples:12} {kill.steps} steps{drawn}"
