"""A cell whose machine did not start, hung or crashed: its result file, and what the machine said last."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path
from typing import Final

from conformance import health
from conformance.report.records import Part, Run, write
from conformance.results import TestOutcome, Verdict
from vm.plan import Cell

_LINES: Final = 60  # of a console, for whoever reads of it
_FOLDER: Final = "evidence/the_machine"


def write_lost(
    cell: Cell, file: Path, console: Path, why: str, *, suite: str, specification: str, release: str, profile: str,
    examples: int,
) -> None:  # fmt: skip
    """The result file of a lost cell: an ERROR of all that it judges, with the console in a folder beside it.

    If the console tells that the kernel broke down, that is a finding of its own.
    """
    said = _read(console)
    text = f"{why}\n" + "\n".join(said[-_LINES:]).strip()
    run = Run(
        suite=suite,
        specification=specification,
        connection=cell.driver.connection,
        driver=cell.driver.connection,
        version="unknown",
        kernel=release,
        machine=os.uname().machine,
        lane="none",
        profile=profile,
        examples=examples,
        seed=0,
        backings=(cell.backing.name,),
        selected=cell.requirements,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        failure=text.strip(),
        overlay=dict(cell.overlay.parameters),
    )
    shutil.rmtree(file.parent, ignore_errors=True)
    folder = file.parent / _FOLDER
    folder.mkdir(parents=True)
    (folder / "console.log").write_text("\n".join(said) + "\n")
    outcomes = []
    trace = health.trouble(said)
    judged_by_trace = (health.REQUIREMENT,) if trace else ()
    rest = tuple(one for one in cell.requirements if one not in judged_by_trace)
    if rest:
        lost = TestOutcome("the_machine", rest, Verdict.ERROR, why, backing=cell.backing.name, evidence=_FOLDER)
        outcomes.append(lost)
    if trace:
        (folder / "kernel.log").write_text("\n".join(trace) + "\n")
        outcomes.append(health.broken(trace, cell.backing.name, _FOLDER))
    (folder / "failure.md").write_text(_in_words(cell, why, said, trace))
    write(file, [Part(run, tuple(outcomes))])


def _read(console: Path) -> list[str]:
    try:
        return [line.rstrip() for line in console.read_text(errors="replace").splitlines()]
    except OSError:
        return []


def _in_words(cell: Cell, why: str, said: list[str], trace: list[str]) -> str:
    lines = [f"# {cell.name}: the machine was lost", "", *why.splitlines(), ""]
    if trace:
        lines += ["Its kernel broke down (`kernel.log`):", "", "```", *trace, "```", ""]
    lines += ["The end of its console (`console.log`):", "", "```", *said[-_LINES:], "```"]
    return "\n".join(lines) + "\n"
