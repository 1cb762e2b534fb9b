"""Options that several verbs have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from conformance.cli import completion
from conformance.cli.choosing import Named
from conformance.lab.backing import BACKINGS, HOST
from conformance.spec.profiles import PROFILES

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

FAMILY: Final = click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.families,
    help="Only this family, such as life-cycle (repeatable).",
)
SCRATCH: Final = click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory in which stores are created.",
)
CALL_TIMEOUT: Final = click.option(
    "--call-timeout",
    type=click.FloatRange(0.1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of a call.",
)
FILE: Final = click.Path(dir_okay=False, path_type=Path)  # the type of a file that is written


def as_json(said: str = "Print JSON.") -> Option:
    """``--json``, as the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help=said)


def jobs(said: str) -> Option:
    """``--jobs``, 1 by default."""
    return click.option(
        "--jobs", type=click.IntRange(1), metavar="N", default=1, show_default=True, help=f"Number of {said}."
    )


def profile(said: str) -> Option:
    """``--profile``, standard by default."""
    return click.option(
        "--profile", type=Named(PROFILES), metavar="NAME", default="standard", show_default=True, help=said
    )


def backing(said: str) -> Option:
    """``--backing``, several names of backing filesystems."""
    names = [HOST, *(one.name for one in BACKINGS), "all"]
    return click.option("--backing", "backings", multiple=True, metavar="NAME", type=Named(names), help=said)
