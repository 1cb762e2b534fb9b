"""Several deviations of one test, as one."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.harness.deviation import Deviation


def report(deviations: Iterable[Deviation]) -> None:
    """Raise a deviation from the requirements of all these, with the first for each."""
    found = list(deviations)
    if found:
        first = {one.requirements: str(one) for one in reversed(found)}
        said = [*first.values(), *([f"({len(found)} deviations in all)"] if len(found) > len(first) else [])]
        raise Deviation("\n".join(said), requirements=tuple(one for names in first for one in names))
