"""``completion``: what a shell needs to complete this command."""

from __future__ import annotations

import re
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from conformance.cli.base import main
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.naming import slug

_NAME: Final = "overlay-conformance"
_VARIABLE: Final = "_OVERLAY_CONFORMANCE_COMPLETE"


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL; in bash: eval "$(overlay-conformance completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three"
    click.echo(kind(main, {}, _NAME, _VARIABLE).source())


def requirement_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids that begin so, each with its sentence."""
    del context, parameter
    begun = incomplete.upper()
    found = load_requirements().values()
    return [CompletionItem(one.id, help=one.sentence) for one in found if one.id.startswith(begun)]


def families(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Families that begin so, as slugs."""
    del context, parameter
    found = dict.fromkeys(slug(one.family) for one in load_requirements().values())
    return [one for one in found if one.startswith(slug(incomplete.lower()))]


def capabilities(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Capabilities that begin so, each with its meaning."""
    del context, parameter
    found = load_capabilities().values()
    return [CompletionItem(one.name, help=one.meaning) for one in found if one.name.startswith(incomplete)]


def connections(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds of drivers that begin so, and after a ``?`` or ``&`` the keys of the kind."""
    del context, parameter
    from conformance.drivers.registry import keys_of, kinds  # adapters, which no other completion needs

    before, mark, begun = re.fullmatch(r"(?s)(.*?)(?:([?&])([^?&=]*))?", incomplete).groups()  # type: ignore[union-attr]
    if mark:
        keys = [one for one in keys_of(before.partition(":")[0]) if one.name.startswith(begun)]
        return [CompletionItem(f"{before}{mark}{one.name}=", help=one.meaning) for one in keys]
    return [
        CompletionItem(f"{kind.name}:", help=form)
        for kind in kinds().values()
        for form, _ in kind.forms
        if kind.name.startswith(incomplete)
    ]
