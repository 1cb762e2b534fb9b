"""The page of a deviation: what is required, where it was seen, and the shortest example of the newest build."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.report.brief import expected_and_actual, folded
from conformance.report.causes import cause_of
from conformance.report.escaping import fenced, markdown
from conformance.spec import load_requirements
from conformance.spec.references import parse_reference
from conformance.spec.verdicts import TestOutcome
from vm.drivers.builds import Page
from vm.drivers.data import Judged
from vm.drivers.deviations import Deviation, Deviations

_STEPS: Final = 25  # lines of an example


@dataclass(frozen=True, slots=True)
class Seen:
    """A deviation in the builds of a line, from the oldest to the newest: whether it was seen in each."""

    line: str
    versions: tuple[tuple[Judged, bool], ...]

    @property
    def failing(self) -> list[Judged]:
        """The builds in which it was seen; at least one."""
        return [one for one, seen in self.versions if seen]

    def versions_in_words(self) -> str:
        """The first and the last version in which it was seen."""
        found = [one.version for one in self.failing]
        return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"

    @property
    def is_open(self) -> bool:
        """Whether it was seen in the newest build."""
        return self.versions[-1][1]


def series(kernel: str) -> str:
    """The series of a kernel's release: 6.18 of 6.18.44-distribution."""
    return ".".join(kernel.split(".")[:2])


def linked(text: str) -> str:
    """A reference as a link."""
    found = parse_reference(text)
    note = f" ({markdown(found.note)})" if found.note else ""
    return f"[{found.target}]({found.address}){note}"


def lines_of(
    deviation: Deviation, seen: Sequence[Seen], deviations: Deviations, docs: Path, page: Page
) -> Iterator[str]:
    """The lines of the page."""
    yield f"# {deviation.title}"
    yield ""
    yield "<!-- made by: overlay-conformance drivers pages -->"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| judgement | {deviation.judgement.value} |"
    yield f"| who says so | {markdown(deviation.by)} |"
    yield f"| upstream | {', '.join(map(linked, deviation.upstream)) or 'not found'} |"
    yield f"| source | {markdown(deviation.source) or 'not looked up'} |"
    yield f"| first and last seen | {'; '.join(f'{one.line} {one.versions_in_words()}' for one in seen)} |"
    yield f"| state | {_state(seen)} |"
    if deviation.report and (docs / "upstream" / f"{deviation.report}.md").exists():
        yield f"| report for upstream | [{deviation.report}](../upstream/{deviation.report}.md) |"
    yield ""
    yield "## What is required"
    yield ""
    requirements = load_requirements()
    for name in deviation.requirements:
        link = f"[{name}](../specification.md#{name.lower()})"
        yield f"- {link}, **{requirements[name].level}**: {requirements[name].sentence}"
    yield ""
    yield "## Why it matters"
    yield ""
    yield deviation.why
    yield ""
    yield "## Where it was seen"
    yield ""
    yield f"| {page.kind} | version | kernel | backing | seen |"
    yield "|---|---|---|---|---|"
    for same in seen:
        for one, there in same.versions:
            run = one.part.run
            facts = (same.line, one.version, series(run.kernel), ", ".join(run.backings), "yes" if there else "no")
            yield f"| {' | '.join(facts)} |"
    yield ""
    yield from _example(deviation, seen, deviations, page)


def _state(seen: Sequence[Seen]) -> str:
    still = [f"{one.line} {one.versions[-1][0].version}" for one in seen if one.is_open]
    gone = [f"{one.line} after {one.failing[-1].version}" for one in seen if not one.is_open]
    said = [f"open in {', '.join(still)}"] if still else []
    return "; ".join(said + ([f"not seen in {', '.join(gone)}"] if gone else []))


def _example(deviation: Deviation, seen: Sequence[Seen], deviations: Deviations, page: Page) -> Iterator[str]:
    yield "## Shortest example"
    yield ""
    if deviation.private:
        yield "Not published: this concerns security, and has to be reported in private first"
        yield "([SECURITY.md](../../SECURITY.md#vulnerabilities-of-other-drivers))."
        return
    found = [
        (one, outcome)
        for same in seen
        for one in same.failing[-1:]
        for requirement, outcome in one.failures
        if deviations.of(one.build.line, requirement, outcome) is deviation
    ]
    # One with a script is preferred, as it shows the deviation without this project.
    judged, outcome = min(found, key=lambda each: (each[1].evidence not in each[0].scripts, *_length(each[1])))
    yield f"{judged.build.name}, `{outcome.test}`: {markdown(cause_of(outcome))}."
    yield ""
    steps = folded(outcome.steps)
    more = [f"... and {len(steps) - _STEPS} more steps"] if len(steps) > _STEPS else []
    yield from fenced("\n".join([*steps[:_STEPS], *more]), "text")
    yield ""
    expected, actual = expected_and_actual(outcome)
    if expected:
        yield f"- expected: {markdown(expected)}"
    yield f"- actual: {markdown(actual)}"
    yield ""
    if outcome.evidence in judged.scripts:
        archive = f"{page.data}/{judged.build.name}.tar.xz"
        yield f"The archive `{archive}` has the script: `{outcome.evidence}/repro.sh`."


def _length(outcome: TestOutcome) -> tuple[int, str]:
    return len(outcome.steps) or 1 << 16, outcome.test
