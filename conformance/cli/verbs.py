"""The verbs of the command."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from conformance.cli.following import Followed, follow
from conformance.cli.summary import print_summary
from conformance.compare import Comparison
from conformance.lab.backing import BACKINGS, HOST
from conformance.lab.namespace import filesystem_magic
from conformance.lab.scratch import scratch_directory
from conformance.plugin import EXAMPLES
from conformance.pytest_entry import PROFILES
from conformance.results import RequirementResult, TestOutcome, Verdict, exit_code, judge
from conformance.spec import Requirement, load_capabilities, load_requirements
from conformance.spec.specification import as_markdown
from conformance.workbench import Leak
from conformance.worker import Task

JSON_VERSION: Final = 2
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in some versions of click
    """Seconds from ``90s``, ``10m``, ``2h`` or ``1h30m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """Read the words of a command line."""
        parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", str(value))
        if "".join(number + unit for number, unit in parts) != value or not parts:
            self.fail(f"{value!r} is no duration; write 90s, 10m or 1h30m", param, context)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="overlay-conformance", prog_name="overlay-conformance")
def main() -> None:
    """Judge container-storage overlay drivers by what they do."""


@main.command()
@click.argument("driver")
@click.option(
    "--profile", type=click.Choice(PROFILES), default="standard", show_default=True, help="How much to try."
)
@click.option("--budget", type=Duration(), help="Go on with new examples until this time is spent, such as 10m.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Tests at a time.")
@click.option(
    "--backing",
    "backings",
    multiple=True,
    type=click.Choice([HOST, *(one.name for one in BACKINGS), "all"]),
    help="Filesystem under the stores (repeatable): made for the run, but for 'host'.",
)
@click.option("--requirement", "ids", multiple=True, metavar="ID", help="Only this requirement (repeatable).")
@click.option("--family", "families", multiple=True, help="Only this family of requirements (repeatable).")
@click.option("--examples", type=click.IntRange(1), help="Examples for each property, instead of the profile's.")
@click.option("--seed", type=int, help="Repeat the examples of a run that printed this seed.")
@click.option(
    "--scratch", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where to make stores."
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the results there."
)
def run(
    driver: str,
    profile: str,
    budget: float | None,
    jobs: int,
    backings: tuple[str, ...],
    ids: tuple[str, ...],
    families: tuple[str, ...],
    examples: int | None,
    seed: int | None,
    scratch: Path | None,
    json_file: Path | None,
) -> None:
    """Judge DRIVER, named by KIND:ARGUMENTS (see 'overlay-conformance adapters')."""
    requirements = _selected(ids, families)
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    examples = examples or EXAMPLES[profile]
    _check_jobs(jobs)
    console = Console(highlight=False)
    with scratch_directory(scratch) as directory, console.status("opening the driver") as status:
        magic = f"{filesystem_magic(directory):#x}"
        task = Task(
            driver,
            str(directory),
            os.getpid(),
            tuple(requirements),
            profile,
            examples,
            seed,
            backings,
            jobs,
            budget or 0.0,
        )
        told = follow("conformance.worker", asdict(task), status.update)
    if told.failure:
        click.echo(f"overlay-conformance: the harness failed: {told.failure}", err=True)
    results = _judged(requirements, told.outcomes, profile)
    code = 2 if told.failure else exit_code(results)
    about = {
        "driver": driver,
        "kernel": platform.release(),
        "backing_magic": magic,
        "profile": profile,
        "seed": seed,
        "examples": examples,
        "jobs": jobs,
        **told.opened,
        "capabilities": _capabilities(told),
    }
    if json_file:
        json_file.write_text(json.dumps(_as_json(about, results, told.outcomes, code), indent=1) + "\n")
    print_summary(console, about, results, told.outcomes, load_requirements(), code)
    sys.exit(code)


