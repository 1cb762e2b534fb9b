"""The consoles of the verbs: rich's, but for a closed pipe."""

from __future__ import annotations

from typing import Any

from rich.console import Console


class _Console(Console):
    """A console that leaves a closed pipe to the verb: rich would exit with status 1, which is a verdict."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled."""
        raise


def console(**settings: Any) -> Console:
    """A console with the settings of ``rich.console.Console``; writing to a closed pipe raises BrokenPipeError."""
    return _Console(**settings)
