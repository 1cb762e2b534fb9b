"""``python -m benchmarks.neighbours``: run the suites of others on the mutants, and write what they found."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import click

from benchmarks.neighbours.suites import PACKAGES, SUITES, NotBuilt, Ran, build, run
from benchmarks.neighbours.table import Findings, as_markdown, is_reachable
from conformance.lab.scratch import scratch_directory
from conformance.report import killfile
from conformance.selftest.kills import Specimen
from conformance.selftest.mutants.catalogue import MUTANTS
from conformance.spec import load_requirements
from conformance.spec.values import as_plain, from_plain

_FILE = click.Path(dir_okay=False, path_type=Path)
_CONTROL = "Faithful"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kills", type=_FILE, required=True, help="What 'overlay-conformance selftest --results' wrote.")
@click.option("--results", type=_FILE, default=Path("neighbours.jsonl"), show_default=True, help="Goes on with it.")
@click.option("--markdown", type=_FILE, help="Write the page there.")
@click.option("--suite", "keys", multiple=True, type=click.Choice([one.key for one in SUITES]), help="Only these.")
@click.option("--mutant", "names", multiple=True, metavar="NAME", help="Only these.")
@click.option("--basis", default="refdriver:Driver", show_default=True, help="The driver that is made wrong.")
@click.option("--only-table", is_flag=True, help="Run nothing; make the page of the results that are there.")
def main(
    kills: Path,
    results: Path,
    markdown: Path | None,
    keys: tuple[str, ...],
    names: tuple[str, ...],
    basis: str,
    only_table: bool,
) -> None:
    """Run the suites of moby, containers/storage and containerd on every mutant that they can reach.

    Each result is added to a file of JSON lines at once; what is in it already is not run again.
    """
    matrix = killfile.read(kills).matrix
    suites = [one for one in SUITES if not keys or one.key in keys]
    done = (
        [from_plain(Ran, json.loads(line)) for line in results.read_text().splitlines()] if results.exists() else []
    )
    if not only_table:
        if os.geteuid() != 0:
            raise click.UsageError("drivers mount overlays; run this as root (sudo)")
        mutants = {one.name: one for one in MUTANTS if is_reachable(Specimen.of(one))}
        drivers = {_CONTROL: "conformance.selftest.mutants.basis:Faithful"}
        wanted = [name for name in names or mutants if name in mutants]
        drivers |= {name: mutants[name].connection.removeprefix("python:") for name in wanted}
        with scratch_directory(None) as scratch, results.open("a") as file:
            for suite in suites:
                try:
                    program = build(suite, scratch / "go")
                except NotBuilt as error:
                    click.echo(str(error), err=True)
                    sys.exit(2)
                good: set[str] = set()
                for name, driver in drivers.items():
                    found = [one for one in done if (one.suite, one.mutant) == (suite.key, name)]
                    while not found or (name != _CONTROL and len(found) == 1 and good & set(found[0].failed)):
                        found.append(run(suite, program, name, driver, basis, scratch))
                        file.write(json.dumps(as_plain(found[-1])) + "\n")
                        file.flush()
                        done.append(found[-1])
                    good = good or set(found[0].passed)
                    click.echo(f"{suite.key:12} {name:32} {', '.join(found[-1].failed) or 'passes'}")
    control = {one.suite: one for one in done if one.mutant == _CONTROL}
    if not all(one.key in control for one in suites):
        raise click.UsageError(f"{results} has no run of the correct driver for each suite; leave --only-table out")
    families = {one.id: one.family for one in load_requirements().values()}
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    page = as_markdown(Findings(matrix, families, suites, control, done, _versions(), when, platform.release()))
    if markdown:
        markdown.write_text(page)
    else:
        click.echo(page)


def _versions() -> dict[str, str]:
    """Debian's versions of the packages that the tests are built from."""
    found = {}
    for name in PACKAGES:
        said = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True, check=False
        )
        found[name] = said.stdout or "not from Debian"
    return found


if __name__ == "__main__":
    main()
