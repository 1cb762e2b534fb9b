"""Help of a verb with many options: where to begin, then the options in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class GroupedCommand(click.Command):
    """A command whose help begins with examples, ``begin``, and has its options in ``groups``.

    A group is a title and the names of parameters. Options of no group follow under "Other options".
    """

    def __init__(
        self, *args: Any, begin: Sequence[tuple[str, str]], groups: Mapping[str, Sequence[str]], **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self._begin = begin
        self._groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the options."""
        with formatter.section("Where to begin"):
            formatter.write_dl(self._begin)
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        records = {one.name: record for one in options if (record := one.get_help_record(ctx))}
        for title, names in self._groups.items():
            with formatter.section(title):
                formatter.write_dl([records.pop(name) for name in names])
        with formatter.section("Other options"):
            formatter.write_dl(list(records.values()))
