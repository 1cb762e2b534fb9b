"""``matrix selftest``: mutants that need capabilities a host may lack, tried in a machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from conformance.cli.base import Duration
from vm.common import OUTPUT, alone, chosen_cells, daemon, refusals, say

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
    seed: int,
    seeds: int,
    budget: float,
    output: Path,
) -> None:
    """Try the mutants that need xfs with quota or the device mapper in a machine that has both.

    Writes kills.jsonl and kills.md in the output; with --untried they include that file's mutants.
    """
    names = (*names, *old_names)
    with refusals():
        from conformance.report import killfile
        from conformance.report.killtable import kill_table
        from vm import build, selftest
        from vm.machines import Place
        from vm.plan import Machine

        wanted, cells = chosen_cells(None, provider, {"kernels": (kernels,), **dict.fromkeys(_OTHERS, ())})
        kernel, *others = {cell.kernel.name: cell.kernel for cell in cells}.values()
        if others:
            raise click.UsageError(f"--kernel {kernels} is several: {kernel.name}, {others[0].name}; name one")
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
            cache = build.cache_directory()
            alone(cache)
            build.build(wanted, [Machine(kernel)], cache, say)
            asked = selftest.Asked(names, profile, seed, seeds, budget, output)
            with daemon(wanted.defaults.provider):
                place = Place(cache, output / "consoles", wanted.defaults.provider)
                file = selftest.run(kernel.name, asked, place, say)
            parts.append((str(file), killfile.read(file)))
            click.echo((output / f"selftest-{kernel.name}.log").read_text(), nl=False)
        report = killfile.joined(parts)
        killfile.write(output / "kills.jsonl", report)
        (output / "kills.md").write_text(kill_table(report))
        click.echo(f"kills.jsonl and kills.md written in {output}")
        sys.exit(report.exit_code)
