"""A group of verbs that imports a verb's module when the verb is used.

Modules of verbs import pytest, hypothesis and every mutant. ``--help``, completion and the other verbs need a name
and a line of help only, so these stand in a table, and importing a module adds its commands to the group.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from conformance.spec.naming import suggestion

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


_OTHERS: Final = "More commands"


@dataclass(frozen=True, slots=True)
class Verb:
    """The module that defines a verb, its line in the list of verbs, and the heading that it is under."""

    module: str
    help: str
    group: str


class LazyGroup(click.Group):
    """A group whose commands are those of a table, and of entry points of other distributions.

    A module of the table adds its commands by the decorator ``command`` of this group. An entry point has no line
    of help, so its command is loaded for the list of verbs.
    """

    def __init__(self, *args: Any, verbs: Mapping[str, Verb], entry_points: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._verbs = verbs
        self._entry_points = entry_points

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs, sorted; imports none of them."""
        del ctx
        return sorted({*self._verbs, *self.commands, *(one.name for one in self._found())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb, whose module is imported; None if there is no such verb."""
        if cmd_name in self._verbs:
            importlib.import_module(self._verbs[cmd_name].module)
        elif cmd_name not in self.commands:
            for one in self._found():
                if one.name == cmd_name:
                    self.add_command(one.load(), one.name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs in the help, from the table."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        others = [name for name in names if name not in self._verbs]
        groups = dict.fromkeys(one.group for one in self._verbs.values())
        for title in (*groups, _OTHERS):
            found = [name for name in (*self._verbs, *others) if self._group(name) == title]
            if found:
                with formatter.section(title):
                    formatter.write_dl([(name, self._help(ctx, name, limit)) for name in found])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named; the message for a name that is not there says what is meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            said = f"{error.message.rstrip('.')}{suggestion(args[0], self.list_commands(ctx))}."
            raise click.UsageError(said, ctx) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs that begin so, from the table, and what else click completes."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        verbs = [CompletionItem(name, help=self._help(ctx, name)) for name in names]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def _group(self, name: str) -> str:
        return self._verbs[name].group if name in self._verbs else _OTHERS

    def _help(self, ctx: click.Context, name: str, limit: int = 45) -> str:
        if name in self._verbs:
            return self._verbs[name].help
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit) if command else ""

    def _found(self) -> Any:
        from importlib.metadata import entry_points  # it brings the email package, which most verbs do not need

        return entry_points(group=self._entry_points)
