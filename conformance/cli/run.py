"""``run``: its command line. What it does is in conformance.cli.running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from conformance.cli import completion, options
from conformance.cli.base import Budget, main
from conformance.cli.completion import connections
from conformance.cli.grouped import GroupedCommand

EVIDENCE = "overlay-conformance-failures"


@main.command(
    cls=GroupedCommand,
    begin=[
        ("run DRIVER --preflight-only", "Can the driver be judged at all?"),
        ("run DRIVER --profile smoke", "20 tests: is the adapter right?"),
        ("run DRIVER --budget once -x", "Every test once, up to the first failure."),
        ("run DRIVER", "The whole answer, with its conclusion last."),
    ],
    groups={
        "Choice of tests": ("preflight_only", "profile", "ids", "families", "expression", "backings"),
        "Examples and time": ("budget", "examples", "seed", "jobs", "call_timeout"),
        "Failures": ("first_only", "max_failures", "no_shrink", "expectations_file"),
        "Output": ("results_file", "evidence", "no_evidence", "events_to"),
    },
)
@click.argument("driver", shell_complete=connections)
@options.profile("Tests: smoke, quick, standard or release.")
@click.option(
    "--budget",
    type=Budget(),
    metavar="TIME|once",
    help="Time for new examples (10m), or each test once.",
)
@options.CALL_TIMEOUT
@options.jobs("concurrent tests")
@options.backing("Backing filesystem (repeatable; default: host).")
@click.option(
    "--requirement",
    "ids",
    multiple=True,
    metavar="ID",
    shell_complete=completion.requirement_ids,
    help="Only this requirement (repeatable).",
)
@options.FAMILY
@click.option(
    "-k",
    "expression",
    default="",
    metavar="EXPRESSION",
    help="Only tests whose names match, as -k of pytest.",
)
@click.option("-x", "first_only", is_flag=True, help="Stop after the first failure.")
@click.option("--max-failures", type=click.IntRange(1), metavar="N", help="Stop after N failures.")
@click.option("--no-shrink", is_flag=True, help="Do not shrink failing examples: faster, not minimal.")
@click.option(
    "--examples",
    type=click.IntRange(1),
    metavar="N",
    help="Number of examples for each property.",
)
@click.option("--seed", type=int, metavar="N", help="Seed of the examples, as printed by an earlier run.")
@click.option(
    "--expectations",
    "expectations_file",
    type=options.FILE,
    help="File of known failures (docs/known-failures.md).",
)
@options.SCRATCH
@click.option(
    "--results",
    "results_file",
    type=options.FILE,
    help="Result file to write, for 'report' and 'merge'.",
)
@click.option(
    "--evidence",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(EVIDENCE),
    show_default=True,
    help="Directory for reproducers of failures.",
)
@click.option("--no-evidence", is_flag=True, help="Do not write evidence folders.")
@click.option("--preflight-only", is_flag=True, help="Only say whether the driver can be judged.")
@click.option("--events", "events_to", metavar="FD|FILE", help="Write progress events there (JSON lines).")
def run(**given: Any) -> None:
    """Test DRIVER, named by KIND:ARGUMENTS, such as python:refdriver:Driver."""
    # It brings rich, the harness and the reports, which neither the help nor completion needs.
    from conformance.cli.running import run_asked

    run_asked(**given)
