"""What changed between two result files in Markdown, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from conformance.history.printable import markdown as escaped
from conformance.report.trend import CONCLUSIONS, MEANING, Change, Group, Trend
from conformance.spec.naming import counted

_OPEN: Final = (Change.NEW, Change.GONE, Change.LOST, Change.FIXED)  # the others are folded


def trend_markdown(trend: Trend) -> str:
    """The counts, what differs besides the driver, and a table for each change."""
    return "\n".join(_lines(trend)) + "\n"


def _lines(trend: Trend) -> Iterator[str]:
    conclusion = CONCLUSIONS[trend.exit_code]
    yield f"# overlay-conformance: {conclusion}"
    yield ""
    yield f"From {escaped(trend.old)} to {escaped(trend.new)}. {counted(trend.compared, 'requirement')} compared."
    yield ""
    present = [change for change in Change if trend.counts[change]]
    if present:
        yield f"| {' | '.join(one.value for one in present)} |"
        yield "|" + "--:|" * len(present)
        yield f"| {' | '.join(str(trend.counts[one]) for one in present)} |"
    else:
        yield "Nothing changed."
    yield ""
    yield from _differences(trend)
    for change in present:
        yield from _table(change, trend)


def _differences(trend: Trend) -> Iterator[str]:
    if not trend.differences:
        return
    yield "| differs | OLD | NEW |"
    yield "|---|---|---|"
    for one in trend.differences:
        yield f"| {escaped(one.what)} | {escaped(one.old)} | {escaped(one.new)} |"
    yield ""
    if any(not one.of_driver for one in trend.differences):
        yield "A change of a verdict may come from what differs, and not from the driver."
        yield ""


def _table(change: Change, trend: Trend) -> Iterator[str]:
    title = f"{change.value}: {trend.counts[change]}"
    folded = change not in _OPEN
    yield f"<details><summary>{title} ({MEANING[change]})</summary>" if folded else f"## {title}"
    yield ""
    if not folded:
        yield f"{MEANING[change][0].upper()}{MEANING[change][1:]}."
        yield ""
    yield "| level | cause | requirements | expected | actual |"
    yield "|---|---|---|---|---|"
    for group in trend.groups(change):
        yield _row(group)
    yield ""
    if folded:
        yield "</details>"
        yield ""


def _row(group: Group) -> str:
    ids = "; ".join(f"{one} ({', '.join(places)})" if places else one for one, places in group.requirements.items())
    cause = group.cause + (f" (only on one side: {'; '.join(group.others)})" if group.others else "")
    said = (group.level, cause or group.reason, ids, group.seen.expected, group.seen.actual)
    return f"| {' | '.join(map(escaped, said))} |"
