"""``compare``: the same operations on two drivers."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Final

import click

from conformance.cli import options
from conformance.cli.base import interruption_of_verb, main, say, say_error
from conformance.cli.completion import connections
from conformance.cli.consoles import console as new_console
from conformance.cli.progress import Progress
from conformance.harness.events import Compared
from conformance.harness.following import follow
from conformance.lab.scratch import scratch_directory
from conformance.spec.values import as_plain

COMPARISON: Final = 1  # the version of the JSON that compare writes


@main.command()
@click.argument("first", shell_complete=connections)
@click.argument("second", shell_complete=connections)
@click.option(
    "--examples",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Number of generated chains of layers.",
)
@click.option("--seed", type=int, help="Seed of the chains, as printed by an earlier comparison.")
@options.SCRATCH
@click.option("--json", "json_file", type=options.FILE, help="Result file to write (JSON).")
def compare(
    first: str, second: str, examples: int, seed: int | None, scratch: Path | None, json_file: Path | None
) -> None:
    """Run the same operations on the drivers FIRST and SECOND, and report differences (exit status 1)."""
    from conformance.harness.compare import Comparison  # it brings hypothesis, which the other verbs do not need

    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    console = new_console(highlight=False)
    with scratch_directory(scratch) as directory, Progress(console, "comparing") as progress:
        task = Comparison(first, second, str(directory), os.getpid(), examples, seed)
        told = follow("conformance.harness.compare", task, progress, interruption=interruption_of_verb())
    found = told.compared or Compared("", ())
    code = 2 if told.failure else 1 if found.found else 0
    if json_file:
        about = {"version": COMPARISON, "first": first, "second": second, "seed": seed, "examples": examples}
        json_file.write_text(json.dumps({**about, "exit_code": code, **as_plain(found)}, indent=1) + "\n")
    if told.failure:
        say_error(told.complaint)
    elif found.found:
        say(f"{first} and {second} differ: {found.found}\nMinimal example:")
        for number, step in enumerate(found.steps, 1):
            say(f"{number:5}. {step}")
    else:
        say(f"{first} and {second} behaved the same on {examples} chains of layers, seed {seed}")
    sys.exit(code)
