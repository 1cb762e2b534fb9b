"""What the history of a failure keeps of archives, whose files are removed with their stores."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from conformance.harness.entries import entry_names, listing_of
from conformance.history.calls import Diff
from conformance.history.steps import Called, History

_LISTED: Final = 2  # diffs, the last of all


def keep_archives(history: History) -> None:
    """Record the names in the last diff, and the entries of the last two, while their files exist."""
    steps = history.steps
    diffs = [
        (number, step, step.call)
        for number, step in enumerate(steps)
        if isinstance(step, Called) and isinstance(step.call, Diff) and step.refused is None
    ]
    for number, step, call in diffs[-_LISTED:]:
        if not step.listing:
            with suppress(Exception):  # it may never have been written
                steps[number] = step = replace(step, listing=listing_of(history.file_of(call.archive)))
        if number == diffs[-1][0] and step.answer is None:
            with suppress(Exception):  # what cannot be read has no names
                steps[number] = replace(step, answer=entry_names(history.file_of(call.archive)))
