"""``run``: judge a driver, tell people, and leave a result file and the evidence of failures."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from conformance.cli import completion
from conformance.cli.base import Duration, main, say_error
from conformance.cli.completion import connections
from conformance.cli.events import Events, Together
from conformance.cli.following import Followed, follow
from conformance.cli.interruption import Interruption
from conformance.cli.progress import Progress
from conformance.cli.summary import print_summary
from conformance.harness.events import Opened
from conformance.harness.task import Task
from conformance.lab import kernellog, overlaymodule
from conformance.lab.backing import BACKINGS, HOST
from conformance.lab.scratch import scratch_directory
from conformance.report import expectations
from conformance.report.expectations import BadExpectations, Expectation
from conformance.report.records import Part, Run, digest_of, write
from conformance.spec import Requirement, health, load_requirements
from conformance.spec.profiles import EXAMPLES, PROFILES
from conformance.spec.verdicts import PREFLIGHT, TestOutcome, Verdict, with_cut_short

EVIDENCE = "overlay-conformance-failures"


@dataclass(frozen=True, slots=True)
class Asked:
    """The options and arguments of the command line."""

    driver: str
    profile: str
    budget: float
    jobs: int
    backings: tuple[str, ...]
    requirements: Mapping[str, Requirement]
    examples: int
    seed: int
    known: tuple[Expectation, ...]
    expectations_file: Path | None
    call_timeout: float = 60.0


@main.command()
@click.argument("driver", shell_complete=connections)
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="standard",
    show_default=True,
    help="Which tests to run, with how many examples.",
)
@click.option("--budget", type=Duration(), help="Generate new examples until this time has passed, such as 10m.")
@click.option(
    "--call-timeout",
    type=click.FloatRange(0.1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for each call of the driver.",
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Number of concurrent tests.")
@click.option(
    "--backing",
    "backings",
    multiple=True,
    type=click.Choice([HOST, *(one.name for one in BACKINGS), "all"]),
    help="Backing filesystem (repeatable): created for the run, except 'host'.",
)
@click.option(
    "--requirement",
    "ids",
    multiple=True,
    metavar="ID",
    shell_complete=completion.requirement_ids,
    help="Only this requirement (repeatable).",
)
@click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.families,
    help="Only this family of requirements (repeatable).",
)
@click.option("--examples", type=click.IntRange(1), help="Examples for each property (default: from the profile).")
@click.option("--seed", type=int, help="Seed of the examples, as printed by an earlier run.")
@click.option(
    "--expectations",
    "expectations_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of known failures of the driver (docs/known-failures.md).",
)
@click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory in which stores are created.",
)
@click.option(
    "--results",
    "results_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Result file to write (JSON lines); 'report' and 'merge' read it.",
)
@click.option(
    "--evidence",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(EVIDENCE),
    show_default=True,
    help="Directory for evidence folders, one for each failure, with a reproducer.",
)
@click.option("--no-evidence", is_flag=True, help="Do not write evidence folders.")
@click.option("--events", "events_to", metavar="FD|FILE", help="Write progress events there (JSON lines).")
def run(
    driver: str,
    profile: str,
    budget: float | None,
    call_timeout: float,
    jobs: int,
    backings: tuple[str, ...],
    ids: tuple[str, ...],
    families: tuple[str, ...],
    examples: int | None,
    seed: int | None,
    expectations_file: Path | None,
    scratch: Path | None,
    results_file: Path | None,
    evidence: Path,
    no_evidence: bool,
    events_to: str | None,
) -> None:
    """Test DRIVER, named by KIND:ARGUMENTS, such as python:refdriver:Driver or containers-storage:overlay."""
    _check_jobs(jobs)
    if results_file and not results_file.parent.is_dir():
        raise click.UsageError(f"{results_file.parent} is not a directory; create it first")
    known = _known(expectations_file)
    asked = Asked(
        driver,
        profile,
        budget or 0.0,
        jobs,
        backings,
        _selected(ids, families),
        examples or EXAMPLES[profile],
        random.SystemRandom().randrange(2**32) if seed is None else seed,
        known,
        expectations_file,
        call_timeout,
    )
    console = Console(highlight=False)
    events = _events(events_to, asked)
    interruption = click.get_current_context().find_object(Interruption) or Interruption()
    with interruption.deferred():
        with scratch_directory(scratch) as directory:
            part, told, matchless = judge(asked, directory, console, events)
            if not no_evidence and any(one.verdict is Verdict.FAIL for one in part.outcomes):
                from conformance.cli.evidence import with_evidence  # it brings every adapter

                part = with_evidence(part, evidence, results_root(results_file), directory, console, interruption)
        if events and events.lost:
            part = part.noting(events.lost)
        unwritten = _written(results_file, part) if results_file else ""
        # What was judged before a signal came is worth a summary, and is no conclusion.
        code = 128 + interruption.signal if interruption.signal else part.exit_code or (1 if matchless else 0)
        code = 2 if unwritten and code in (0, 1, 3) else code
        if events:
            events.end(code)
    if told.failure and not told.interrupted:
        say_error(told.complaint)
    if not told.of_driver:  # nothing was judged then, and the complaint has said why
        print_summary(console, part, evidence=None if no_evidence else results_root(results_file), code=code)
    for line in matchless:
        say_error(f"{expectations_file}: {line}")
    if unwritten:
        say_error(unwritten)
    sys.exit(code)


def _written(results_file: Path, part: Part) -> str:
    """Write the result file; why it could not be written, "" if it was."""
    try:
        write(results_file, [part])
    except OSError as error:
        return f"{results_file} could not be written: {error.strerror}; the verdicts are above"
    return ""


def judge(
    asked: Asked, directory: Path, console: Console, events: Events | None = None
) -> tuple[Part, Followed, list[str]]:
    """Run the worker; the part of a result file, what was told, and known failures that can match nothing."""
    applicable, cases = _applicable(asked)
    task = Task(
        asked.driver,
        str(directory),
        os.getpid(),
        tuple(asked.requirements),
        asked.profile,
        asked.examples,
        asked.seed,
        asked.backings,
        asked.jobs,
        asked.budget,
        replay=cases,
        unshrunk=tuple(dict.fromkeys(one.requirement for one in applicable)),
        call_timeout=asked.call_timeout,
    )
    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    with Progress(console, "opening the driver") as progress, _health(asked.requirements) as fared:
        heard = Together(progress, events) if events else progress
        told = follow("conformance.harness.worker", task, heard)
        told.account()
        told.outcomes += [one for one in fared(told) if not told.of_driver or one.verdict is Verdict.FAIL]
    told.outcomes = with_cut_short(told.outcomes, asked.requirements)
    opened = told.opened or Opened(asked.driver, "unknown", "none", (), {}, {}, ())
    # The version of the driver is known now; an entry about another version is no matter of this run.
    holding = [one for one in applicable if one.holds(platform.release(), opened.version)]
    applied = expectations.apply(holding, told.outcomes)
    run_of = Run(
        suite=importlib.metadata.version("overlay-conformance"),
        specification=digest_of(load_requirements()),
        connection=asked.driver,
        driver=opened.name,
        version=opened.version,
        kernel=platform.release(),
        machine=platform.machine(),
        lane=opened.lane,
        profile=asked.profile,
        examples=asked.examples,
        seed=asked.seed,
        backings=opened.backings,
        selected=tuple(asked.requirements),
        declined=opened.declined,
        lacking=opened.lacking,
        notes=(*opened.notes, *_ended_early(told)),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
        failure=told.failure,
        overlay=overlaymodule.parameters(),
        tests=told.inventory.of_suite,
    )
    return Part(run_of, tuple(applied.outcomes)), told, applied.matchless


def _ended_early(told: Followed) -> list[str]:
    if any(one.test == PREFLIGHT for one in told.outcomes):
        return ["the run ended after the preflight, in which the driver deviates: nothing else was tested"]
    return []


@contextmanager
def _health(requirements: Iterable[str]) -> Iterator[Callable[[Followed], list[TestOutcome]]]:
    """What tells, of a run, how the kernel has fared since: a failure always, else if it was asked for."""
    wanted = health.REQUIREMENT in requirements
    why_not = kernellog.why_not()
    if why_not:
        yield lambda _: [health.unknown(why_not)] if wanted else []
        return
    log = kernellog.KernelLog()

    def judged(told: Followed) -> list[TestOutcome]:
        backings = told.opened.backings if told.opened else ()
        outcome = health.judged(
            log.of_the_kernel(), log.newly_tainted(), told.outcomes, backings[0] if len(backings) == 1 else ""
        )
        return [outcome] if wanted or outcome.verdict is Verdict.FAIL else []

    try:
        yield judged
    finally:
        log.close()


def _applicable(asked: Asked) -> tuple[list[Expectation], dict[str, Any]]:
    """Entries whose kernel this is, and what was drawn in their stored cases, by test."""
    here = [
        one
        for one in asked.known
        if one.requirement in asked.requirements and expectations.within(one.kernel, platform.release())
    ]
    if asked.expectations_file is None:
        return here, {}
    cases = expectations.stored_cases(here, asked.expectations_file)
    return here, {test: case.as_json()["drawn"] for test, case in cases.items()}


def _known(file: Path | None) -> tuple[Expectation, ...]:
    if file is None:
        return ()
    try:
        known = expectations.load(file, load_requirements(), datetime.datetime.now(datetime.UTC).date())
        expectations.stored_cases(known, file)
    except BadExpectations as error:
        raise click.UsageError(str(error)) from error
    return tuple(known)


def results_root(results_file: Path | None) -> Path:
    """The directory that paths of evidence are relative to."""
    return results_file.parent if results_file else Path()


def _events(where: str | None, asked: Asked) -> Events | None:
    if where is None:
        return None
    try:
        events = Events(where)
    except OSError as error:
        raise click.UsageError(f"--events {where}: {error.strerror}") from error
    events.begin(asked.driver, asked.profile, len(asked.requirements))
    return events


def _check_jobs(jobs: int) -> None:
    if jobs > 1 and importlib.util.find_spec("xdist") is None:
        raise click.UsageError("--jobs needs pytest-xdist: pip install 'overlay-conformance[parallel]'")


def _selected(ids: Sequence[str], families: Sequence[str]) -> dict[str, Requirement]:
    known = load_requirements()
    for one in ids:
        if one not in known:
            raise click.UsageError(f"no requirement {one}; 'overlay-conformance list' shows them all")
    for family in families:
        if family not in {requirement.family for requirement in known.values()}:
            raise click.UsageError(f"no family {family!r}; 'overlay-conformance list' shows them all")
    if not ids and not families:
        return known
    return {one: requirement for one, requirement in known.items() if one in ids or requirement.family in families}
