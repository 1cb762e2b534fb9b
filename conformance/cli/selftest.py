"""What ``selftest`` does: run the suite on mutants and variants, and report what it says of them."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click
from rich.console import Console

from conformance.cli.base import interruption_of_verb, say_error
from conformance.cli.consoles import console
from conformance.cli.events import Together
from conformance.cli.generated import BUDGET, Wanted, print_generated
from conformance.cli.generated import tried as tried_generated
from conformance.cli.killsummary import print_kills
from conformance.cli.progress import Milestones, Progress
from conformance.harness.following import follow
from conformance.lab.backing import HOST
from conformance.lab.scratch import scratch_directory
from conformance.report.generatedpage import page as page_of_generated
from conformance.report.killfile import KillReport, Selftest, write
from conformance.report.killtable import kill_table
from conformance.report.records import digest_of
from conformance.selftest.alarms import Choice, Hearing, Standing, heard
from conformance.selftest.kills import Fate, KillMatrix, Seen, Specimen, Trial, judged, uncovered
from conformance.selftest.mutants.catalogue import EXCEPTIONS, MUTANTS
from conformance.selftest.mutants.mutant import Mutant
from conformance.selftest.trial import Job
from conformance.selftest.trials import Trials
from conformance.selftest.variants.catalogue import VARIANTS
from conformance.selftest.variants.variant import Variant
from conformance.spec import load_requirements
from conformance.spec.errors import HarnessError
from conformance.spec.naming import suggestion
from conformance.spec.profiles import EXAMPLES
from conformance.spec.verdicts import Verdict

_Driver = TypeVar("_Driver", Mutant, Variant)
_REFERENCE: Final = "refdriver:Driver"
_TIME: Final = 60.0  # seconds for a trial, and for one of all tests
_TIME_FOR_ALL: Final = 600.0
_TIME_FOR_CONTROL: Final = 1800.0
# Tried with the mutants, to see that what kills them is what is wrong with them; with all of them, by all tests.
_CONTROL: Final = Job(
    "Faithful",
    "python:conformance.selftest.mutants.basis:Faithful",
    ("OVL-LIFE-CREATE", "OVL-APPLY-ROUND-TRIP"),
    "host",
    "",
    1,
    _TIME_FOR_ALL,
)


class HarnessFailed(HarnessError):
    """Nothing can be said of any mutant; the text says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line. ``complete`` says whether these are all drivers of the catalogues."""

    mutants: tuple[Mutant, ...]
    complete: bool
    profile: str
    budget: float
    jobs: int
    seeds: tuple[int, ...]
    whole: bool
    basis: str
    variants: tuple[Variant, ...] = ()


def selftest_asked(
    names: tuple[str, ...],
    old_names: tuple[str, ...],
    needs: tuple[str, ...],
    choices: tuple[str, ...],
    old_choices: tuple[str, ...],
    generated: int | None,
    equivalent: Path | None,
    again: bool,
    backings: tuple[str, ...],
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
    """Try what the options of conformance.cli.mutating say; exits with the status of docs/exit-codes.md."""
    names, choices = (*names, *old_names), (*choices, *old_choices)
    for path in (results_file, markdown_file):
        if path and not path.parent.is_dir():
            raise click.UsageError(f"{path.parent} is not a directory; create it first")
    if generated:
        if choices or needs or seeds != 1:
            raise click.UsageError("--generated takes no --variant, --needs and --seeds")
        wanted = Wanted(
            *(generated, seed, names, profile, basis, jobs, budget or BUDGET, equivalent, results_file, whole),
            again=again,
            backings=backings or (HOST,),
        )
        with scratch_directory(scratch) as directory:
            found = tried_generated(wanted, directory, console(highlight=False))
        print_generated(found)
        if markdown_file:
            markdown_file.write_text(page_of_generated(found.about, found.tried))
        sys.exit(found.exit_code)
    if equivalent or again or backings:
        raise click.UsageError("--equivalent, --again and --backing need --generated")
    asked = Asked(
        _needing(_chosen(names, MUTANTS, "mutant", all_of_them=not choices), needs),
        not names and not choices and not needs,
        profile,
        budget or (_TIME_FOR_ALL if whole else _TIME),
        jobs,
        tuple(range(seed, seed + seeds)),
        whole,
        basis,
        _chosen(choices, VARIANTS, "variant", all_of_them=not names and not needs),
    )
    with scratch_directory(scratch) as directory:
        report = tried(asked, directory, console(highlight=False))
    print_kills(report)
    if results_file:
        write(results_file, report)
    if markdown_file:
        markdown_file.write_text(kill_table(report))
    sys.exit(report.exit_code)


def tried(asked: Asked, directory: Path, console: Console) -> KillReport:
    """Try the drivers with their scratch below a directory; raises HarnessFailed."""
    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    here = {one: _of_another(one, asked) or one.why_not() for one in asked.variants}
    jobs = (control_of(asked), *jobs_of_variants(asked, here), *_trials(asked))
    task = Trials(str(directory), os.getpid(), asked.basis, jobs, asked.profile, asked.jobs)
    with Progress(console, "importing") as progress:
        heard_by = progress if console.is_terminal else Together(progress, Milestones(say_error))
        told = follow("conformance.selftest.trials", task, heard_by, interruption=interruption_of_verb())
    if told.failure:
        raise HarnessFailed(f"the harness failed: {told.failure}")
    seen = [(one.mutant, one.seed, Seen.of(one)) for one in told.tried]
    _check_control(asked.basis, [one for name, _, one in seen if name == _CONTROL.mutant])
    about = Selftest(
        suite=importlib.metadata.version("overlay-conformance"),
        specification=digest_of(load_requirements()),
        basis=asked.basis,
        version=told.finished.version if told.finished else "",
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
    by_name = {one.name: Specimen.of(one) for one in asked.mutants}
    trials = [judged(by_name[name], seed, one) for name, seed, one in seen if name in by_name]
    trials += [
        Trial(one.name, seed, Fate.NOT_APPLICABLE, reason=why)
        for one in asked.mutants
        for seed in asked.seeds
        if (why := _of_another(one, asked))
    ]
    trials.sort(key=lambda one: (list(by_name).index(one.mutant), one.seed))
    matrix = KillMatrix(tuple(by_name.values()), tuple(trials), asked.profile)
    choices = {one.name: Choice.of(one) for one in asked.variants}
    hearings = [heard(choices[name], seed, one) for name, seed, one in seen if name in choices]
    hearings += [
        Hearing(one.name, seed, Standing.NOT_APPLICABLE, reason=why)
        for one, why in here.items()
        for seed in asked.seeds
        if why
    ]
    hearings.sort(key=lambda one: (list(choices).index(one.variant), one.seed))
    report = KillReport(about, matrix, choices=tuple(choices.values()), hearings=tuple(hearings))
    if not asked.complete or asked.profile == "quick":
        return report
    gaps = uncovered(matrix, load_requirements(), EXCEPTIONS)
    return dataclasses.replace(report, gaps=gaps, exceptions=EXCEPTIONS)


def control_of(asked: Asked) -> Job:
    """The trial of the correct driver: by all tests if all mutants are tried, otherwise by few."""
    if not asked.complete:
        return _CONTROL
    return dataclasses.replace(_CONTROL, breaks=tuple(load_requirements()), budget=_TIME_FOR_CONTROL, whole=True)


def _trials(asked: Asked) -> Iterable[Job]:
    for mutant in (one for one in asked.mutants if not _of_another(one, asked)):
        about = (mutant.name, mutant.connection, mutant.breaks, mutant.backing, mutant.needs)
        for seed in asked.seeds:
            yield Job(*about, seed, asked.budget, asked.whole)


def _of_another(one: Mutant | Variant, asked: Asked) -> str:
    """Why a driver cannot be tried because it is a mutant or variant of another one; "" if it is not."""
    return f"it replaces functions of {one.basis}" if one.basis not in ("", asked.basis) else ""


def jobs_of_variants(asked: Asked, here: Mapping[Variant, str]) -> Iterable[Job]:
    """The trials of variants that nothing stands ``here`` against. They take the longest, so they come first."""
    for one in (one for one, why in here.items() if not why):
        about = (one.name, one.connection, one.judged_by(load_requirements()), one.backing, "")
        for seed in asked.seeds:
            whole = asked.whole or asked.profile == "quick"
            yield Job(*about, seed, max(asked.budget, _TIME_FOR_ALL), whole, asked.complete and not whole)


def _check_control(basis: str, seen: Sequence[Seen]) -> None:
    for one in seen:
        wrong = [outcome for outcome in one.outcomes if outcome.verdict in (Verdict.FAIL, Verdict.ERROR)]
        if wrong or one.failure:
            said = f"{wrong[0].test}: {wrong[0].reason}" if wrong else one.failure
            raise HarnessFailed(
                f"the harness failed: {basis} fails without a mutation, so its mutants prove nothing: {said}"
            )


def _chosen(
    names: tuple[str, ...], catalogue: tuple[_Driver, ...], kind: str, *, all_of_them: bool
) -> tuple[_Driver, ...]:
    """Those that are named; without a name all or none, as it is said."""
    known = {one.name for one in catalogue}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no {kind} {name}{suggestion(name, known)}; docs/kill-matrix.md lists them all")
    return tuple(one for one in catalogue if one.name in names or (all_of_them and not names))


def _needing(mutants: tuple[Mutant, ...], needs: tuple[str, ...]) -> tuple[Mutant, ...]:
    return tuple(one for one in mutants if not needs or one.needs in needs)
