"""What was asked for on the command line becomes a task, and what came of it a part of a result file."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from conformance.cli.base import interruption_of_verb, say_error
from conformance.cli.blocks import Blocks
from conformance.cli.events import Events, Together
from conformance.cli.progress import Progress
from conformance.harness import controller
from conformance.harness.events import Opened
from conformance.harness.following import Followed
from conformance.harness.task import Task
from conformance.lab import overlaymodule
from conformance.report import expectations
from conformance.report.expectations import BadExpectations, Expectation
from conformance.report.records import Part, Run, digest_of
from conformance.spec import Requirement, load_requirements
from conformance.spec.verdicts import PREFLIGHT, TestOutcome


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
    expression: str = ""
    max_failures: int = 0
    shrinks: bool = True
    effort: str = ""  # the option --budget, in words


def known_failures(file: Path | None) -> tuple[Expectation, ...]:
    """The entries of a file of known failures; raises click.UsageError for one that cannot be read."""
    if file is None:
        return ()
    try:
        known = expectations.load(file, load_requirements(), datetime.datetime.now(datetime.UTC).date())
        expectations.stored_cases(known, file)
    except BadExpectations as error:
        raise click.UsageError(str(error)) from error
    return tuple(known)


def judge(
    asked: Asked, directory: Path, console: Console, blocks: Blocks, events: Events | None = None
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
        expression=asked.expression,
        max_failures=asked.max_failures,
        shrinks=asked.shrinks,
    )
    with Progress(console, "opening the driver", say_error) as progress:
        heard = Together(progress, blocks, *([events] if events else []))
        judged = controller.judge(task, heard, interruption_of_verb())
    told = judged.told
    opened = told.opened or Opened(asked.driver, "unknown", "none", (), {}, {}, ())
    # The version of the driver is known now; an entry about another version is no matter of this run.
    holding = [one for one in applicable if one.holds(platform.release(), opened.version)]
    stopped = told.finished.stopped if told.finished else ""
    applied = expectations.apply(holding, judged.outcomes, partial=bool(asked.expression or stopped))
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
        notes=(*opened.notes, *_ended_early(told), *_left_out(asked, stopped)),
        started=judged.started.isoformat(timespec="seconds"),
        seconds=judged.seconds,
        failure=told.failure,
        expression=asked.expression,
        budget=asked.effort,
        shrinks=asked.shrinks,
        stopped=stopped,
        overlay=overlaymodule.parameters(),
        tests=told.inventory.of_suite,
    )
    return Part(run_of, tuple(applied.outcomes)), told, applied.matchless


def settled(asked: Asked, outcome: TestOutcome, version: str) -> TestOutcome:
    """An outcome as it counts while the run is under way: a known failure of this version is XFAIL."""
    applicable, _ = _applicable(asked)
    holding = [one for one in applicable if one.holds(platform.release(), version)]
    return expectations.apply([one for one in holding if one.is_about(outcome)], [outcome]).outcomes[0]


def _ended_early(told: Followed) -> list[str]:
    if any(one.test == PREFLIGHT for one in told.outcomes):
        return ["the run ended after the preflight, in which the driver deviates: nothing else was tested"]
    return []


def _left_out(asked: Asked, stopped: str) -> list[str]:
    """What the options of the run left out, for every report."""
    said = [f"{stopped}: tests that did not run are UNTESTED"] if stopped else []
    if asked.expression:
        said.append(f"only tests that match -k {shlex.quote(asked.expression)} ran")
    if not asked.shrinks:
        said.append("examples of failures are not minimal: the run did not shrink them (--no-shrink)")
    return said


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
