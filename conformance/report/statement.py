"""A statement of conformance: what may be said of a driver after these runs, and what may not.

A driver is called conformant only if every core requirement (conformance.spec.is_core) passed in every column, and
none of level MUST failed, known failures included. What was left out is listed with its reason. A run of the
profile smoke or quick, one with fewer examples than the profile standard has, or one with core requirements left
out, determines nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from conformance.history.printable import markdown
from conformance.report.matrix import Column, Matrix
from conformance.report.records import Run
from conformance.spec import Capability, Requirement, is_core
from conformance.spec.naming import counted
from conformance.spec.profiles import EXAMPLES, PARTIAL
from conformance.spec.verdicts import Verdict, totals

FORMAT: Final = 1
CONFORMANT: Final = "conformant"
NOT_CONFORMANT: Final = "not conformant"
UNDETERMINED: Final = "not determined"
_NEEDED: Final = "standard"  # the profile whose examples a claim needs
_LEFT_OUT: Final = (Verdict.DECLINED, Verdict.NOT_APPLICABLE, Verdict.UNTESTED)
_BROKEN: Final = (Verdict.FAIL, Verdict.XFAIL)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A requirement that was not judged in some column; ``core`` ones stand in the way of conformance."""

    requirement: str
    level: str
    core: bool
    verdict: str
    reason: str
    where: str


@dataclass(frozen=True, slots=True)
class Statement:
    """``counts`` has, for each level, how many of the selected requirements have which verdict over all columns.

    ``examples`` are those of each property, ``budgets`` what --budget said, of all runs.
    """

    format: int
    conclusion: str
    because: str
    driver: str
    version: str
    suite: tuple[str, ...]
    specification: tuple[str, ...]
    profiles: tuple[str, ...]
    kernels: tuple[str, ...]
    backings: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    failed: tuple[str, ...]
    known: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    examples: tuple[int, ...] = ()
    budgets: tuple[str, ...] = ()

    @property
    def effort(self) -> str:
        """How many examples the claim rests on, such as "10 examples for each property"."""
        least, most = min(self.examples, default=0), max(self.examples, default=0)
        said = counted(most, "example") if least == most else f"{least} to {most} examples"
        return f"{said} for each property" + "".join(f", budget {one}" for one in self.budgets)


def statements(
    matrix: Matrix, requirements: Mapping[str, Requirement], capabilities: Mapping[str, Capability]
) -> list[Statement]:
    """A statement for each driver in each version."""
    drivers = sorted({(column.driver, column.version) for column in matrix.columns})
    return [_statement(name, version, matrix, requirements, capabilities) for name, version in drivers]


@dataclass(frozen=True, slots=True)
class _Basis:
    """What the claim about a driver in one version rests on."""

    columns: list[Column]
    runs: list[Run]
    worst: Mapping[str, Verdict]
    left_out: list[LeftOut]


def _basis(
    name: str,
    version: str,
    matrix: Matrix,
    requirements: Mapping[str, Requirement],
    capabilities: Mapping[str, Capability],
) -> _Basis:
    columns = [one for one in matrix.columns if (one.driver, one.version) == (name, version)]
    verdicts = matrix.verdicts(columns)
    left_out = [
        left
        for one in requirements.values()
        for left in _left_out(one, columns, matrix, is_core(one, capabilities))
    ]
    return _Basis(
        columns,
        [run for run in matrix.runs if (run.driver, run.version) == (name, version)],
        {one: verdicts.get(one, Verdict.UNTESTED) for one in requirements},
        left_out,
    )


def obstacles(
    name: str,
    version: str,
    matrix: Matrix,
    requirements: Mapping[str, Requirement],
    capabilities: Mapping[str, Capability],
) -> list[str]:
    """Why the runs of a driver do not determine whether it is conformant, apart from what failed."""
    basis = _basis(name, version, matrix, requirements, capabilities)
    return list(_obstacles(basis, [one for one in requirements.values() if one.level == "MUST"]))


def _statement(
    name: str,
    version: str,
    matrix: Matrix,
    requirements: Mapping[str, Requirement],
    capabilities: Mapping[str, Capability],
) -> Statement:
    basis = _basis(name, version, matrix, requirements, capabilities)
    columns, runs, worst = basis.columns, basis.runs, basis.worst
    counts = totals(matrix.verdicts(columns), requirements)
    conclusion, because = _conclusion(basis, requirements)
    return Statement(
        FORMAT,
        conclusion,
        because,
        name,
        version,
        tuple(sorted({run.suite for run in runs})),
        tuple(sorted({run.specification for run in runs})),
        tuple(sorted({column.profile for column in columns})),
        tuple(sorted({column.kernel for column in columns}, key=release_key)),
        tuple(sorted({column.backing for column in columns})),
        {level: {verdict.value: count for verdict, count in found.items()} for level, found in counts.items()},
        tuple(one for one, verdict in worst.items() if verdict in (Verdict.FAIL, Verdict.XPASS, Verdict.ERROR)),
        tuple(one for one, verdict in worst.items() if verdict is Verdict.XFAIL),
        tuple(basis.left_out),
        tuple(sorted({run.examples for run in runs})),
        tuple(sorted({run.budget for run in runs if run.budget})),
    )


