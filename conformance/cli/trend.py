"""What changed between two result files, on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from conformance.cli.base import say
from conformance.history.printable import cut, one_line
from conformance.report.trend import CONCLUSIONS, MEANING, Change, Group, Trend
from conformance.spec.naming import counted

_WIDTH: Final = 140
_IN_FULL: Final = (Change.NEW, Change.GONE, Change.LOST)


def print_trend(trend: Trend) -> None:
    """The differences of the runs, the requirements of each change by cause, the conclusion last."""
    for line in _lines(trend):
        say(line)


def _lines(trend: Trend) -> Iterator[str]:
    yield f"OLD: {one_line(trend.old)}"
    yield f"NEW: {one_line(trend.new)}"
    for one in trend.differences:
        yield one_line(f"{'driver' if one.of_driver else 'differs'}: {one.what}: {one.old} -> {one.new}")
    if any(not one.of_driver for one in trend.differences):
        yield "a change of a verdict may come from what differs, and not from the driver"
    for change in Change:
        if trend.counts[change]:
            yield f"{change.value} {trend.counts[change]} ({MEANING[change]}):"
            for group in trend.groups(change):
                yield from _group(change, group)
    said = ", ".join(f"{trend.counts[change]} {change.value}" for change in Change if trend.counts[change])
    compared = counted(trend.compared, "requirement")
    yield f"{compared} compared: {said or 'nothing changed'} -> {CONCLUSIONS[trend.exit_code]}"


def _group(change: Change, group: Group) -> Iterator[str]:
    ids = ", ".join(f"{one} ({'; '.join(places)})" if places else one for one, places in group.requirements.items())
    head = f"  {group.level or 'unknown'}: {one_line(group.cause)}" if group.cause else f"  {group.level}"
    yield head
    for line in textwrap.wrap(one_line(ids), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"    {line}"
    if change in _IN_FULL:
        seen = group.seen
        for name, said in (("expected", seen.expected), ("actual", seen.actual), ("now", group.reason)):
            if said:
                yield f"    {one_line(cut(f'{name}: {said}', _WIDTH))}"
    if group.others:
        yield one_line(f"    cause only on one side: {'; '.join(group.others)}")
