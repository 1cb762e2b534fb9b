"""``overlay-conformance drivers``: builds of real drivers and unpackers, from packages to pages."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from vm.drivers.builds import Build, Builds

_PAGES: Final = Path("docs")
_INTERRUPTED: Final = 130
_FILE = click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of builds (default: those of the project).",
)
_DATA = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the archives of results (default: that of the file of builds, such as docs/drivers).",
)
_NAMES = click.argument("names", nargs=-1, metavar="[BUILD]...")


@click.group(short_help="Judge the builds of real drivers and unpackers that distributions have.")
def drivers() -> None:
    """Judge the builds of real drivers and unpackers (docs/real-drivers.md, docs/real-unpackers.md)."""


@drivers.command("list")
@_NAMES
@_FILE
@_DATA
def list_builds(names: tuple[str, ...], file: Path | None, data: Path | None) -> None:
    """List the builds: whether they are here, and their verdicts."""
    with _refusals():
        from vm.drivers import roots
        from vm.drivers.data import read
        from vm.drivers.page import counts_of

        place = _roots()
        for each in _chosen(file, names, data):
            for one in each.chosen:
                here = all(roots.is_here(root, place) for root in each.builds.roots_of([one]))
                judged = read(one, each.builds, each.data)
                said = counts_of(judged.part) if judged else "not judged"
                click.echo(f"{one.name:36} {'here' if here else '-':5} {said}")


@drivers.command(short_help="Unpack the packages of builds.")
@_NAMES
@_FILE
def fetch(names: tuple[str, ...], file: Path | None) -> None:
    """Unpack the packages of builds, each into a root of its own, unless they are there."""
    with _refusals():
        from vm.common import cache_directory
        from vm.drivers import roots

        wanted = [root for each in _chosen(file, names) for root in each.builds.roots_of(each.chosen)]
        for number, root in enumerate(wanted, 1):
            _say(f"[{number}/{len(wanted)}] {root.name}: {root.package} {root.version} of {root.suite}")
            roots.fetch(root, _roots(), cache_directory(), _say)


@drivers.command(short_help="Judge builds, and keep their results as data.")
@_NAMES
@_FILE
@_DATA
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("overlay-conformance-drivers"),
    show_default=True,
    help="Directory for results and evidence; builds with a result there or in the data are not judged again.",
)
@click.option("--again", is_flag=True, help="Judge builds that have a result, too.")
def judge(names: tuple[str, ...], file: Path | None, data: Path | None, output: Path, again: bool) -> None:
    """Judge builds one after the other, all of a file with one question, and keep their results as data.

    The exit status is 2 if a build has no whole result, and 0 otherwise: verdicts are data here.
    """
    with _refusals():
        from vm.drivers.data import archive_of, is_answer, keep, read
        from vm.drivers.deviations import load
        from vm.drivers.judging import NotJudged, Place, judge
        from vm.drivers.page import counts_of

        files = _chosen(file, names, data)
        deviations = {each.data: load(each.data) for each in files}
        wanted = [(each, one) for each in files for one in each.chosen]
        place, failed = Place(_roots(), output.absolute()), 0
        for number, (each, one) in enumerate(wanted, 1):
            head = f"[{number}/{len(wanted)}] {one.name}"
            kept = None if again else read(one, each.builds, each.data)
            if kept and is_answer(kept.part, each.builds.question):
                _say(f"{head}: its result is in {archive_of(one, each.data)}")
                continue
            _say(f"{head}: is judged")
            began = time.monotonic()
            try:
                part = judge(one, each.builds, place, again=again)
            except NotJudged as error:
                failed += 1
                _say(str(error))
                continue
            private = deviations[each.data].private_requirements(one.line)
            keep(one, place.output / one.name, each.data, private)
            click.echo(f"{head}: {counts_of(part)}, {time.monotonic() - began:.0f} s")
        sys.exit(2 if failed else 0)


@drivers.command(short_help="Observe builds, for the table of divergence.")
@_NAMES
@_FILE
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("docs/divergence"),
    show_default=True,
    help="Directory of the files of 'observe'; a build that has one there is not observed.",
)
@click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory in which stores are created (default: as of 'observe').",
)
@click.option("--user-namespace", is_flag=True, help="Observe as root of a user namespace without other ids.")
@click.option("--again", is_flag=True, help="Observe builds that have a file, too.")
def observe(
    names: tuple[str, ...], file: Path | None, data: Path, scratch: Path | None, user_namespace: bool, again: bool
) -> None:
    """Observe the builds that have a column in docs/divergence.md, one after the other.

    The exit status is 2 if a build could not be observed, and 0 otherwise.
    """
    with _refusals():
        from vm.drivers.builds import BadBuilds
        from vm.drivers.judging import NotJudged
        from vm.drivers.observing import column_file, observe

        found = [(each.builds, one) for each in _chosen(file, names) for one in each.chosen]
        if without := [one.name for _, one in found if names and not one.column]:
            raise BadBuilds(f'{without[0]} has no column: add column = "NAME VERSION" to the build')
        wanted = [(builds, one) for builds, one in found if one.column]
        failed = 0
        for number, (builds, one) in enumerate(wanted, 1):
            head = f"[{number}/{len(wanted)}] {one.name}"
            kept = column_file(one, data, user_namespace=user_namespace)
            if kept.exists() and not again:
                _say(f"{head}: its observations are in {kept}")
                continue
            _say(f"{head}: is observed")
            try:
                made = observe(one, builds, _roots(), data, scratch, user_namespace=user_namespace)
            except NotJudged as error:
                failed += 1
                _say(str(error))
                continue
            click.echo(f"{head}: {made}")
        sys.exit(2 if failed else 0)


@drivers.command(short_help="Run the reproducers of the data.")
@_NAMES
@_FILE
@_DATA
@click.option(
    "--reports",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Run the scripts of the reports in this directory, too, such as docs/upstream.",
)
def check(names: tuple[str, ...], file: Path | None, data: Path | None, reports: Path | None) -> None:
    """Run each reproducer of the data by itself, with an empty environment but for the PATH of its build.

    A report's script has to print what the report says. The exit status is 1 if one does not show its deviation,
    and 2 if a build is not here.
    """
    with _refusals():
        from vm.drivers import roots
        from vm.drivers.builds import BadBuilds
        from vm.drivers.checking import check, check_report
        from vm.drivers.data import read

        files = _chosen(file, names, data)
        place, failed, whole = _roots(), 0, 0
        found = [
            (judged, each.builds)
            for each in files
            for one in each.chosen
            if (judged := read(one, each.builds, each.data)) and judged.scripts
        ]
        for judged, builds in found:
            if why := roots.lacking(builds.roots_of([judged.build]), place):
                raise BadBuilds(why)
        for judged, builds in found:
            for one in check(judged, builds, place):
                whole += 1
                if not one.reproduces:
                    failed += 1
                    click.echo(f"{judged.build.name}: {one.folder}: exit status {one.status}: {one.last}")
            _say(f"{judged.build.name}: {len(judged.scripts)} reproducers were run")
        for report in sorted(reports.glob("*.md")) if reports else []:
            whole += 1
            shown = check_report(report, [root for each in files for root in each.builds.root], place)
            if not shown.reproduces:
                failed += 1
                click.echo(f"{report.name}: {shown.last}")
        click.echo(f"{whole - failed} of {whole} scripts show their deviation")
        sys.exit(1 if failed else 0)


@drivers.command(short_help="Write the pages that the data give.")
@_FILE
@_DATA
@click.option(
    "--docs",
    type=click.Path(file_okay=False, path_type=Path),
    default=_PAGES,
    show_default=True,
    help="Directory that gets real-drivers.md, real-unpackers.md and deviations/.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an HTML page of every requirement by every build, too.",
)
def pages(file: Path | None, data: Path | None, docs: Path, html: Path | None) -> None:
    """Write the page of all builds of a file and the page of each deviation, from the data."""
    with _refusals():
        from vm.drivers.data import all_of
        from vm.drivers.deviations import BadDeviations
        from vm.drivers.page import pages_of
        from vm.drivers.table import html_page

        files = _chosen(file, (), data)
        made: dict[str, str] = {}
        for each in files:
            those = pages_of(each.builds, each.data, docs)
            if twice := sorted(made.keys() & those.keys()):
                raise BadDeviations(
                    f"{each.data}: {', '.join(twice)} is a page of another file; rename the deviation"
                )
            made |= those
        for old in (docs / "deviations").glob("*.md") if file is None else ():
            if f"deviations/{old.name}" not in made:
                old.unlink()
        for name, text in made.items():
            path = docs / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        click.echo(f"{len(made)} pages written in {docs}")
        if html:
            html.write_text(html_page([one for each in files for one in all_of(each.builds, each.data)]))
            click.echo(f"{html} written")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A file of builds, those of it that were chosen, and where their results are."""

    builds: Builds
    chosen: tuple[Build, ...]
    data: Path


def _chosen(file: Path | None, names: tuple[str, ...], data: Path | None = None) -> list[_Chosen]:
    from vm.drivers.builds import FILES, check_names, load

    files = [load(one) for one in ([file] if file else FILES)]
    check_names(names, files)
    return [
        _Chosen(one, one.chosen(those), data or Path(one.page.data))
        for one in files
        if (those := [name for name in names if one.has(name)]) or not names
    ]


def _roots() -> Path:
    from vm.common import cache_directory

    return cache_directory() / "drivers"


def _say(what: str) -> None:
    click.echo(f"drivers: {what}", err=True)


@contextmanager
def _refusals() -> Iterator[None]:
    """What is wrong with a file, a package or the host, as a message and exit status 2."""
    from conformance.report.records import BadResults
    from vm.debian import NoPackage
    from vm.drivers.builds import BadBuilds
    from vm.drivers.deviations import BadDeviations

    try:
        yield
    except BrokenPipeError:
        raise
    except (BadBuilds, BadDeviations, BadResults, NoPackage, OSError) as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        _say("ended; the same command goes on where this one stopped")
        sys.exit(_INTERRUPTED)
