"""``selftest``: its command line. What it does is in conformance.cli.selftest, which imports every mutant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click

from conformance.cli import options
from conformance.cli.base import Duration, main
from conformance.cli.choosing import Named
from conformance.selftest.mutants.basis import BASIS

_REFERENCE: Final = "refdriver:Driver"


class _Needs(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in some versions of click
    """A capability of the host that some mutant needs; the mutants are imported when it is named."""

    name = "needs"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        """Parse an option of the command line."""
        from conformance.selftest.mutants.catalogue import MUTANTS

        return Named(sorted({one.needs for one in MUTANTS if one.needs})).convert(value, param, context)


def _names(context: click.Context, parameter: click.Parameter, begun: str) -> list[Any]:
    del context
    from conformance.selftest.mutants.catalogue import MUTANTS
    from conformance.selftest.variants.catalogue import VARIANTS

    known = [one.name for one in (MUTANTS if parameter.name == "names" else VARIANTS)]
    return [name for name in known if name.lower().startswith(begun.lower())]


@main.command()
@click.option(
    "--mutant", "names", multiple=True, metavar="NAME", shell_complete=_names, help="Only this mutant (repeatable)."
)
@click.option("--fault", "old_names", multiple=True, hidden=True)  # the name of --mutant until 0.3.0
@click.option(
    "--needs",
    multiple=True,
    type=_Needs(),
    metavar="NAME",
    help="Only mutants that need this capability of the host (repeatable).",
)
@click.option(
    "--variant",
    "choices",
    multiple=True,
    metavar="NAME",
    shell_complete=_names,
    help="Only this variant (repeatable).",
)
@click.option("--different", "old_choices", multiple=True, hidden=True)  # the name of --variant until 0.3.0
@click.option(
    "--generated",
    type=click.IntRange(1),
    metavar="N",
    help="Try N mutants that operators make of the basis driver's source, instead of the catalogue.",
)
@click.option(
    "--equivalent",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="List of equivalent mutants (TOML; default: equivalent.toml beside the driver's mutants).",
)
@click.option("--again", is_flag=True, help="Try the generated mutants that survive in the --results file again.")
@options.backing("Backing filesystem of the tests that try generated mutants (repeatable; default: host).")
@click.option("--budget", type=Duration(), help="Time for each trial (default: 60s; 10m with --whole).")
@click.option(
    "--profile",
    type=Named(("quick", "standard")),
    metavar="NAME",
    default="standard",
    show_default=True,
    help="Which tests to run, with how many examples: quick or standard.",
)
@options.jobs("concurrent trials")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the examples.")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Number of seeds, from --seed on."
)
@click.option("--whole", is_flag=True, help="Run all tests of the profile, and report every failure.")
@click.option(
    "--basis",
    metavar="MODULE:CLASS",
    default=lambda: os.environ.get(BASIS, _REFERENCE),
    show_default=_REFERENCE,
    help="The correct driver that mutants are derived from.",
)
@options.SCRATCH
@click.option("--results", "results_file", type=options.FILE, help="Result file to write (JSON lines).")
@click.option("--markdown", "markdown_file", type=options.FILE, help="Kill matrix to write (Markdown).")
def selftest(**given: Any) -> None:
    """Run the suite on mutants, each broken in one known way, and print what kills them (the kill matrix).

    It also runs on variants: correct drivers that make another permitted choice, and have to conform.

    The exit status is 1 if a mutant survives the requirement that it is named for, if no mutant breaks some
    requirement, if a variant does not conform, or if tests of quick kill fewer than half of all mutants; in the
    profile quick, if a variant does not conform or fewer than half of the mutants are killed.

    With --generated, mutation operators make the mutants from the source of the basis driver. A run with the
    same --results file continues it; --mutant takes ids from that file.
    """
    from conformance.cli.selftest import selftest_asked

    selftest_asked(**given)
