"""``overlay-conformance matrix``: the suite on many kernels and filesystems."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from conformance.cli.base import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.report.records import Part
    from vm.matrix import Matrix
    from vm.plan import Cell, Choice
    from vm.runner import Done

_OUTPUT: Final = "overlay-conformance-matrix"
_ADVICE: Final = "pip install 'overlay-conformance[vm]'"
_LOCKS: Final = "/run/lock"
_LOCK: Final = "overlay-conformance-matrix.lock"
_INTERRUPTED: Final = 130
_OTHERS: Final = ("backings", "overlays", "drivers")
_OVERHEAD: Final = 300  # MiB that a machine takes above its own memory
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group(short_help="Judge drivers on many kernels and filesystems, in virtual machines.")
def matrix() -> None:
    """Judge drivers on many kernels and backing filesystems, in virtual machines (docs/matrix.md)."""


def _choosing(command: _F) -> _F:
    """The options that choose cells."""
    for name, what in (
        ("driver", "drivers"),
        ("overlay", "parameters of overlay"),
        ("backing", "backing filesystems"),
        ("kernel", "kernels, by name or release, such as '6.*'"),
    ):
        command = click.option(f"--{name}", f"{name}s", multiple=True, help=f"Only these {what} (repeatable).")(
            command
        )
    command = click.option(
        "--provider", type=click.Choice(["libvirt", "uml"]), help="Instead of the matrix's: what makes machines."
    )(command)
    return click.option(
        "--file",
        "matrix_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Another matrix than the project's.",
    )(command)


@matrix.command("list")
@_choosing
def list_cells(matrix_file: Path | None, provider: str | None, **choice: tuple[str, ...]) -> None:
    """List the cells: what is judged where."""
    with _refusals():
        _, cells = _cells(matrix_file, provider, choice)
        for cell in cells:
            click.echo(f"{cell.name:44} {len(cell.requirements):4} requirements")


@matrix.command()
@_choosing
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "github", "gitlab"]),
    default="json",
    show_default=True,
    help="Of our own, or as a CI system reads it.",
)
def plan(matrix_file: Path | None, provider: str | None, form: str, **choice: tuple[str, ...]) -> None:
    """Write the cells for a CI system: one job for each kernel."""
    with _refusals():
        from vm import plan as plans

        _, cells = _cells(matrix_file, provider, choice)
        chosen = _choice(choice)
        write = {"json": plans.as_json, "github": plans.as_github, "gitlab": plans.as_gitlab}[form]
        click.echo(write(cells, chosen, provider or ""))


@matrix.command("build", short_help="Make the box and the kernels of the cells.")
@_choosing
def build_command(matrix_file: Path | None, provider: str | None, **choice: tuple[str, ...]) -> None:
    """Make the box and the kernels of the cells, as far as they are not in the cache."""
    with _refusals():
        from vm import build

        wanted, cells = _cells(matrix_file, provider, choice)
        chosen = {cell.kernel.name for cell in cells}
        began = time.monotonic()
        cache = build.cache_directory()
        _alone(cache)
        made = build.build(wanted, [one for one in wanted.kernels if one.name in chosen], cache, _say)
        click.echo(f"{made.box}, {len(chosen)} kernels, {made.accelerator}: {time.monotonic() - began:.0f} s")


@matrix.command(short_help="Run the cells, and join what they found.")
@_choosing
@click.option("--profile", type=click.Choice(["smoke", "standard", "release"]), help="Instead of the matrix's.")
@click.option("--examples", type=click.IntRange(1), help="Examples for each property, instead of the matrix's.")
@click.option("--budget", type=Duration(), help="Time for each cell, such as 60s or 3m, instead of the matrix's.")
@click.option("--machines", type=click.IntRange(1), help="How many at a time, instead of what there is room for.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(_OUTPUT),
    show_default=True,
    help="Where results go; what is there already is not run again.",
)
@click.option(
    "--shard", default="", metavar="KERNEL", help="Of what is chosen, the job of 'matrix plan' of that name."
)
@click.option("--again", is_flag=True, help="Run also what has a result.")
def run(
    matrix_file: Path | None,
    provider: str | None,
    profile: str | None,
    examples: int | None,
    budget: float | None,
    machines: int | None,
    output: Path,
    shard: str,
    again: bool,
    **choice: tuple[str, ...],
) -> None:
    """Run the cells, and write results.jsonl of all; exit codes as those of 'overlay-conformance run'."""
    with _refusals():
        from conformance.report.records import digest_of
        from conformance.spec import load_requirements
        from vm import build, hosts, runner
        from vm.machines import Place
        from vm.timings import Timings

        wanted, cells = _cells(matrix_file, provider, choice, shard)
        hosts.check(wanted.defaults.provider)
        chosen = {cell.kernel.name for cell in cells}
        cache = build.cache_directory()
        _alone(cache)
        made = build.build(wanted, [one for one in wanted.kernels if one.name in chosen], cache, _say)
        output = output.absolute()
        asked = runner.Asked(
            profile or wanted.defaults.profile,
            examples or wanted.defaults.examples,
            budget or float(wanted.defaults.budget),
            output,
            digest_of(load_requirements()),
            importlib.metadata.version("overlay-conformance"),
            {name: files["release"] for name, files in made.kernels.items()},
            {
                name: f"{files['release']} {files.get('version', '')}".strip()
                for name, files in made.kernels.items()
            },
            Timings(output / "timings.json"),
        )
        todo = cells if again else runner.left_to_do(cells, asked)
        if len(todo) < len(cells):
            _say(f"{len(cells) - len(todo)} cells have a result already")
        place = Place(cache, output / "consoles", wanted.defaults.provider)
        with _daemon(place.provider), _Table(len(todo)) as table:
            room = machines or _room(wanted.defaults.memory)
            runner.run_all(todo, asked, place, room, table.tell, table.ended)
        sys.exit(_collect([runner.results_of(cell, asked) for cell in cells], output))


@matrix.command(short_help="Join what the cells of a run have left.")
@click.argument("output", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(_OUTPUT))
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Put the table into this page as well, between its markers or at its end.",
)
def collect(output: Path, markdown: Path | None) -> None:
    """Join what cells in OUTPUT have left to results.jsonl, page.html and table.md; of an ended run, too."""
    with _refusals():
        files = sorted((output / "cells").glob("*/results.jsonl"))
        if not files:
            raise click.UsageError(f"no cell in {output} has a result; 'overlay-conformance matrix run' makes them")
        sys.exit(_collect(files, output, markdown))


@matrix.command("selftest", short_help="Try faulty drivers that take what this host lacks, in a machine.")
@click.option("--kernel", "kernels", default="6.1", show_default=True, help="Of the machine, by name or release.")
@click.option(
    "--provider", type=click.Choice(["libvirt", "uml"]), help="Instead of the matrix's: what makes machines."
)
@click.option("--fault", "names", multiple=True, metavar="NAME", help="Only this (repeatable).")
@click.option(
    "--untried",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Those that could not be tried by this file of 'selftest --results', in its profile and with its seeds.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the examples.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many, from --seed on.")
@click.option("--budget", type=Duration(), default="10m", show_default=True, help="Time for each trial.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(_OUTPUT),
    show_default=True,
    help="Where results go.",
)
def selftest_command(
    kernels: str,
    provider: str | None,
    names: tuple[str, ...],
    untried: Path | None,
    seed: int,
    seeds: int,
    budget: float,
    output: Path,
) -> None:
    """Try the faulty drivers that take xfs with quota or the device mapper in a machine that has both.

    Writes kills.jsonl and kills.md in the output; with --untried they are of that file's faults too.
    """
    with _refusals():
        from conformance.report import killfile
        from conformance.report.killtable import kill_table
        from vm import build, selftest
        from vm.machines import Place

        wanted, cells = _cells(None, provider, {"kernels": (kernels,), **dict.fromkeys(_OTHERS, ())})
        (kernel,) = {cell.kernel.name: cell.kernel for cell in cells}.values()
        profile = "standard"
        if untried:
            missing, profile, seed, seeds = selftest.untried_in(untried)
            names = names or missing
        cache = build.cache_directory()
        _alone(cache)
        build.build(wanted, [kernel], cache, _say)
        output = output.absolute()
        asked = selftest.Asked(names, profile, seed, seeds, budget, output)
        with _daemon(wanted.defaults.provider):
            place = Place(cache, output / "consoles", wanted.defaults.provider)
            file = selftest.run(kernel.name, asked, place, _say)
        found = [(str(one), killfile.read(one)) for one in (untried, file) if one]
        report = killfile.joined(found)
        killfile.write(output / "kills.jsonl", report)
        (output / "kills.md").write_text(kill_table(report))
        click.echo((output / f"selftest-{kernel.name}.log").read_text(), nl=False)
        click.echo(f"kills.jsonl and kills.md written in {output}")
        sys.exit(report.exit_code)


@matrix.command(short_help="Remove what a killed run left.")
@click.option("--all", "everything", is_flag=True, help="Also the box and the kernels.")
def clean(everything: bool) -> None:
    """Remove the machines, volumes and processes that a killed run left."""
    from vm import build, cleaning

    with _refusals():
        cache = build.cache_directory()
        _alone(cache)
        for what in cleaning.clean(cache, everything=everything):
            click.echo(f"removed {what}")


@contextmanager
def _daemon(provider: str) -> Iterator[None]:
    """Afterwards our network is gone, and libvirt's daemon if it was started by us."""
    from vm import hosts

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as CI systems end a job
    try:
        yield
    finally:
        if provider != "uml":
            hosts.remove_network()
            hosts.stop_libvirt()


