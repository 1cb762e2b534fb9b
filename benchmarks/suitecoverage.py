"""``python -m benchmarks.suitecoverage``: the branches of the reference driver that the suite alone executes.

It runs the suite on the driver, without the project's own tests, and lists the branches that no test executes. What
counts is the driver's core: the modules that importing ``refdriver`` imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click
import coverage

from benchmarks import COVERED
from conformance.selftest.generated.mutants import modules_of

_ROOT: Final = Path(__file__).parents[1]


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True}, add_help_option=True
)
@click.option("--least", type=float, default=0.0, help="Exit with status 1 below this percentage.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(least: float, arguments: tuple[str, ...]) -> None:
    """Measure the branch coverage of the reference driver's core; ARGUMENTS go to 'overlay-conformance run'."""
    with tempfile.TemporaryDirectory(prefix="overlay-conformance-coverage-") as directory:
        connection = f"python:benchmarks.covered:Driver?writable={directory}"
        words = ["run", connection, "--no-evidence", *arguments]
        environment = {**os.environ, COVERED: directory, "PYTHONPATH": str(_ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "conformance", *words], check=False, env=environment, cwd=_ROOT
        )
        if done.returncode:
            raise click.ClickException(f"the run exited with status {done.returncode}")
        core = [str(_ROOT / one.path) for one in modules_of("refdriver:Driver")]
        measured = coverage.Coverage(
            data_file=str(Path(directory) / "data"), branch=True, config_file=False, include=core
        )
        measured.combine([directory], keep=True)
        measured.report(show_missing=True, skip_covered=True)
        figures = Path(directory) / "figures.json"
        measured.json_report(outfile=str(figures))
        totals = json.loads(figures.read_text())["totals"]
    share = 100 * totals["covered_branches"] / totals["num_branches"]
    click.echo(f"lines: {totals['covered_lines']} of {totals['num_statements']} executed")
    click.echo(f"branches: {totals['covered_branches']} of {totals['num_branches']} executed, {share:.1f} %")
    sys.exit(0 if share >= least else 1)


if __name__ == "__main__":
    main()
