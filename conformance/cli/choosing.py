"""Names on the command line: requirements, families, capabilities and choices, with what was meant by others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from conformance.spec import Requirement, load_capabilities, load_requirements
from conformance.spec.naming import family_named, slug, suggestion


class Named(click.Choice):  # type: ignore[type-arg,unused-ignore]  # generic in some versions of click
    """One of a few names; the message for any other says which of them is meant."""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        """Parse an option of a command line."""
        try:
            return super().convert(value, param, context)
        except click.BadParameter as error:
            said = f"{error.message.rstrip('.')}{suggestion(str(value), map(str, self.choices))}."
            raise click.BadParameter(said, error.ctx, error.param) from error


def requirement_named(word: str) -> Requirement:
    """The requirement of an id, in any case; raises click.UsageError."""
    known = load_requirements()
    found = known.get(word.upper())
    if found is None:
        raise click.UsageError(
            f"no requirement {word}{suggestion(word, known)}; 'overlay-conformance list' shows them all"
        )
    return found


def families_named(words: Iterable[str]) -> frozenset[str]:
    """The families of names or slugs; raises click.UsageError."""
    known = list(dict.fromkeys(one.family for one in load_requirements().values()))
    found = set()
    for word in words:
        family = family_named(word, known)
        if family is None:
            said = suggestion(word, [*known, *map(slug, known)])
            raise click.UsageError(f"no family {word!r}{said}; 'overlay-conformance list' shows them all")
        found.add(family)
    return frozenset(found)


def capabilities_named(words: Iterable[str]) -> frozenset[str]:
    """The capabilities of these names; raises click.UsageError."""
    known = load_capabilities()
    for word in words:
        if word not in known:
            raise click.UsageError(
                f"no capability {word!r}{suggestion(word, known)}; docs/specification.md#capabilities lists them"
            )
    return frozenset(words)


def selected(ids: Sequence[str], families: Sequence[str]) -> dict[str, Requirement]:
    """The requirements of these ids and of these families, all without any; raises click.UsageError."""
    known = load_requirements()
    if not ids and not families:
        return known
    chosen, named = {requirement_named(one).id for one in ids}, families_named(families)
    return {one.id: one for one in known.values() if one.id in chosen or one.family in named}
