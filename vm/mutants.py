"""``matrix selftest``: mutants that need capabilities a host may lack, tried in a machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from conformance.cli.base import Duration
from vm.common import OUTPUT, alone, chosen_cells, daemon, refusals, say

if TYPE_CHECKING:
    from vm.machines import Place
    from vm.matrix import Matrix
    from vm.plan import Machine

_OTHERS: Final = ("backings", "overlays", "drivers", "privileges")


@click.command("selftest", short_help="Try mutants that need capabilities this host lacks, in a machine.")
@click.option(
    "--kernel", "kernels", default="6.1", show_default=True, help="Kernel of the machine, by name or release."
)
@click.option(
    "--provider", type=click.Choice(["libvirt", "uml"]), help="Provider of the machines (default: from the matrix)."
)
@click.option("--mutant", "names", multiple=True, metavar="NAME", help="Only this mutant (repeatable).")
@click.option("--fault", "old_names", multiple=True, hidden=True)  # the name of --mutant until 0.3.0
@click.option(
    "--untried",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The mutants that were not applicable in this file of 'selftest --results', with its profile and seeds.",
)
@click.option(
    "--generated",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The survivors in this file of 'selftest --generated --results' that a machine like this could kill.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the examples.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Number of seeds, from --seed on."
)
@click.option("--budget", type=Duration(), default="10m", show_default=True, help="Time for each trial.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(OUTPUT),
    show_default=True,
    help="Directory for results.",
)
def selftest_command(
    kernels: str,
    provider: str | None,
    names: tuple[str, ...],
    old_names: tuple[str, ...],
    untried: Path | None,
    generated: Path | None,
    seed: int,
    seeds: int,
    budget: float,
    output: Path,
) -> None:
    """Try the mutants that need xfs with quota or the device mapper in a machine that has both.

    Writes kills.jsonl and kills.md in the output; with --untried they include that file's mutants. With --generated
    it writes generated.jsonl and generated.md, which have all mutants of that file.
    """
    names = (*names, *old_names)
    if generated and (names or untried):
        raise click.UsageError("--generated takes no --mutant and no --untried")
    with refusals():
        from conformance.report import killfile
        from conformance.report.killtable import kill_table
        from vm import selftest

        if generated:
            _try_generated(generated, _machine(kernels, provider), budget, output.absolute())
        machine = _machine(kernels, provider)
        profile = "standard"
        parts = []
        if untried:
            parts.append((str(untried), killfile.read(untried)))
            missing, profile, seed, seeds = selftest.untried_in(parts[0][1])
            names = names or missing
        output = output.absolute()
        output.mkdir(parents=True, exist_ok=True)
        if untried and not names:
            click.echo(f"{untried}: every mutant was applicable there, so nothing is left for a machine")
        else:
            asked = selftest.Asked(names, profile, seed, seeds, budget, output)
            with machine.place(output) as place:
                file = selftest.run(machine.kernel, asked, place, say)
            parts.append((str(file), killfile.read(file)))
            click.echo((output / f"selftest-{machine.kernel}.log").read_text(), nl=False)
        report = killfile.joined(parts)
        killfile.write(output / "kills.jsonl", report)
        (output / "kills.md").write_text(kill_table(report))
        click.echo(f"kills.jsonl and kills.md written in {output}")
        sys.exit(report.exit_code)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """One machine of the matrix."""

    matrix: Matrix
    machine: Machine

    @property
    def kernel(self) -> str:
        return self.machine.kernel.name

    @contextmanager
    def place(self, output: Path) -> Iterator[Place]:
        """Build what it boots; where it may be started, while no other command uses the cache."""
        from vm import build
        from vm.machines import Place

        cache = build.cache_directory()
        alone(cache)
        build.build(self.matrix, [self.machine], cache, say)
        provider = self.matrix.defaults.provider
        with daemon(provider):
            yield Place(cache, output / "consoles", provider)


def _machine(kernels: str, provider: str | None) -> _Chosen:
    """The only machine of these kernels."""
    from vm.plan import Machine

    wanted, cells = chosen_cells(None, provider, {"kernels": (kernels,), **dict.fromkeys(_OTHERS, ())})
    kernel, *others = {cell.kernel.name: cell.kernel for cell in cells}.values()
    if others:
        raise click.UsageError(f"--kernel {kernels} is several: {kernel.name}, {others[0].name}; name one")
    return _Chosen(wanted, Machine(kernel))


def _try_generated(file: Path, machine: _Chosen, budget: float, output: Path) -> NoReturn:
    """Try the survivors of a result file, and write the whole; ends the command."""
    from conformance.report import generatedfile, generatedpage
    from vm import selftest

    results = generatedfile.Results.of(file)
    output.mkdir(parents=True, exist_ok=True)
    if not results.elsewhere:
        click.echo(f"{file}: no mutant survived there for want of a machine, so nothing is left for one")
    else:
        asked = selftest.AskedGenerated(results, budget, output)
        with machine.place(output) as place:
            results.join(selftest.run_generated(machine.kernel, asked, place, say))
    results.path = output / selftest.GENERATED
    code = results.finish_all()
    (output / "generated.md").write_text(generatedpage.page(results.about, list(results.tried.values())))
    click.echo(f"generated.jsonl and generated.md written in {output}")
    sys.exit(code)
