"""A cell whose machine did not start, hung or crashed: its result file, and what the machine said last."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from conformance.report.records import Part, Run, write
from conformance.spec import health
from conformance.spec.verdicts import TestOutcome, Verdict
from vm.plan import Cell

UNKNOWN: Final = "unknown"  # the version of a driver that was never opened
_LINES: Final = 60  # of a console, for whoever reads of it
_FOLDER: Final = "evidence/the_machine"


def unheard(cell: Cell, **known: Any) -> Run:
    """A run of a cell of which nothing was heard; ``known`` is what was asked for."""
    return Run(
        connection=cell.driver.connection,
        driver=cell.driver.connection,
        version=UNKNOWN,
        machine=os.uname().machine,
        lane="none",
        seed=0,
        backings=(cell.backing.name,),
        selected=cell.requirements,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        overlay=dict(cell.overlay.parameters),
        **known,
    )


def write_lost(run: Run, file: Path, console: Path, why: str) -> None:
    """The result file of a lost cell: an ERROR of all that it judges, with the console in a folder beside it.

    If the console tells that the kernel broke down, that is a finding of its own.
    """
    said = _read(console)
    backing = run.backings[0]
    text = f"{why}\n" + "\n".join(said[-_LINES:])
    shutil.rmtree(file.parent, ignore_errors=True)
    folder = file.parent / _FOLDER
    folder.mkdir(parents=True)
    (folder / "console.log").write_text("\n".join(said) + "\n")
    outcomes = []
    trace = health.trouble(said)
    judged_by_trace = (health.REQUIREMENT,) if trace else ()
    rest = tuple(one for one in run.selected if one not in judged_by_trace)
    if rest:
        lost = TestOutcome("the_machine", rest, Verdict.ERROR, why, backing=backing, evidence=_FOLDER)
        outcomes.append(lost)
    if trace:
        (folder / "kernel.log").write_text("\n".join(trace) + "\n")
        outcomes.append(health.broken(trace, backing, _FOLDER))
    (folder / "failure.md").write_text(_in_words(run, why, said, trace))
    write(file, [Part(replace(run, failure=text.strip()), tuple(outcomes))])


def recognised(found: Sequence[Sequence[Part]]) -> list[list[Part]]:
    """The same parts; those of lost cells have the name and version that their driver told in other cells."""
    told = {part.run.connection: part.run for parts in found for part in parts if part.run.version != UNKNOWN}
    return [[_recognised(part, told) for part in parts] for parts in found]


def _recognised(part: Part, told: Mapping[str, Run]) -> Part:
    known = told.get(part.run.connection)
    if known is None or part.run.version != UNKNOWN:
        return part
    same: dict[str, Any] = {
        "driver": known.driver,
        "version": known.version,
        "lane": known.lane,
        "declined": known.declined,
    }
    return Part(replace(part.run, **same), part.outcomes)


def _read(console: Path) -> list[str]:
    try:
        return [line.rstrip() for line in console.read_text(errors="replace").splitlines()]
    except OSError:
        return []


def _in_words(run: Run, why: str, said: list[str], trace: list[str]) -> str:
    lines = [f"# {run.kernel}, {run.driver} on {run.backings[0]}: the machine was lost", "", *why.splitlines(), ""]
    if trace:
        lines += ["Its kernel broke down (`kernel.log`):", "", "```", *trace, "```", ""]
    lines += ["The end of its console (`console.log`):", "", "```", *said[-_LINES:], "```"]
    return "\n".join(lines) + "\n"