@main.command()
@click.argument("first")
@click.argument("second")
@click.option("--examples", type=click.IntRange(1), default=50, show_default=True, help="Chains of layers to try.")
@click.option("--seed", type=int, help="Repeat the chains of a comparison that printed this seed.")
@click.option(
    "--scratch", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where to make stores."
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the result there."
)
def compare(
    first: str, second: str, examples: int, seed: int | None, scratch: Path | None, json_file: Path | None
) -> None:
    """Do the same on the drivers FIRST and SECOND, and explain where they differ (exit code 1)."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    console = Console(highlight=False)
    with scratch_directory(scratch) as directory, console.status("comparing"):
        task = Comparison(first, second, str(directory), os.getpid(), examples, seed)
        told = follow("conformance.compare", asdict(task), lambda _: None)
    found = told.events[0] if told.events else {"found": "", "steps": []}
    code = 2 if told.failure else 1 if found["found"] else 0
    if json_file:
        about = {"version": JSON_VERSION, "first": first, "second": second, "seed": seed, "examples": examples}
        json_file.write_text(json.dumps({**about, "exit_code": code, **found}, indent=1) + "\n")
    if told.failure:
        click.echo(f"overlay-conformance: the harness failed: {told.failure}", err=True)
    elif found["found"]:
        click.echo(f"{first} and {second} differ: {found['found']}\nThe smallest steps that show it:")
        for number, step in enumerate(found["steps"], 1):
            click.echo(f"{number:5}. {step}")
    else:
        click.echo(f"{first} and {second} did the same on {examples} chains of layers, seed {seed}")
    sys.exit(code)


@main.command("list")
def list_requirements() -> None:
    """List every requirement."""
    for requirement in load_requirements().values():
        click.echo(f"{requirement.id:32} {requirement.level:7} {requirement.family:22} {requirement.sentence}")


@main.command()
@click.argument("requirement_id", metavar="ID")
def explain(requirement_id: str) -> None:
    """Say what a requirement asks for, and where it comes from."""
    requirement = load_requirements().get(requirement_id.upper())
    if requirement is None:
        raise click.UsageError(f"no requirement {requirement_id}; 'overlay-conformance list' shows them all")
    capabilities = load_capabilities()
    click.echo(f"{requirement.id} ({requirement.level}, family {requirement.family}, since {requirement.since})")
    click.echo(f"  {requirement.sentence}")
    click.echo(f"  source: {requirement.source}")
    click.echo(f"  privileges: {'real root' if requirement.privileges == 'root' else 'a user namespace'}")
    for need in requirement.needs:
        click.echo(f"  needs {need}: {capabilities[need].meaning}")
    if requirement.kernel:
        click.echo(f"  kernel: {requirement.kernel} or later")
    if requirement.backing:
        click.echo(f"  judged on: {', '.join(requirement.backing)}")


@main.command()
def specification() -> None:
    """Print the whole specification as Markdown."""
    click.echo(as_markdown(), nl=False)


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


def _judged(
    requirements: dict[str, Requirement], outcomes: list[TestOutcome], profile: str
) -> list[RequirementResult]:
    # A leak is found by any test, and is judged whatever was selected.
    leaked = any(outcome.requirements == (Leak.requirement,) for outcome in outcomes)
    wanted = dict.fromkeys([*requirements, *((Leak.requirement,) if leaked else ())])
    results = judge(wanted, outcomes)
    if profile == "smoke":  # a choice of tests, so what they leave out is not a finding
        results = [result for result in results if result.verdict is not Verdict.UNTESTED]
    return results


def _capabilities(told: Followed) -> list[dict[str, str]]:
    """Each capability in three columns, declared, probed and effective, with the reason."""
    declined, lacking = told.opened.get("declined", {}), told.opened.get("lacking", {})
    probed = _probed(told.outcomes)
    rows = []
    for capability in load_capabilities().values():
        name = capability.name
        if capability.of == "host":
            found = "no" if name in lacking else "yes"
            row = {"declared": "-", "probed": found, "effective": found, "reason": lacking.get(name, "")}
        else:
            worked, reason = probed.get(name, ("not probed", ""))
            declared = "no" if name in declined else "yes"
            # What is claimed and does not work is held against the driver, so it stays in effect.
            row = {
                "declared": declared,
                "probed": worked,
                "effective": "no" if declared == "no" else "broken" if worked == "no" else "yes",
                "reason": declined.get(name, "") or reason,
            }
        rows.append({"name": name, "of": capability.of, **row})
    return rows


def _probed(outcomes: Sequence[TestOutcome]) -> dict[str, tuple[str, str]]:
    """What the tests called test_claim[CAPABILITY-...] found out."""
    found: dict[str, tuple[str, str]] = {}
    for outcome in outcomes:
        match = re.match(r"test_claim\[(?:.*-)?@([a-z0-9-]+)@", outcome.test)
        if match and outcome.verdict in (Verdict.PASS, Verdict.FAIL):
            found.setdefault(match[1], ("yes" if outcome.verdict is Verdict.PASS else "no", outcome.reason))
    return found


def _as_json(
    about: dict[str, Any], results: list[RequirementResult], outcomes: list[TestOutcome], code: int
) -> dict[str, Any]:
    return {
        "version": JSON_VERSION,
        **about,
        "exit_code": code,
        "results": [
            {
                "requirement": result.requirement,
                "verdict": result.verdict.value,
                "tests": [one.as_json() for one in result.outcomes],
            }
            for result in results
        ],
        "outcomes": [one.as_json() for one in outcomes],
    }
