"""Options that several verbs have."""

from __future__ import annotations

from collections.abc import Callable
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


def profile(said: str) -> Option:
    """``--profile``, standard by default."""
    return click.option(
        "--profile", type=Named(PROFILES), metavar="NAME", default="standard", show_default=True, help=said
    )


def backing(said: str) -> Option:
    """``--backing``, several names of backing filesystems."""
    names = [HOST, *(one.name for one in BACKINGS), "all"]
    return click.option("--backing", "backings", multiple=True, metavar="NAME", type=Named(names), help=said)