class _Table:
    """A line for each cell that ended; below them on a terminal, what each machine is doing."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._number = 0
        self._console = Console(highlight=False, soft_wrap=True)
        self._doing: dict[str, tuple[str, str, float]] = {}
        self._live = Live(get_renderable=self._now, console=self._console, transient=True, refresh_per_second=2)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, cell: str, what: str) -> None:
        """What is happening to a cell; "" when its machine is gone."""
        machine = cell.partition(".")[0]
        if what:
            self._doing[machine] = (cell, what, time.monotonic())
        else:
            self._doing.pop(machine, None)

    def _now(self) -> Text:
        lines = (
            f"  {cell:44} {time.monotonic() - since:5.0f} s  {what}"
            for cell, what, since in list(self._doing.values())
        )
        return Text("\n".join(lines))

    def ended(self, done: Done) -> None:
        """One more."""
        self._number += 1
        said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(done.verdicts.items()))
        style = "red" if done.lost or {"FAIL", "ERROR", "XPASS"} & done.verdicts.keys() else "green"
        self._console.print(
            f"[{self._number}/{self._total}] {done.cell.name:44} {done.seconds:5.0f} s  {done.lost or said}",
            style=style if self._console.is_terminal else None,
            markup=False,
        )


def _cells(
    matrix_file: Path | None, provider: str | None, choice: dict[str, tuple[str, ...]], shard: str = ""
) -> tuple[Matrix, list[Cell]]:
    from conformance.spec import load_requirements
    from vm.matrix import FILE, load
    from vm.plan import cells_of

    found = load(matrix_file or FILE).under(provider or "")
    return found, cells_of(found, _choice(choice, shard), load_requirements())


def _choice(words: dict[str, tuple[str, ...]], shard: str = "") -> Choice:
    from vm.plan import Choice

    return Choice(words["kernels"], words["backings"], words["overlays"], words["drivers"], shard)


def _collect(files: list[Path], output: Path, markdown: Path | None = None) -> int:
    """Write the joined results, their page and their table; the exit code of all cells together."""
    from conformance.report import records
    from conformance.report.matrix import matrix_of
    from conformance.report.page import page
    from conformance.spec import load_requirements
    from vm import table, timings
    from vm.lost import recognised

    found = {str(file): _moved(records.read(file), file.parent, output) for file in files if file.exists()}
    parts = records.merge(list(zip(found, recognised(list(found.values())), strict=True)))
    records.write(output / "results.jsonl", parts)
    folders = {outcome.evidence for part in parts for outcome in part.outcomes if outcome.evidence}
    scripts = {one: output / one / "repro.sh" for one in folders}
    texts = {one: path.read_text(errors="replace") for one, path in scripts.items() if path.is_file()}
    matrix = matrix_of(parts, load_requirements())
    (output / "page.html").write_text(page(matrix, texts))
    made = table.as_markdown(matrix, timings.read(output / "timings.json"))
    (output / "table.md").write_text(made)
    click.echo(f"results.jsonl, page.html and table.md written in {output}")
    if markdown:
        markdown.write_text(table.between_markers(markdown.read_text() if markdown.exists() else "", made))
        click.echo(f"{markdown} written")
    codes = {part.exit_code for part in parts}
    return next((code for code in (2, 1, 0) if code in codes), 3)


def _moved(parts: list[Part], folder: Path, output: Path) -> list[Part]:
    """The same with paths of evidence that are relative to the joined file."""
    below = folder.relative_to(output)
    return [
        replace(
            part,
            outcomes=tuple(
                replace(one, evidence=str(below / one.evidence)) if one.evidence else one for one in part.outcomes
            ),
        )
        for part in parts
    ]


def _alone(cache: Path) -> None:
    """See to it that no other run is under way on this host, until this process ends; raises UsageError.

    Names of machines are the same whatever the cache, so two runs would take one another's.
    """
    cache.mkdir(parents=True, exist_ok=True)
    shared = Path(_LOCKS if os.access(_LOCKS, os.W_OK) else tempfile.gettempdir())
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    # Not made where it is: in a directory of everybody's, another user's file must not be opened so (proc(5)).
    there = (shared / _LOCK).exists()
    lock = os.open(shared / _LOCK, flags if there else flags | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise click.UsageError(
            f"another 'matrix' is under way on this host ({shared / _LOCK}); wait for it, or end it"
        ) from error


def _room(memory: int) -> int:
    """How many machines this host has room for: one for each core, as far as memory goes."""
    available = next(
        int(line.split()[1]) // 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    return max(1, min(os.cpu_count() or 1, available // (memory + _OVERHEAD)))


def _say(what: str) -> None:
    click.echo(f"matrix: {what}", err=True)


@contextmanager
def _refusals() -> Iterator[None]:
    """What is wrong with the matrix, the choice or the host, as a message and exit code 2."""
    try:
        from conformance.report.killfile import BadKills
        from conformance.report.records import BadResults
        from vm.debian import NoPackage
        from vm.hosts import NotReady
        from vm.machines import MachineFailed
        from vm.matrix import BadMatrix
        from vm.plan import NothingChosen
    except ImportError as error:
        raise click.UsageError(f"matrix needs more Python packages ({error}): {_ADVICE}") from error
    try:
        yield
    except (BadKills, BadResults, BadMatrix, NothingChosen, NotReady, NoPackage, MachineFailed, OSError) as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        _say("ended; the same command goes on where this one stopped")
        sys.exit(_INTERRUPTED)
