"""``corpus``: the written cases of archives as images with expected trees, and the comparison with these."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from conformance.cli import options
from conformance.cli.base import main, say
from conformance.corpus.check import IGNORABLE, check, check_refused, read_expected, shown
from conformance.corpus.values import Checked, Expected
from conformance.history.printable import one_line
from conformance.operations.readers import NotRead
from conformance.spec.naming import counted
from conformance.spec.values import as_plain

_SHOWN = 40  # differences


@main.group()
def corpus() -> None:
    """Write test vectors for tools that unpack images, and compare trees with them (docs/corpus.md)."""


@corpus.command(short_help="Write all vectors into a new directory.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def build(directory: Path) -> None:
    """Write all vectors into the new DIRECTORY: OCI layouts, tar files, expected trees, schemas and a README."""
    from conformance.corpus.build import build as write
    from conformance.corpus.tables import vectors
    from conformance.report.schemas import corpus_schemas

    found = vectors()
    try:
        write(directory, found, corpus_schemas())
    except OSError as error:
        raise click.UsageError(str(error)) from error
    hostile = sum(one.hostile for one in found)
    say(f"{directory} written: {counted(len(found), 'vector')}, {hostile} of them hostile")


@corpus.command("check", short_help="Compare a tree with an expected file.")
@click.argument("expected", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("tree", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--refused", is_flag=True, help="The tool refused the image: is that permitted?")
@click.option(
    "--ignore",
    multiple=True,
    type=click.Choice(IGNORABLE),
    help="What the tool cannot keep, and is not compared (repeatable).",
)
@click.option("--listing", is_flag=True, help="TREE is a list of paths: lines of 'tar -t', or JSON lines.")
@click.option(
    "--over",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TREE is the archive of a layer over these archives, the base first (repeatable).",
)
@options.as_json("Print an object of JSON ('schema --corpus check').")
def check_tree(
    expected: Path,
    tree: Path | None,
    refused: bool,
    ignore: tuple[str, ...],
    listing: bool,
    over: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Compare TREE, a directory or a tar archive of one, with the file EXPECTED of a vector.

    Exit status 0 if the tree is permitted, 1 if it is not, 2 if a file cannot be read.
    """
    if (tree is None) != refused:
        raise click.UsageError("name TREE, or write --refused")
    if listing and over:
        raise click.UsageError("--listing and --over exclude each other")
    wanted = read_expected(expected)
    answer = check_refused(wanted) if tree is None else _compared(wanted, tree, ignore, over, listing=listing)
    if as_json:
        click.echo(json.dumps(as_plain(answer)))
    else:
        _print(wanted, answer)
    sys.exit(0 if answer.accepted else 1)


def _compared(
    expected: Expected, tree: Path, ignore: tuple[str, ...], over: tuple[Path, ...], *, listing: bool
) -> Checked:
    from conformance.corpus.listing import listed
    from conformance.corpus.trees import made, seen

    try:
        if listing:
            return check(expected, listed(tree.read_bytes()), {*ignore, "attributes"})
        return check(expected, made([*over, tree]) if over else seen(tree), ignore)
    except (OSError, NotRead) as error:
        raise click.UsageError(f"{shown(bytes(tree))} cannot be read: {error}") from error


def _print(expected: Expected, answer: Checked) -> None:
    for one in answer.differences[:_SHOWN]:
        where = f"{one.path}: " if one.path else ""
        say(one_line(f"{where}{one.attribute}: expected {one.expected}, actual {one.actual}"))
    if len(answer.differences) > _SHOWN:
        say(f"and {len(answer.differences) - _SHOWN} more differences")
    if answer.ignored:
        say(f"not compared: {', '.join(answer.ignored)}")
    if answer.accepted:
        say(f"{answer.name}: permitted" + (f" ({answer.choice})" if answer.choice else ""))
        return
    differ = counted(len(answer.differences), "difference")
    say(f"{answer.name}: {differ}" + (f" from the nearest tree ({answer.choice})" if answer.choice else ""))
    if answer.open:
        say(f"question {answer.question} is open: this is an observation (docs/corpus.md)")
    else:
        say(one_line(f"{expected.requirement} ({expected.level}): {expected.sentence}"))
