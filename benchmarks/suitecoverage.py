"""``python -m benchmarks.suitecoverage``: the branches of the reference driver that the suite alone executes.

It runs the suite on the driver, without the project's own tests, and lists the branches that no test executes, but
for those that ``refdriver/mutants/uncovered.toml`` lists. What counts is the driver's core: the modules that
importing ``refdriver`` imports.

Several runs are combined: as root, as root of a user namespace, on the backing filesystems that the host can make,
through the plugin, and with tests of the profile release that execute more.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import coverage

from benchmarks import COVERED
from benchmarks.branches import Branch, Uncovered, branches_of, listed_in, stale, unexplained
from conformance.selftest.generated.mutants import modules_of

_ROOT: Final = Path(__file__).parents[1]
_LISTED: Final = _ROOT / "refdriver" / "mutants" / "uncovered.toml"
_CONFORMS: Final = 0
_FAILED: Final = 1  # a deviation on an unusual backing filesystem: what was executed counts nevertheless
_FILESYSTEMS: Final = ("ext4", "xfs-noquota", "xfs-noftype", "btrfs", "tmpfs", "overlay")
_CLASS: Final = "benchmarks.covered:Driver"


@dataclass(frozen=True, slots=True)
class _Run:
    """What is before the command and after the arguments, whose last option of a name counts."""

    says: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    plugin: bool = False

    def driver(self, directory: Path) -> str:
        """The connection string of the driver that saves in a directory what it executes."""
        writable = f"writable={directory}"
        if not self.plugin:
            return f"python:{_CLASS}?{writable}"
        serves = f"{sys.executable} -m refdriver serve --driver {_CLASS} --graphdriver {{socket}}"
        return f"graphdriver:?command={serves}&{writable}"


_RUNS: Final[dict[str, _Run]] = {
    "host": _Run("as root"),
    "user-namespace": _Run(
        "as root of a user namespace",
        before=("unshare", "--user", "--map-root-user", "--mount"),
        after=("--examples", "2"),
    ),
    "filesystems": _Run(
        "on other backing filesystems",
        after=(
            *("--profile", "quick", "--examples", "1"),
            *(word for name in _FILESYSTEMS for word in ("--backing", name)),
        ),
    ),
    "failing": _Run(
        "with each system call failing once",
        after=("--family", "failing system calls", "--examples", "1000"),
    ),
    "plugin": _Run("through the plugin", after=("--profile", "smoke", "--examples", "2"), plugin=True),
    "release": _Run(
        "with a test of the profile release",
        after=("--profile", "release", "--examples", "1", "--requirement", "OVL-DIFF-TAR"),
    ),
}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True}, add_help_option=True
)
@click.option("--least", type=float, default=0.0, help="Exit with status 1 below this percentage.")
@click.option(
    "--run",
    "runs",
    multiple=True,
    type=click.Choice(list(_RUNS)),
    help=f"Only this run (repeatable): {', '.join(f'{name} ({one.says})' for name, one in _RUNS.items())}.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what was executed in this directory, and count what earlier runs left there.",
)
@click.option("--lines", is_flag=True, help="List the lines that no test executes, too.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(least: float, runs: tuple[str, ...], data: Path | None, lines: bool, arguments: tuple[str, ...]) -> None:
    """Measure the branch coverage of the reference driver's core; ARGUMENTS go to 'overlay-conformance run'.

    The percentage is that of the branches that are not listed in refdriver/mutants/uncovered.toml.
    """
    with contextlib.ExitStack() as kept:
        if data is None:
            data = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="overlay-conformance-coverage-")))
        data.mkdir(parents=True, exist_ok=True)
        for name in runs or tuple(_RUNS):
            _run(name, data.resolve(), arguments)
        branches = _measured(data, lines)
    sys.exit(_report(branches, listed_in(_LISTED), least))


def _run(name: str, directory: Path, arguments: Sequence[str]) -> None:
    """Run the suite once, with what is executed saved in a directory; raises ClickException if it cannot run."""
    one = _RUNS[name]
    words = [*one.before, sys.executable, "-m", "conformance", "run", one.driver(directory), "--no-evidence"]
    words += [*arguments, *one.after]
    environment = {**os.environ, COVERED: str(directory), "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(words, check=False, env=environment, cwd=_ROOT)
    if done.returncode not in ((_CONFORMS,) if name == "host" else (_CONFORMS, _FAILED)):
        raise click.ClickException(f"the run {name!r} exited with status {done.returncode}")


def _measured(directory: Path, lines: bool) -> list[Branch]:
    """All branches of the core, from what was saved; prints coverage.py's table."""
    modules = modules_of("refdriver:Driver")
    core = [str(_ROOT / one.path) for one in modules]
    measured = coverage.Coverage(data_file=str(directory / "data"), branch=True, config_file=False, include=core)
    measured.combine([str(directory)], keep=True)
    measured.report(show_missing=lines, skip_covered=True)
    figures = directory / "figures.json"
    measured.json_report(outfile=str(figures))
    report = json.loads(figures.read_text())
    totals = report["totals"]
    click.echo(f"lines: {totals['covered_lines']} of {totals['num_statements']} executed")
    found: list[Branch] = []
    files = {os.path.realpath(_ROOT / name): one for name, one in report["files"].items()}
    for module in modules:
        one = files.get(os.path.realpath(_ROOT / module.path))
        if one:
            found += branches_of(module.name, module.source, one["executed_branches"], one["missing_branches"])
    return found


def _report(branches: Sequence[Branch], entries: Sequence[Uncovered], least: float) -> int:
    """Print what is not executed; the exit status."""
    executed = sum(one.executed for one in branches)
    missed = unexplained(entries, branches)
    for branch in missed:
        click.echo(f"not executed: {branch}")
    # A branch counts for the first entry that is of it.
    kinds = Counter(
        next(entry.kind for entry in entries if entry.lists(one))
        for one in branches
        if not one.executed and any(entry.lists(one) for entry in entries)
    )
    old = stale(entries, branches)
    for entry in old:
        click.echo(f"stale: {entry.module} {entry.function or '-'}: {entry.line} -> {entry.target or 'any'}")
    for entry in entries:
        if entry not in old and all(one.executed for one in branches if entry.lists(one)):
            click.echo(
                f"listed, but executed: {entry.module} {entry.function}: {entry.line} -> {entry.target or 'any'}"
            )
    share = 100 * executed / (executed + len(missed))
    said = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "none"
    click.echo(f"branches: {executed} of {len(branches)} executed, {100 * executed / len(branches):.1f} %")
    click.echo(f"listed as not executable here: {kinds.total()} ({said})")
    click.echo(f"branches that are not listed: {executed} of {executed + len(missed)} executed, {share:.1f} %")
    return 0 if share >= least and not old else 1


if __name__ == "__main__":
    main()
