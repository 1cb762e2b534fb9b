"""Every requirement by every build, as the page that `report --html` writes: verdicts, causes and reproducers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from conformance.report.matrix import matrix_of
from conformance.report.page import page
from conformance.report.records import Part
from conformance.spec import load_requirements
from vm.drivers.data import Judged

_SCRIPT_LIMIT: Final = 1 << 18  # bytes; the page holds a script whole


def html_page(found: Sequence[Judged], *, title: str = "Real drivers") -> str:
    """One page without links outside of it; a column is a build, by its line and the versions of its packages."""
    scripts = {
        f"{one.build.name}/{folder}": text
        for one in found
        for folder, text in one.scripts.items()
        if len(text) <= _SCRIPT_LIMIT
    }
    return page(matrix_of(list(_parts(found)), load_requirements()), scripts, title=title)


def _parts(found: Iterable[Judged]) -> Iterable[Part]:
    for one in found:
        run = replace(one.part.run, driver=one.build.line, version=one.version)
        # Folders of two builds have one name if one failure is in both.
        outcomes = tuple(
            replace(each, evidence=f"{one.build.name}/{each.evidence}") if each.evidence else each
            for each in one.part.outcomes
        )
        yield Part(run, outcomes)
