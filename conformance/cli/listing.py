"""``list`` and ``explain``: the requirements, what would judge a driver on this host, and what judges each."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from conformance.cli import completion, options
from conformance.cli.base import interruption_of_verb, main, say, say_error
from conformance.cli.choosing import Named, capabilities_named, requirement_named, selected
from conformance.spec import (
    LEVELS,
    Capability,
    Requirement,
    conventions,
    is_core,
    load_capabilities,
)
from conformance.spec.profiles import EXAMPLES
from conformance.spec.specification import VARIES_SAID, VIOLATED
from conformance.spec.verdicts import Verdict, judge

FORMAT: Final = 1  # of the JSON that list writes
_INDEX: Final = Path(__file__).parents[1] / "selftest" / "about.json"
_MUTANTS: Final = "overlay_conformance.mutants"
_EXPLAINED: Final = 60  # seconds for the process that imports tests and mutants


@dataclass(frozen=True, slots=True)
class Standing:
    """What a run would do about a requirement: ``tests`` is how many would run, ``why`` is why none would."""

    tests: int
    why: str = ""


@main.command("list")
@options.FAMILY
@click.option("--level", type=Named(LEVELS, case_sensitive=False), help="Only this level.")
@click.option("--core", is_flag=True, help="Only what every driver must meet to be called conformant.")
@click.option(
    "--capability",
    "needs",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.capabilities,
    help="Only requirements that need this capability (repeatable).",
)
@click.option(
    "--for",
    "driver",
    metavar="DRIVER",
    shell_complete=completion.connections,
    help="Say what would run for this driver on this host, and why the rest would not.",
)
@options.profile("Profile of --for.")
@options.backing("Backing filesystem of --for (repeatable).")
@options.as_json()
def list_requirements(
    families: tuple[str, ...],
    level: str | None,
    core: bool,
    needs: tuple[str, ...],
    driver: str | None,
    profile: str,
    backings: tuple[str, ...],
    as_json: bool,
) -> None:
    """List requirements: all, those of a filter, or what would run for a driver."""
    capabilities, wanted = load_capabilities(), capabilities_named(needs)
    chosen = {
        one.id: one
        for one in selected((), families).values()
        if (level is None or one.level == level)
        and (not core or is_core(one, capabilities))
        and (not wanted or wanted & set(one.needs))
    }
    standings = _standings(chosen, driver, profile, backings) if driver and chosen else {}
    if as_json:
        of_driver = {"driver": driver, "profile": profile} if driver else {}
        found = [_plain(one, capabilities, standings.get(one.id)) for one in chosen.values()]
        click.echo(json.dumps({"format": FORMAT, **of_driver, "requirements": found}, indent=1))
        return
    for one in chosen.values():
        standing = standings.get(one.id)
        said = one.sentence if standing is None else standing.why or _counted(standing.tests)
        say(f"{one.id:32} {one.level:7} {one.family:22} {said}")
    if driver:
        run = sum(not one.why for one in standings.values())
        say(f"{run} of {len(chosen)} requirements would be tested on this host, profile {profile}")
    elif not chosen:
        say_error("no requirement has all of these properties")


def _counted(tests: int) -> str:
    return "1 test" if tests == 1 else f"{tests} tests"


def _plain(one: Requirement, capabilities: Mapping[str, Capability], standing: Standing | None) -> dict[str, Any]:
    said = {
        "id": one.id,
        "level": one.level,
        "family": one.family,
        "sentence": one.sentence,
        "consequence": one.consequence,
        "core": is_core(one, capabilities),
        "needs": list(one.needs),
        "privileges": one.privileges,
        "kernel": one.kernel,
        "backing": list(one.backing),
        "varies": list(one.varies),
        "since": one.since,
        "source": [reference.address for reference in one.source],
    }
    return said | ({"tests": standing.tests, "why_not": standing.why} if standing else {})


def _standings(
    chosen: Mapping[str, Requirement], driver: str, profile: str, backings: tuple[str, ...]
) -> dict[str, Standing]:
    """Let a worker collect the tests of a run, and skip each; the driver is connected and not opened."""
    from conformance.cli.consoles import console
    from conformance.cli.progress import Progress
    from conformance.harness import controller
    from conformance.harness.task import Task
    from conformance.lab.scratch import scratch_directory

    with scratch_directory(None) as directory, Progress(console(stderr=True), "collecting tests") as progress:
        task = Task(
            driver,
            str(directory),
            os.getpid(),
            tuple(chosen),
            profile,
            EXAMPLES[profile],
            0,
            backings,
            preflight=False,
            survey=True,
        )
        judged = controller.judge(task, progress, interruption_of_verb())
    if judged.told.failure:
        say_error(judged.told.complaint)
        sys.exit(2)
    found = {}
    for result in judge(chosen, judged.outcomes):
        tests = len({(one.test, one.backing) for one in result.outcomes})
        if not result.outcomes:
            found[result.requirement] = Standing(0, f"no test in profile {profile}")
        elif result.verdict in (Verdict.DECLINED, Verdict.NOT_APPLICABLE):
            reason = result.outcomes[0].reason.removeprefix("declined: ").removeprefix("not applicable: ")
            found[result.requirement] = Standing(0, f"{result.verdict.value}: {reason}")
        else:
            found[result.requirement] = Standing(tests)
    return found


@main.command()
@click.argument("requirement_id", metavar="ID", shell_complete=completion.requirement_ids)
@click.option("--driver", metavar="DRIVER", default="DRIVER", help="Driver to name in the command that runs it.")
def explain(requirement_id: str, driver: str) -> None:
    """Show a requirement: its source and needs, its tests, how to run it alone, and which mutants break it."""
    requirement = requirement_named(requirement_id)
    capabilities = load_capabilities()
    core = ", core" if is_core(requirement, capabilities) else ""
    click.echo(
        f"{requirement.id} ({requirement.level}{core}, family {requirement.family}, since {requirement.since})"
    )
    click.echo(f"  {requirement.sentence}")
    click.echo(f"  {VIOLATED}: {requirement.consequence}")
    for reference in requirement.source:
        click.echo(f"  source: {reference.address}{f' ({reference.note})' if reference.note else ''}")
    if found := conventions(requirement, capabilities):
        click.echo(f"  a convention of {' and '.join(found)}: a driver of another family declines what it needs")
    click.echo(f"  privileges: {'real root' if requirement.privileges == 'root' else 'a user namespace'}")
    varies = ", ".join(VARIES_SAID[one] for one in requirement.varies)
    click.echo(f"  varies with: {varies or 'the driver only'}")
    for need in requirement.needs:
        click.echo(f"  needs {need}: {capabilities[need].meaning}")
    if requirement.kernel:
        click.echo(f"  kernel: {requirement.kernel} or later")
    if requirement.backing:
        click.echo(f"  tested on: {', '.join(requirement.backing)}")
    _explain_tests(requirement, driver)


def _explain_tests(requirement: Requirement, driver: str) -> None:
    found = about(requirement)
    for one in found["tests"]:
        profile = "" if one["profile"] == "standard" else f", from profile {one['profile']} on"
        profile = ", profile release only" if one["profile"] == "release" else profile
        click.echo(f"  test: {one['name']} (conformance/suites/{one['file']}{profile})")
    for one in found["mutants"]:
        click.echo(f"  broken by the mutant {one['name']}: {one['sentence']}")
    for title, line in commands(requirement, driver, found["tests"]):
        click.echo(f"  {title}: {line}")


def about(requirement: Requirement) -> Mapping[str, Any]:
    """The tests and mutants of a requirement, from the index, or from a process if other packages have some.

    The index is read as a file, because the packages of tests and mutants bring pytest and hypothesis.
    """
    from importlib.metadata import entry_points  # it brings the email package, which most verbs do not need

    said = json.loads(_INDEX.read_text(encoding="utf-8"))
    if {one.value for one in entry_points(group=_MUTANTS)} <= {*said["packages"]}:
        of_index: Mapping[str, Any] = said["requirements"][requirement.id]
        return of_index
    command = [sys.executable, "-m", "conformance.selftest.about", requirement.id]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_EXPLAINED)
    if done.returncode:
        say_error(f"the tests and mutants cannot be listed:\n{done.stderr}")
        sys.exit(2)
    of_process: Mapping[str, Any] = json.loads(done.stdout)[requirement.id]
    return of_process


def commands(requirement: Requirement, driver: str, tests: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """What each command does that runs the requirement, and the command."""
    sudo = "sudo " if requirement.privileges == "root" else ""
    words = ["overlay-conformance", "run", driver, "--requirement", requirement.id]
    if tests and all(one["profile"] == "release" for one in tests):
        words += ["--profile", "release"]
    if requirement.backing:
        words += ["--backing", requirement.backing[0]]
    said = [("run it alone", sudo + shlex.join(words))]
    if len(tests) > 1:
        said.append(("run one test", sudo + shlex.join([*words, "-k", tests[0]["name"]])))
    return said
