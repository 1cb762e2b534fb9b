"""``run``: judge a driver, tell people, and leave a result file and the evidence of failures."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from conformance.cli import completion
from conformance.cli.base import Duration, main, say, say_error
from conformance.cli.blocks import Blocks
from conformance.cli.completion import connections
from conformance.cli.events import Events
from conformance.cli.judging import Asked, judge, known_failures, settled
from conformance.cli.summary import print_summary
from conformance.harness.interruption import Interruption
from conformance.history.printable import printable
from conformance.lab.backing import BACKINGS, HOST
from conformance.lab.scratch import scratch_directory
from conformance.report.records import Part, write
from conformance.spec import Requirement, load_requirements
from conformance.spec.profiles import EXAMPLES, PROFILES
from conformance.spec.verdicts import TestOutcome, Verdict

EVIDENCE = "overlay-conformance-failures"


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
    known = known_failures(expectations_file)
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
    blocks = _blocks(console, asked, None if no_evidence else evidence)
    events = _events(events_to, asked)
    interruption = click.get_current_context().find_object(Interruption) or Interruption()
    with interruption.deferred():
        with scratch_directory(scratch) as directory:
            part, told, matchless = judge(asked, directory, console, blocks, events)
            if not no_evidence and any(one.verdict in (Verdict.FAIL, Verdict.ERROR) for one in part.outcomes):
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
        print_summary(console, part, blocks, evidence=None if no_evidence else evidence, code=code)
    for line in matchless:
        say_error(f"{expectations_file}: {line}")
    if unwritten:
        say_error(unwritten)
    sys.exit(code)


def _blocks(console: Console, asked: Asked, evidence: Path | None) -> Blocks:
    def folder(outcome: TestOutcome) -> str:
        from conformance.evidence.folder import folder_name  # it brings every adapter

        written = evidence is not None and outcome.verdict in (Verdict.FAIL, Verdict.ERROR)
        return str(evidence / folder_name(outcome)) if evidence is not None and written else ""

    def on_terminal(line: str) -> None:
        console.print(printable(line), markup=False, soft_wrap=True)

    return Blocks(
        on_terminal if console.is_terminal else say,
        load_requirements(),
        lambda outcome, version: settled(asked, outcome, version),
        folder,
    )


def _written(results_file: Path, part: Part) -> str:
    """Write the result file; why it could not be written, "" if it was."""
    try:
        write(results_file, [part])
    except OSError as error:
        return f"{results_file} could not be written: {error.strerror}; the verdicts are above"
    return ""


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
