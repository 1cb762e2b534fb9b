"""The ``overlay-conformance`` command.

Exit codes of ``run``: 0 the driver conforms, 1 it does not, 2 the harness failed or the command line is wrong,
3 nothing applicable ran.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.lab.namespace import filesystem_magic
from conformance.lab.scratch import scratch_directory
from conformance.results import RequirementResult, TestOutcome, Verdict, exit_code, judge
from conformance.spec import Requirement, load_requirements
from conformance.worker import Task

JSON_VERSION = 1
_COLOURS = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.ERROR: "bold magenta",
    Verdict.DECLINED: "yellow",
    Verdict.NOT_APPLICABLE: "yellow",
    Verdict.UNTESTED: "dim",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="overlay-conformance", prog_name="overlay-conformance")
def main() -> None:
    """Judge container-storage overlay drivers by what they do."""


@main.command()
@click.argument("driver")
@click.option("--requirement", "ids", multiple=True, metavar="ID", help="Only this requirement (repeatable).")
@click.option("--family", "families", multiple=True, help="Only this family of requirements (repeatable).")
@click.option("--examples", default=25, show_default=True, help="Examples for each property.")
@click.option("--seed", type=int, help="Repeat the examples of a run that printed this seed.")
@click.option(
    "--scratch", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where to make stores."
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the results there."
)
def run(
    driver: str,
    ids: tuple[str, ...],
    families: tuple[str, ...],
    examples: int,
    seed: int | None,
    scratch: Path | None,
    json_file: Path | None,
) -> None:
    """Judge DRIVER: python:MODULE:CLASS or containers-storage:DRIVER."""
    requirements = _selected(ids, families)
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    console = Console(highlight=False)
    with scratch_directory(scratch) as directory:
        task = Task(driver, str(directory), os.getpid(), tuple(requirements), examples, seed)
        backing = f"{filesystem_magic(directory):#x}"
        outcomes, opened, failure = _follow(task, console)
    if failure:
        click.echo(f"overlay-conformance: the harness failed: {failure}", err=True)
    results = judge(requirements, outcomes)
    code = 2 if failure else exit_code(results)
    about = {
        "driver": driver,
        "kernel": platform.release(),
        "backing_magic": backing,
        "seed": seed,
        "examples": examples,
        **opened,
    }
    if json_file:
        json_file.write_text(json.dumps(_as_json(about, results, code), indent=1) + "\n")
    _summary(console, about, results, requirements, code)
    sys.exit(code)


@main.command("list")
def list_requirements() -> None:
    """List every requirement."""
    for requirement in load_requirements().values():
        click.echo(f"{requirement.id:28} {requirement.level:7} {requirement.family:22} {requirement.sentence}")


@main.command()
@click.argument("requirement_id", metavar="ID")
def explain(requirement_id: str) -> None:
    """Say what a requirement asks for, and where it comes from."""
    requirement = load_requirements().get(requirement_id.upper())
    if requirement is None:
        raise click.UsageError(f"no requirement {requirement_id}; 'overlay-conformance list' shows them all")
    click.echo(f"{requirement.id} ({requirement.level}, family {requirement.family}, since {requirement.since})")
    click.echo(f"  {requirement.sentence}")
    click.echo(f"  source: {requirement.source}")
    click.echo(f"  needs: {', '.join(requirement.needs) or 'nothing'}")


def _selected(ids: tuple[str, ...], families: tuple[str, ...]) -> dict[str, Requirement]:
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


def _follow(task: Task, console: Console) -> tuple[list[TestOutcome], dict[str, Any], str]:
    """Start the worker and follow its events: outcomes, what it opened, and why it failed if it did."""
    outcomes: list[TestOutcome] = []
    opened: dict[str, Any] = {}
    failure = "the worker ended without a word"
    with (
        subprocess.Popen(
            [sys.executable, "-m", "conformance.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as worker,
        console.status("opening the driver") as status,
    ):
        for event in _events(worker, task):
            match event.pop("event"):
                case "opened":
                    opened = event
                case "test":
                    status.update(f"{len(outcomes)} done, now {event['name']}")
                case "outcome":
                    outcomes.append(_outcome(event))
                case "finished":
                    failure = ""
                case "failed":
                    failure = event["message"]
    return outcomes, opened, failure


def _events(worker: subprocess.Popen[str], task: Task) -> Iterator[dict[str, Any]]:
    assert worker.stdin is not None, "it was opened with a pipe"
    assert worker.stdout is not None, "it was opened with a pipe"
    try:
        worker.stdin.write(json.dumps(asdict(task)))
        worker.stdin.close()
        for line in worker.stdout:
            yield json.loads(line)
    except BaseException:
        worker.kill()
        raise


def _outcome(event: dict[str, Any]) -> TestOutcome:
    return TestOutcome(
        event["test"],
        tuple(event["requirements"]),
        Verdict(event["verdict"]),
        event["reason"],
        tuple(event["steps"]),
    )


def _as_json(about: dict[str, Any], results: list[RequirementResult], code: int) -> dict[str, Any]:
    return {
        "version": JSON_VERSION,
        **about,
        "exit_code": code,
        "results": [
            {
                "requirement": result.requirement,
                "verdict": result.verdict.value,
                "tests": [
                    {"test": one.test, "reason": one.reason, "steps": list(one.steps)} for one in result.outcomes
                ],
            }
            for result in results
        ],
    }


def _summary(
    console: Console,
    about: dict[str, Any],
    results: list[RequirementResult],
    requirements: dict[str, Requirement],
    code: int,
) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for result in results:
        verdict = Text(result.verdict.value, style=_COLOURS[result.verdict])
        table.add_row(verdict, result.requirement, requirements[result.requirement].sentence)
    # In a pipe there is no width to fit in: one line a requirement, for grep and diff.
    console.print(table) if console.is_terminal else _plain_table(results, requirements)
    for outcome in _decisive(results):
        _explain_outcome(outcome, about)
    reasons = {
        one.reason
        for result in results
        for one in result.outcomes
        if one.verdict not in (Verdict.FAIL, Verdict.ERROR)
    }
    for note in sorted({*about.get("notes", ()), *reasons} - {""}):
        click.echo(f"note: {note}")
    counts = {verdict: sum(result.verdict is verdict for result in results) for verdict in Verdict}
    said = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    where = f"on kernel {about['kernel']}, lane {about.get('lane', 'none')}, seed {about['seed']}"
    click.echo(
        f"{about['driver']} {about.get('version', '')} {where}: {said or 'nothing ran'} -> {_conclusion(code)}"
    )


def _plain_table(results: list[RequirementResult], requirements: dict[str, Requirement]) -> None:
    for result in results:
        click.echo(f"{result.verdict.value:15} {result.requirement:28} {requirements[result.requirement].sentence}")


def _conclusion(code: int) -> str:
    return {0: "conforms", 1: "does not conform", 2: "the harness failed", 3: "nothing applicable ran"}[code]


def _decisive(results: list[RequirementResult]) -> list[TestOutcome]:
    """The outcomes to explain, each once however many requirements it decided."""
    found: dict[str, TestOutcome] = {}
    for result in results:
        if result.verdict in (Verdict.FAIL, Verdict.ERROR):
            found |= {outcome.test: outcome for outcome in result.outcomes}
    return list(found.values())


def _explain_outcome(outcome: TestOutcome, about: dict[str, Any]) -> None:
    click.echo(f"\n{outcome.verdict.value} {', '.join(outcome.requirements)}  ({outcome.test})")
    click.echo("  " + outcome.reason.replace("\n", "\n  "))
    if outcome.steps:
        click.echo("  The smallest steps that show it:")
        for number, step in enumerate(outcome.steps, 1):
            click.echo(f"  {number:4}. {step}")
    chosen = " ".join(f"--requirement {one}" for one in outcome.requirements)
    limits = f"--seed {about['seed']} --examples {about['examples']}"
    click.echo(f"  again: overlay-conformance run {about['driver']} {chosen} {limits}\n")
