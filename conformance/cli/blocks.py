"""The failures of a run as they happen: one block for each cause, each once, in a bounded number of lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from conformance.harness.events import Event, Opened
from conformance.history.printable import one_line
from conformance.report.brief import expected_and_actual, folded
from conformance.report.causes import EXPLAINED, cause_of, where_it_stood
from conformance.report.consequences import LABEL, consequence_of
from conformance.spec import Requirement
from conformance.spec.verdicts import TestOutcome

LINES: Final = 12  # of a block, at most
WIDTH: Final = 160  # of a line in a block
_WHOLE: Final = 40  # lines of blocks; after these, a block has one line
_NAMED: Final = 4  # requirements in the first line of a block
_WHERE: Final = 3  # lines of where a call stood that was not answered


class Blocks:
    """Hears of outcomes and prints the first failure of each cause.

    ``say`` prints a line. ``settled`` gives an outcome as it counts: a known failure is none. ``folder`` gives the
    evidence folder of an outcome, "" for none. If nobody reads any more, the run goes on without blocks.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        requirements: Mapping[str, Requirement],
        settled: Callable[[TestOutcome, str], TestOutcome],
        folder: Callable[[TestOutcome], str],
    ) -> None:
        self._say = say
        self._requirements = requirements
        self._settled = settled
        self._folder = folder
        self._version = ""
        self.absent: Mapping[str, str] = {}  # what the driver certainly lacks and does not decline
        self._lines = 0
        self._lost = False
        self._numbers: dict[str, int] = {}

    def hear(self, event: Event) -> None:
        """Print the block of a failure whose cause is new."""
        match event:
            case Opened():
                self._version, self.absent = event.version, event.absent
            case TestOutcome():
                try:
                    self.show(self._settled(event, self._version))
                except BrokenPipeError:
                    self._lost = True

    def show(self, outcome: TestOutcome) -> None:
        """Print the block of an outcome, if it is a failure whose cause is new; raises BrokenPipeError."""
        cause = cause_of(outcome) if outcome.verdict in EXPLAINED else ""
        if not cause or cause in self._numbers:
            return
        self._numbers[cause] = number = len(self._numbers) + 1
        if self._lost:
            return
        lines = block(number, cause, outcome, self._requirements, self._folder(outcome))
        if self._lines + len(lines) > _WHOLE:
            lines = lines[:1]
        for line in lines:
            self._say(line)
        self._lines += len(lines)

    def number(self, outcome: TestOutcome) -> int:
        """The number of the block with the cause of a failure; 0 if there is none."""
        return self._numbers.get(cause_of(outcome), 0)


def block(
    number: int, cause: str, outcome: TestOutcome, requirements: Mapping[str, Requirement], folder: str
) -> list[str]:
    """At most LINES lines: requirements, level, sentence, consequence, expected and actual, steps, evidence."""
    known = [requirements[one] for one in outcome.requirements if one in requirements]
    named = ", ".join(outcome.requirements[:_NAMED])
    more = len(outcome.requirements) - _NAMED
    named += f" and {more} more" if more > 0 else ""
    levels = "/".join(dict.fromkeys(one.level for one in known))
    expected, actual = expected_and_actual(outcome)
    own = cause.startswith(", ".join(outcome.requirements))
    where = where_it_stood(outcome)
    words = f"expected {expected}, found {actual}" if own and expected else actual if own or where else cause
    lines = [f"[{number}] {outcome.verdict.value} {named} ({levels}): {words}"]
    lines += [f"    why: {one.sentence}" for one in known[:1]]
    consequence = consequence_of(outcome, requirements)
    lines += [f"    {LABEL}: {consequence}"] if consequence else []
    lines += [f"    expected: {expected}"] if expected else []
    lines.append(f"    actual:   {actual}")
    lines += [f"    {'         ' if index else 'in:      '} {one}" for index, one in enumerate(where[:_WHERE])]
    ending = [f"    evidence: {folder}"] if folder else [f"    test: {outcome.test}"]
    room = LINES - len(lines) - len(ending) - 1
    lines += _steps(folded(outcome.steps), room) + ending
    return [*(_cut(line) if line not in ending else line for line in lines), ""]


def _steps(steps: Sequence[str], room: int) -> list[str]:
    """The last steps, as many as there is room for; the first line says how many are left out."""
    if not steps:
        return []
    shown = steps if len(steps) <= room else steps[len(steps) - room + 1 :]
    left_out = len(steps) - len(shown)
    lines = [f"    steps:    ... {left_out} before these"] if left_out else []
    for number, step in enumerate(shown):
        lines.append(f"    {'steps:   ' if not lines and not number else '         '} {step}")
    return lines


def _cut(line: str) -> str:
    line = one_line(line)
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ..."
