"""Runs cells: one machine for each kernel, as many at a time as this host has room for.

A cell ends in one of three ways: with the result file of the suite; as lost, because its machine hung, crashed or
did not start, which is a result file too, with what the machine said last; or not at all, when the run was ended,
and then the next run takes it up. Whatever happens, machines that were made are destroyed.
"""

from __future__ import annotations

import datetime
import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.report.records import BadResults, Part, Run, read, write
from conformance.results import TestOutcome, Verdict
from vm.crash import REQUIREMENT, reset_in_the_middle
from vm.machines import Guest, MachineFailed, Place, destroy, reset, up
from vm.matrix import Overlay
from vm.plan import Cell

_PARAMETERS: Final = "/sys/module/overlay/parameters"
_OUT: Final = "/var/tmp/overlay-conformance-cell"
_GRACE: Final = 240  # seconds above a cell's budget: its start, the test that is under way, and its evidence
_LINES: Final = 60  # of a console, for whoever reads of a lost cell
_TROUBLE: Final = re.compile(
    r"kernel BUG|BUG: |Oops|general protection fault|Kernel panic|WARNING: CPU|possible deadlock|hung_task|"
    r"blocked for more than \d+ seconds|Call Trace"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is the same for all cells. ``budget`` is in seconds for each, ``releases`` of kernels by their names."""

    profile: str
    examples: int
    budget: float
    output: Path
    specification: str
    suite: str
    releases: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a cell: ``verdicts`` counts requirements, ``lost`` says why there are none."""

    cell: Cell
    seconds: float
    verdicts: dict[str, int]
    lost: str = ""


Tell = Callable[[str, str], None]
"""Called with the name of a cell and what is happening to it."""


class Stopped(Exception):
    """The run was ended from outside."""


def results_of(cell: Cell, asked: Asked) -> Path:
    """Where the result file of a cell is."""
    return asked.output / "cells" / cell.name / "results.jsonl"


def left_to_do(cells: Sequence[Cell], asked: Asked) -> list[Cell]:
    """Cells without a result that counts: none, one of other requirements, or of a machine that was lost."""
    return [cell for cell in cells if not _is_done(cell, asked)]


def _is_done(cell: Cell, asked: Asked) -> bool:
    try:
        (part,) = read(results_of(cell, asked))
    except (BadResults, ValueError):
        return False
    run = part.run
    same_question = (run.specification, run.profile, run.examples) == (
        asked.specification,
        asked.profile,
        asked.examples,
    )
    return same_question and set(run.selected) == set(cell.requirements) and not run.failure


def run_all(
    cells: Sequence[Cell], asked: Asked, place: Place, machines: int, tell: Tell, ended: Callable[[Done], None]
) -> list[Done]:
    """Run cells, each kernel's in its order; ``ended`` hears of each. Machines are destroyed, also on Ctrl-C."""
    for name in ("cells", "logs", "consoles"):
        (asked.output / name).mkdir(parents=True, exist_ok=True)
    by_kernel: dict[str, list[Cell]] = {}
    for cell in cells:
        by_kernel.setdefault(cell.kernel.name, []).append(cell)
    stop = threading.Event()
    found: list[Done] = []
    with ThreadPoolExecutor(machines) as pool:
        jobs = [pool.submit(_run_kernel, some, asked, place, stop, tell, ended) for some in by_kernel.values()]
        try:
            for job in as_completed(jobs):
                found += job.result()
        except BaseException:
            stop.set()
            for job in jobs:
                job.cancel()
            raise
    return found


def _run_kernel(
    cells: Sequence[Cell],
    asked: Asked,
    place: Place,
    stop: threading.Event,
    tell: Tell,
    ended: Callable[[Done], None],
) -> list[Done]:
    kernel = cells[0].kernel.name
    guest: Guest | None = None
    found = []
    try:
        for cell in cells:
            if stop.is_set():
                break
            began = time.monotonic()
            try:
                if guest is None:
                    tell(cell.name, "starting its machine")
                    guest = up(kernel, place)
                _run_cell(cell, guest, asked, stop, tell, place)
                done = Done(cell, time.monotonic() - began, _counts(results_of(cell, asked)))
            except (MachineFailed, BadResults, subprocess.CalledProcessError) as failed:
                why = f"{failed}\n{_last_words(place, kernel)}".strip()
                _write_lost(cell, asked, why)
                done = Done(cell, time.monotonic() - began, {}, lost=str(failed).splitlines()[0])
                guest = None
                _end(kernel, place)  # the next cell gets a new one
            found.append(done)
            ended(done)
    except Stopped:
        pass
    finally:
        tell(cells[-1].name, "")
        _end(kernel, place)
    return found


def _end(kernel: str, place: Place) -> None:
    """Destroy a machine. One that cannot be is no reason to lose other cells; ``clean`` finds it by its name."""
    with suppress(MachineFailed):
        destroy(kernel, place)


def _run_cell(cell: Cell, guest: Guest, asked: Asked, stop: threading.Event, tell: Tell, place: Place) -> None:
    """One run of the suite in a machine; raises MachineFailed, Stopped."""
    left = ""
    if REQUIREMENT in cell.requirements and place.provider == "libvirt":
        tell(cell.name, "resetting its machine in the middle of a history")
        heard = asked.output / "logs" / f"{cell.name}.heard"
        left = reset_in_the_middle(cell, guest, lambda: reset(guest.name, place), heard)
    tell(cell.name, "running")
    before = _set_parameters(guest, cell.overlay)
    guest.run(f"rm -rf {_OUT} && mkdir -p {_OUT}")
    log = asked.output / "logs" / f"{cell.name}.log"
    with log.open("wb") as output:
        process = guest.start(_command(cell, asked, left), output)
        deadline = time.monotonic() + asked.budget + _GRACE
        try:
            while process.poll() is None:
                if stop.wait(0.5):
                    raise Stopped
                if time.monotonic() > deadline:
                    raise MachineFailed(f"{cell.name} was not done {_GRACE} s after its budget; see {log}")
        finally:
            process.kill()
            process.wait()
    if process.returncode not in (0, 1, 2, 3):
        raise MachineFailed(f"{cell.name}: the connection to the machine ended ({process.returncode}); see {log}")
    tell(cell.name, "fetching its results")
    _fetch(cell, guest, asked)
    for name, value in before.items():
        guest.run(f"echo {value} >{_PARAMETERS}/{name}")


def _set_parameters(guest: Guest, overlay: Overlay) -> dict[str, str]:
    """What the parameters were before they were set."""
    before = {}
    for name, value in overlay.parameters.items():
        before[name] = guest.run(f"cat {_PARAMETERS}/{name}").decode().strip()
        guest.run(f"echo {value} >{_PARAMETERS}/{name}")
    return before


def _command(cell: Cell, asked: Asked, left: str) -> str:
    words = ["overlay-conformance", "run", cell.driver.connection, "--backing", cell.backing.name]
    words += ["--profile", asked.profile, "--examples", str(asked.examples), "--budget", f"{asked.budget:.0f}s"]
    words += ["--scratch", "/var/tmp", "--results", f"{_OUT}/results.jsonl", "--evidence", f"{_OUT}/evidence"]
    for one in cell.requirements:
        words += ["--requirement", one]
    return f"cd {_OUT} && {left}exec {shlex.join(words)}"


def _fetch(cell: Cell, guest: Guest, asked: Asked) -> None:
    """The result file and the folders of failures; raises MachineFailed if there is no result."""
    said = guest.run(f"cat {_OUT}/results.jsonl", limit=120)
    target = results_of(cell, asked)
    target.parent.mkdir(exist_ok=True)
    archive = guest.run(f"cd {_OUT} && mkdir -p evidence && tar -c evidence", limit=300)
    subprocess.run(["tar", "-x", "-C", str(target.parent)], input=archive, check=True)
    partial = target.with_suffix(".partial")
    partial.write_bytes(said)
    trouble = _trouble(guest)
    if trouble:
        write(partial, [_with_trouble(part, cell, trouble) for part in read(partial)])
    partial.rename(target)


def _trouble(guest: Guest) -> list[str]:
    """Lines of the kernel's log that no healthy kernel writes, each once."""
    log = guest.run("dmesg -c").decode(errors="replace")
    lines = (re.sub(r"^\[ *[\d.]+\] ", "", line) for line in log.splitlines())
    return list(dict.fromkeys(line for line in lines if _TROUBLE.search(line)))


def _with_trouble(part: Part, cell: Cell, trouble: Sequence[str]) -> Part:
    """The finding that the kernel itself went wrong, whatever the driver did."""
    outcome = TestOutcome(
        "the_kernel_stays_well",
        (cell.requirements[0],),
        Verdict.ERROR,
        "the guest's kernel said: " + "; ".join(trouble[:10]),
        backing=cell.backing.name,
        kernel=tuple(trouble),
    )
    return Part(part.run, (*part.outcomes, outcome))


def _counts(file: Path) -> dict[str, int]:
    (part,) = read(file)
    found: dict[str, int] = {}
    for result in part.results():
        found[result.verdict.value] = found.get(result.verdict.value, 0) + 1
    return found


def _last_words(place: Place, kernel: str) -> str:
    try:
        text = (place.consoles / f"{kernel}.console").read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-_LINES:])


def _write_lost(cell: Cell, asked: Asked, why: str) -> None:
    run = Run(
        suite=asked.suite,
        specification=asked.specification,
        connection=cell.driver.connection,
        driver=cell.driver.connection,
        version="unknown",
        kernel=asked.releases[cell.kernel.name],
        machine=os.uname().machine,
        lane="none",
        profile=asked.profile,
        examples=asked.examples,
        seed=0,
        backings=(cell.backing.name,),
        selected=cell.requirements,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        failure=why,
        overlay=dict(cell.overlay.parameters),
    )
    outcome = TestOutcome("the_machine", cell.requirements, Verdict.ERROR, why, backing=cell.backing.name)
    file = results_of(cell, asked)
    file.parent.mkdir(exist_ok=True)
    write(file, [Part(run, (outcome,))])
