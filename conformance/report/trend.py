"""What became of failures from one run of a driver to another: NEW, STILL, GONE and FIXED.

A requirement is compared place by place. Places are those parts of a column in which the columns of a side differ:
two runs on one kernel each are compared whatever the two kernels are, and the difference is named.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from conformance.history.printable import cut
from conformance.report.brief import expected_and_actual, short
from conformance.report.causes import cause_of
from conformance.report.matrix import Cell, Column, Matrix, matrix_of
from conformance.report.records import BadResults, Part, Run
from conformance.spec import LEVELS, Requirement
from conformance.spec.values import Count, Key, RequirementId
from conformance.spec.verdicts import Verdict

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("trend.schema.json")
_FAILING: Final = (Verdict.FAIL, Verdict.XFAIL)
_PASSING: Final = (Verdict.PASS, Verdict.XPASS)
_BRIEF: Final = 300  # characters
_IDS: Final = 3  # requirements of a selection that are named


class Change(enum.Enum):
    """What became of a requirement, the most important first.

    A failure is NEW if it was none before, STILL if it was one, FIXED if the requirement passes now, and GONE if
    the requirement has no verdict now. A requirement that passed and has no verdict now is LOST, the reverse
    GAINED.
    """

    NEW = "NEW"
    GONE = "GONE"
    LOST = "LOST"
    FIXED = "FIXED"
    STILL = "STILL"
    GAINED = "GAINED"


MEANING: Final[Mapping[Change, str]] = {
    Change.NEW: "it fails, and did not fail before",
    Change.GONE: "it failed, and has no verdict any more",
    Change.LOST: "it passed, and has no verdict any more",
    Change.FIXED: "it failed, and passes",
    Change.STILL: "it failed before, and fails",
    Change.GAINED: "it passes, and had no verdict before",
}
CONCLUSIONS: Final[Mapping[int, str]] = {
    0: "no failure is new",
    1: "failures are new",
    2: "the harness failed or was interrupted, and no failure is new in the rest",
    3: "no requirement has a verdict in both",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A cause of failures, with the first of them; the texts are short."""

    cause: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of one requirement in one place."""

    change: Change
    requirement: RequirementId
    level: Annotated[str, Key("Empty if this version of the suite does not have the requirement.")]
    place: Annotated[str, Key("Driver, kernel and so on, where the results have several; else empty.")]
    before: Annotated[
        Verdict | None, Key("The verdict in OLD; absent if the requirement was not selected.", omitted=True)
    ] = None
    after: Annotated[
        Verdict | None, Key("The verdict in NEW; absent if the requirement was not selected.", omitted=True)
    ] = None
    causes_before: Annotated[tuple[Seen, ...], Key("Causes of its failures in OLD.")] = ()
    causes: Annotated[tuple[Seen, ...], Key("Causes of its failures in NEW.")] = ()
    reason: Annotated[str, Key("Why it has no verdict, on that side where it has none.")] = ""

    @property
    def shown(self) -> tuple[Seen, ...]:
        """The causes that it is shown under: those of its failure, or of the failure that it had."""
        return self.causes or self.causes_before


@dataclass(frozen=True, slots=True)
class Differing:
    """A fact in which the two sides differ."""

    what: str
    old: str
    new: str
    of_driver: Annotated[
        bool, Key("Whether the driver changed; if not, a change of a verdict may have another reason.")
    ] = False


@dataclass(frozen=True, slots=True)
class Trend:
    """All that changed from the results OLD to the results NEW."""

    format: Literal[1]
    old: Annotated[str, Key("Driver, version and start of OLD.")]
    new: Annotated[str, Key("Driver, version and start of NEW.")]
    differences: tuple[Differing, ...]
    counts: Annotated[Mapping[Change, Count], Key("Number of requirements.", every=True)]
    compared: Annotated[Count, Key("Requirements with a verdict, PASS or failure, in both.")]
    changes: tuple[Changed, ...]
    exit_code: Annotated[Literal[0, 1, 2, 3], Key("docs/exit-codes.md")]

    def groups(self, change: Change) -> list[Group]:
        """The requirements of one change by cause and level; severe and frequent causes first."""
        found: dict[str, list[Changed]] = {}
        first: dict[str, Seen] = {}
        for one in self.changes:
            for seen in (one.shown or (_PASSED,)) if one.change is change else ():
                found.setdefault(seen.cause, []).append(one)
                first.setdefault(seen.cause, seen)
        groups = [Group(first[cause], tuple(same)) for cause, same in found.items()]
        return sorted(groups, key=lambda one: (_rank(one.level), -len(one.changed)))


@dataclass(frozen=True, slots=True)
class Group:
    """Requirements with the same change and cause, of which ``seen`` is the first; empty for LOST and GAINED."""

    seen: Seen
    changed: tuple[Changed, ...]

    @property
    def cause(self) -> str:
        """The cause in words."""
        return self.seen.cause

    @property
    def level(self) -> str:
        """The highest level."""
        return min((one.level for one in self.changed), key=_rank)

    @property
    def requirements(self) -> dict[str, tuple[str, ...]]:
        """The places of each requirement; () where there is only one place."""
        found: dict[str, list[str]] = {}
        for one in self.changed:
            found.setdefault(one.requirement, []).extend([one.place] if one.place else [])
        return {name: tuple(places) for name, places in found.items()}

    @property
    def reason(self) -> str:
        """Why there is no verdict, as the first says."""
        return next((one.reason for one in self.changed if one.reason), "")

    @property
    def others(self) -> tuple[str, ...]:
        """Of a failure that is there STILL, the causes that only one side has."""
        sides = [(one.causes, one.causes_before) for one in self.changed if one.change is Change.STILL]
        differing = [{one.cause for one in now} ^ {one.cause for one in before} for now, before in sides]
        return tuple(sorted(set().union(*differing) - {self.cause}))


_PASSED: Final = Seen("", "", "")


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def compare(old: Sequence[Part], new: Sequence[Part], requirements: Mapping[str, Requirement]) -> Trend:
    """Compare the results of two runs; raises BadResults for drivers of two kinds."""
    kinds = [sorted({part.run.connection.partition(":")[0] for part in parts}) for parts in (old, new)]
    if kinds[0] != kinds[1]:
        said = " and ".join(", ".join(one) for one in kinds)
        raise BadResults(
            f"these are results of two kinds of drivers, {said}; 'report OLD NEW' shows them beside each other"
        )
    before, after = matrix_of(old, requirements), matrix_of(new, requirements)
    place = _placing(before.columns, after.columns)
    cells = _cells(before, place), _cells(after, place)
    changes = tuple(_changes(*cells, requirements))
    both = [key for key in cells[0].keys() & cells[1].keys() if _judged(cells[0][key]) and _judged(cells[1][key])]
    counts = {change: len({one.requirement for one in changes if one.change is change}) for change in Change}
    return Trend(
        1,
        _title([part.run for part in old]),
        _title([part.run for part in new]),
        tuple(_differences([part.run for part in old], [part.run for part in new])),
        counts,
        len({requirement for requirement, _ in both}),
        changes,
        _exit_code(changes, new, cells[1].values(), bool(both)),
    )


def _title(runs: Sequence[Run]) -> str:
    names = dict.fromkeys(f"{run.driver} {run.version}" for run in runs)
    return ", ".join([*names, min(run.started for run in runs)]).removesuffix(", ")


def _exit_code(
    changes: Iterable[Changed], new: Iterable[Part], cells: Iterable[Cell], compared: bool
) -> Literal[0, 1, 2, 3]:
    if any(one.change is Change.NEW and one.after is Verdict.FAIL for one in changes):
        return 1
    if any(part.run.failure for part in new) or any(one.verdict is Verdict.ERROR for one in cells):
        return 2
    return 0 if compared else 3


# ---- Places.


def _placing(*sides: Sequence[Column]) -> Callable[[Column], str]:
    """What names the place of a column: the parts of which a side has several.

    Kernels are series (6.1), unless a side has two releases of one series. The version is a part only if a side
    has two versions of one driver.
    """

    def kernel(column: Column) -> str:
        found = re.match(r"\d+\.\d+", column.kernel)
        return found[0] if found else column.kernel

    def several(of: Callable[[Column], object]) -> bool:
        return any(len(set(map(of, side))) > 1 for side in sides)

    def ambiguous(of: Callable[[Column], object], whole: Callable[[Column], object]) -> bool:
        return any(len(set(map(of, side))) < len(set(map(whole, side))) for side in sides)

    exact = ambiguous(kernel, lambda one: one.kernel)
    versions = ambiguous(lambda one: one.driver, lambda one: (one.driver, one.version))
    parts: dict[str, Callable[[Column], str]] = {
        "driver": lambda one: one.driver,
        "kernel": (lambda one: f"Linux {one.kernel}") if exact else (lambda one: f"Linux {kernel(one)}"),
        "backing": lambda one: one.backing,
        "lane": lambda one: one.lane,
        "profile": lambda one: one.profile,
    }
    if versions:
        parts["driver"] = lambda one: f"{one.driver} {one.version}"
    used = [of for of in parts.values() if several(of)]
    return lambda column: ", ".join(of(column) for of in used)


def _cells(matrix: Matrix, place: Callable[[Column], str]) -> dict[tuple[str, str], Cell]:
    return {(name, place(column)): cell for (name, column), cell in matrix.cells.items()}


# ---- Requirements.


def _judged(cell: Cell | None) -> bool:
    return cell is not None and cell.verdict in (*_FAILING, *_PASSING)


def _failing(cell: Cell | None) -> bool:
    return cell is not None and cell.verdict in _FAILING


def _changes(
    old: Mapping[tuple[str, str], Cell],
    new: Mapping[tuple[str, str], Cell],
    requirements: Mapping[str, Requirement],
) -> Iterator[Changed]:
    order = {name: number for number, name in enumerate(requirements)}
    for key in sorted({**old, **new}, key=lambda one: (order.get(one[0], len(order)), *one)):
        before, after = old.get(key), new.get(key)
        change = _change(before, after)
        if change is None:
            continue
        without = next((one for one in (after, before) if one and not _judged(one)), None)
        yield Changed(
            change,
            key[0],
            requirements[key[0]].level if key[0] in requirements else "",
            key[1],
            before.verdict if before else None,
            after.verdict if after else None,
            _causes(before),
            _causes(after),
            _reason(without),
        )


def _change(before: Cell | None, after: Cell | None) -> Change | None:
    """None for what passes on both sides, has no verdict on either, or was not selected on one."""
    match _failing(before), _failing(after):
        case True, True:
            return Change.STILL
        case False, True:
            return Change.NEW
        case True, False:
            return Change.FIXED if _judged(after) else Change.GONE
    if before is None or after is None or _judged(before) == _judged(after):
        return None
    return Change.LOST if _judged(before) else Change.GAINED


def _causes(cell: Cell | None) -> tuple[Seen, ...]:
    found: dict[str, Seen] = {}
    for outcome in cell.outcomes if cell and _failing(cell) else ():
        cause = cause_of(outcome)
        if cause not in found:
            found[cause] = Seen(cause, *(cut(one, _BRIEF) for one in expected_and_actual(outcome)))
    return tuple(found.values())


def _reason(cell: Cell | None) -> str:
    if cell is None:
        return ""
    said = next((one.reason for one in cell.outcomes if one.reason), "no test of it ran")
    verdict = cell.verdict.value
    said = short(said.partition("\n")[0]).removeprefix(f"{verdict.lower().replace('-', ' ')}: ")
    return cut(f"{verdict}: {said}", _BRIEF)


# ---- What else differs.


@dataclass(frozen=True, slots=True)
class _Fact:
    """A fact of runs, in words."""

    what: str
    of: Callable[[Run], Iterable[str]]
    of_driver: bool = False


_FACTS: Final = (
    _Fact("driver", lambda run: [run.connection]),
    _Fact("version of the driver", lambda run: [run.version], of_driver=True),
    _Fact("declined capabilities", lambda run: run.declined, of_driver=True),
    _Fact("version of the suite", lambda run: [run.suite]),
    _Fact("specification", lambda run: [run.specification]),
    _Fact("profile", lambda run: [run.profile]),
    _Fact("examples", lambda run: [str(run.examples)]),
    _Fact("budget", lambda run: [run.budget] if run.budget else []),
    _Fact("seed", lambda run: [str(run.seed)]),
    _Fact("selected tests (-k)", lambda run: [run.expression] if run.expression else []),
    _Fact("limit of failures", lambda run: [run.stopped] if run.stopped else []),
    _Fact("failure", lambda run: [short(run.failure.partition("\n")[0])] if run.failure else []),
    _Fact("kernel", lambda run: [run.kernel]),
    _Fact("machine", lambda run: [run.machine]),
    _Fact("privilege level", lambda run: [run.lane]),
    _Fact("backing filesystem", lambda run: run.backings),
    _Fact("capabilities that the host lacks", lambda run: run.lacking),
)


def _differences(old: Sequence[Run], new: Sequence[Run]) -> Iterator[Differing]:
    for fact in _FACTS:
        before, after = (sorted({word for run in runs for word in fact.of(run)}) for runs in (old, new))
        if before != after:
            yield Differing(
                fact.what, ", ".join(before) or "none", ", ".join(after) or "none", of_driver=fact.of_driver
            )
    chosen, now_chosen = ({one for run in runs for one in run.selected} for runs in (old, new))
    if chosen != now_chosen:
        said = _selection(chosen, now_chosen), _selection(now_chosen, chosen)
        yield Differing("selected requirements", *said)


def _selection(own: set[str], other: set[str]) -> str:
    only = sorted(own - other)
    more = f" and {len(only) - _IDS} more" if len(only) > _IDS else ""
    return f"{len(own)}" + (f", of these only here {', '.join(only[:_IDS])}{more}" if only else "")