def release_key(release: str) -> tuple[tuple[int, ...], str]:
    """What orders kernel releases: their numbers, not their letters."""
    return tuple(map(int, re.findall(r"\d+", release)[:3])), release


def _left_out(requirement: Requirement, columns: list[Column], matrix: Matrix, core: bool) -> list[LeftOut]:
    found: dict[tuple[Verdict, str], list[str]] = {}
    for column in columns:
        cell = matrix.cells.get((requirement.id, column))
        verdict = cell.verdict if cell else Verdict.UNTESTED
        if verdict in _LEFT_OUT:
            reason = cell.outcomes[0].reason if cell and cell.outcomes else "no test of it ran"
            found.setdefault((verdict, reason), []).append(f"Linux {column.kernel}, {column.backing}")
    return [
        LeftOut(requirement.id, requirement.level, core, verdict.value, reason, "; ".join(where))
        for (verdict, reason), where in found.items()
    ]


def _conclusion(basis: _Basis, requirements: Mapping[str, Requirement]) -> tuple[str, str]:
    must = [one for one in requirements.values() if one.level == "MUST"]
    broken = [one.id for one in must if basis.worst[one.id] in _BROKEN]
    if broken:
        return NOT_CONFORMANT, f"{len(broken)} requirements of level MUST failed: {', '.join(broken)}"
    if obstacle := next(_obstacles(basis, must), ""):
        return UNDETERMINED, obstacle
    return CONFORMANT, "every core requirement passed, and none of level MUST failed"


def _obstacles(basis: _Basis, must: Sequence[Requirement]) -> Iterator[str]:
    runs = basis.runs
    if any(run.interrupted for run in runs):
        yield "a run was interrupted, so not all tests ran"
    elif any(run.failure for run in runs) or any(verdict is Verdict.ERROR for verdict in basis.worst.values()):
        yield "the harness failed in some test, which says nothing about the driver"
    unexpected = [one.id for one in must if basis.worst[one.id] is Verdict.XPASS]
    if unexpected:
        yield f"expected failures did not occur: {', '.join(unexpected)}"
    yield from [run.stopped for run in runs if run.stopped][:1]
    missing = sorted({left.requirement for left in basis.left_out if left.core})
    if missing:
        yield f"{len(missing)} core requirements were left out: {', '.join(missing)}"
    if chosen := [run.expression for run in runs if run.expression]:
        yield f"the option -k {shlex.quote(chosen[0])} left out tests"
    partial = sorted({column.profile for column in basis.columns} & set(PARTIAL))
    if partial:
        yield f"the profile {partial[0]} leaves out tests of most requirements"
    few = min((run.examples for run in runs), default=0)
    if few < EXAMPLES[_NEEDED]:
        needed = f"a claim needs the {EXAMPLES[_NEEDED]} of the profile {_NEEDED}"
        yield f"a run tried {counted(few, 'example')} for each property only: {needed}"


def statement_markdown(statement: Statement) -> str:
    """The statement for people."""
    kernels = span(statement.kernels)
    lines = [
        f"# {markdown(f'{statement.driver} {statement.version}')}: {statement.conclusion}",
        "",
        f"{statement.because[0].upper()}{statement.because[1:]}.",
        "",
        f"Judged by overlay-conformance {', '.join(statement.suite)} (specification"
        f" {', '.join(statement.specification)}), profile {', '.join(statement.profiles)},"
        f" {markdown(statement.effort)}, on Linux"
        f" {markdown(kernels)}, backing filesystems {markdown(', '.join(statement.backings))}.",
        "",
    ]
    verdicts = [
        verdict.value for verdict in Verdict if any(verdict.value in found for found in statement.counts.values())
    ]
    lines += [f"| level | {' | '.join(verdicts)} |", f"|---|{'---|' * len(verdicts)}"]
    for level, found in statement.counts.items():
        lines.append(f"| {level} | {' | '.join(str(found.get(verdict, 0)) for verdict in verdicts)} |")
    lines.append("")
    for title, names in (("Failed", statement.failed), ("Known failures", statement.known)):
        if names:
            lines += [f"{title}: {', '.join(names)}.", ""]
    if statement.left_out:
        lines += [
            "Not judged:",
            "",
            "| requirement | level | core | verdict | reason | where |",
            "|---|---|---|---|---|---|",
        ]
        for left in statement.left_out:
            core = "core" if left.core else ""
            said = f"{markdown(left.reason)} | {markdown(left.where)}"
            lines.append(f"| {left.requirement} | {left.level} | {core} | {left.verdict} | {said} |")
        lines.append("")
    return "\n".join(lines)


def span(kernels: tuple[str, ...]) -> str:
    """A range of releases, or the only one."""
    return kernels[0] if len(kernels) == 1 else f"{kernels[0]} to {kernels[-1]}" if kernels else "none"
