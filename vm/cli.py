"""``overlay-conformance matrix``: the suite on many kernels and filesystems."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click
from rich.live import Live
from rich.text import Text

from conformance.cli.base import Duration
from conformance.cli.choosing import Named
from conformance.cli.consoles import console
from conformance.spec.profiles import PROFILES
from vm.collecting import collect, join, publish_command, status
from vm.common import OUTPUT, alone, choice_of, choosing, chosen_cells, daemon, refusals, room, say
from vm.mutants import selftest_command

if TYPE_CHECKING:
    from vm.runner import Done


@click.group(short_help="Test drivers on many kernels and filesystems, in virtual machines.")
def matrix() -> None:
    """Test drivers on many kernels and backing filesystems, in virtual machines (docs/matrix.md)."""


for _command in (selftest_command, status, collect, publish_command):
    matrix.add_command(_command)


@matrix.command("list")
@choosing
def list_cells(matrix_file: Path | None, provider: str | None, **choice: tuple[str, ...]) -> None:
    """List the cells of the matrix with their number of requirements."""
    with refusals():
        _, cells = chosen_cells(matrix_file, provider, choice)
        for cell in cells:
            click.echo(f"{cell.name:44} {len(cell.requirements):4} requirements")


@matrix.command()
@choosing
@click.option(
    "--format",
    "form",
    type=Named(["json", "github", "gitlab"]),
    default="json",
    show_default=True,
    help="Output format: plain JSON, or for a CI system.",
)
def plan(matrix_file: Path | None, provider: str | None, form: str, **choice: tuple[str, ...]) -> None:
    """Write the cells for a CI system: one job for each kernel."""
    with refusals():
        from vm import plan as plans

        _, cells = chosen_cells(matrix_file, provider, choice)
        chosen = choice_of(choice)
        write = {"json": plans.as_json, "github": plans.as_github, "gitlab": plans.as_gitlab}[form]
        click.echo(write(cells, chosen, provider or ""))


@matrix.command("build", short_help="Build the boxes and the kernels of the cells.")
@choosing
def build_command(matrix_file: Path | None, provider: str | None, **choice: tuple[str, ...]) -> None:
    """Build the boxes and the kernels of the cells, unless they are in the cache."""
    with refusals():
        from vm import build

        wanted, cells = chosen_cells(matrix_file, provider, choice)
        machines = {cell.machine.name: cell.machine for cell in cells}
        began = time.monotonic()
        cache = build.cache_directory()
        alone(cache)
        made = build.build(wanted, list(machines.values()), cache, say)
        click.echo(f"{', '.join(machines)}, {made.accelerator}: {time.monotonic() - began:.0f} s")


@matrix.command(short_help="Run the cells, and merge their results.")
@choosing
@click.option("--profile", type=Named(PROFILES), metavar="NAME", help="Profile (default: from the matrix).")
@click.option("--examples", type=click.IntRange(1), help="Examples for each property (default: from the matrix).")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the examples, the same in all cells.")
@click.option("--budget", type=Duration(), help="Time for each cell, such as 3m (default: until all is judged).")
@click.option("--machines", type=click.IntRange(1), help="Number of concurrent machines (default: as many as fit).")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(OUTPUT),
    show_default=True,
    help="Directory for results; cells with a result are not run again.",
)
@click.option(
    "--from",
    "published",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of published results (docs/matrix); cells that are there are not run again.",
)
@click.option("--shard", default="", metavar="KERNEL", help="Only the cells of this job of 'matrix plan'.")
@click.option("--again", is_flag=True, help="Run cells that have a result, too.")
def run(
    matrix_file: Path | None,
    provider: str | None,
    profile: str | None,
    examples: int | None,
    seed: int,
    budget: float | None,
    machines: int | None,
    output: Path,
    published: Path | None,
    shard: str,
    again: bool,
    **choice: tuple[str, ...],
) -> None:
    """Run the cells, and write results.jsonl of all; exit status as of 'overlay-conformance run'."""
    with refusals():
        from conformance.report.records import digest_of
        from conformance.spec import load_requirements
        from vm import build, hosts, runner
        from vm.machines import Place
        from vm.published import take
        from vm.timings import Timings

        wanted, cells = chosen_cells(matrix_file, provider, choice, shard)
        hosts.check(wanted.defaults.provider)
        cache = build.cache_directory()
        alone(cache)
        made = build.build(wanted, list({cell.machine.name: cell.machine for cell in cells}.values()), cache, say)
        output = output.absolute()
        asked = runner.Asked(
            profile or wanted.defaults.profile,
            examples or wanted.defaults.examples,
            wanted.defaults.limit,
            output,
            digest_of(load_requirements()),
            importlib.metadata.version("overlay-conformance"),
            {name: files["release"] for name, files in made.machines.items()},
            {
                name: f"{files['release']} {files.get('version', '')}".strip()
                for name, files in made.machines.items()
            },
            Timings(output / "timings.json"),
            wanted.defaults.provider + ("" if made.accelerator == "none" else f", {made.accelerator}"),
            seed,
            runner.slower_by(made.accelerator),
            budget or wanted.defaults.budget,
        )
        if published and (taken := take(published, output, [cell.name for cell in cells])):
            say(f"{len(taken)} cells are in {published}")
        todo = cells if again else runner.left_to_do(cells, asked)
        if len(todo) < len(cells):
            say(f"{len(cells) - len(todo)} cells have a result already")
        place = Place(cache, output / "consoles", wanted.defaults.provider)
        with daemon(place.provider), _Table(len(todo)) as table:
            at_a_time = machines or room(wanted.defaults.memory)
            runner.run_all(todo, asked, place, at_a_time, table.tell, table.ended)
        sys.exit(join([runner.results_of(cell, asked) for cell in cells], output))


@matrix.command(short_help="Remove machines that a killed run left.")
@click.option("--all", "everything", is_flag=True, help="Remove the boxes and the kernels, too.")
def clean(everything: bool) -> None:
    """Remove the machines, volumes and processes that a killed run left."""
    from vm import build, cleaning

    with refusals():
        cache = build.cache_directory()
        alone(cache)
        for what in cleaning.clean(cache, everything=everything):
            click.echo(f"removed {what}")


class _Table:
    """A line for each cell that ended; below them on a terminal, what each machine is doing."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._number = 0
        self._console = console(highlight=False, soft_wrap=True)
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
