"""Runs cells: one machine for each kernel and system, as many concurrently as this host has room for.

A cell ends in one of three ways: with the result file of the suite; as lost, because its machine hung, crashed or
did not start, which is a result file too, with what the machine said last; or not at all, when the run was ended,
and then the next run takes it up. Whatever happens, machines that were made are destroyed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from conformance.report.records import BadResults, Part, read, write
from conformance.spec import health
from conformance.spec.profiles import PARTIAL
from conformance.spec.verdicts import Verdict
from vm import commands, uml
from vm import machines as vagrant
from vm.crash import REQUIREMENT, reset_in_the_middle
from vm.keeping import joined, keep_evidence, kept
from vm.lost import unheard, write_lost
from vm.machines import Guest, MachineFailed, Machines, Place
from vm.plan import Cell
from vm.published import CELLS, RESULTS
from vm.status import Question, state_of
from vm.table import MACHINE, PACKAGE
from vm.timings import Timings

_INTERRUPTED: Final = (129, 130, 143)  # docs/exit-codes.md
_OWN: Final = (
    "/var/tmp/overlay-conformance-backing"  # of a cell in a user namespace: an image, and where it is mounted
)
_OWN_SIZE: Final = "3G"
_LAST_WORDS: Final = 30  # seconds, at the speed of the host, that an interrupted run has to write its results
_GRACE: Final = 420  # seconds above a cell's budget: its start, the test that is under way, and its evidence
# Seconds without a test that begins or ends, at the speed of the host, after which a machine is given up.
_SILENT: Final = 600
# Times as slow as the host, by the accelerator: computing is 10 to 17 times as slow, waiting is not.
_SLOWER: Final = {"tcg": 6}
_TOLD: Final = ("PASS", "FAIL", "ERROR", "XFAIL", "XPASS")
_STAMP: Final = re.compile(r"^(?:<\d+>)?\[ *[\d.]+\] ")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is the same for all cells. ``limit`` and ``budget`` (0: none) are in seconds, at the speed of the host.

    ``slower`` is how many times a machine takes as long as the host.
    The ``seed`` too: with other examples in each, a failure that is rare would look like one of a kernel.
    ``releases`` has what uname -r says in a machine by its name, ``packages`` its package with the version.
    """

    profile: str
    examples: int
    limit: float
    output: Path
    specification: str
    suite: str
    releases: Mapping[str, str]
    packages: Mapping[str, str]
    timings: Timings
    provider: str
    seed: int = 1
    slower: int = 1
    budget: float = 0

    @property
    def question(self) -> Question:
        """What results have to answer."""
        return Question(self.suite, self.specification, self.profile, self.examples, self.seed)


def slower_by(accelerator: str) -> int:
    """How many times a machine with an accelerator takes as long as the host, at the most that is usual."""
    return _SLOWER.get(accelerator, 1)


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
    return asked.output / CELLS / cell.name / RESULTS


def left_to_do(cells: Sequence[Cell], asked: Asked) -> list[Cell]:
    """Cells without a result that counts: none, one of another question or kernel, or of a machine that was lost.

    Where a run has no budget, a cell with a requirement that is UNTESTED is left, too.
    """
    return [cell for cell in cells if not _is_done(cell, asked)]


def _is_done(cell: Cell, asked: Asked) -> bool:
    state = state_of(cell, results_of(cell, asked), asked.question)
    if state.kernel != asked.releases[cell.machine.name]:
        return False
    untested = {Verdict.UNTESTED.value} if asked.budget else set()
    return set(state.missing.values()) <= untested


def run_all(
    cells: Sequence[Cell], asked: Asked, place: Place, machines: int, tell: Tell, ended: Callable[[Done], None]
) -> list[Done]:
    """Run cells, each machine's in its order; ``ended`` hears of each. Machines are destroyed, also on Ctrl-C."""
    for name in (CELLS, "logs", "consoles"):
        (asked.output / name).mkdir(parents=True, exist_ok=True)
    by_machine: dict[str, list[Cell]] = {}
    for cell in cells:
        by_machine.setdefault(cell.machine.name, []).append(cell)
    stop = threading.Event()
    found: list[Done] = []
    with ThreadPoolExecutor(machines) as pool:
        jobs = [pool.submit(_run_machine, some, asked, place, stop, tell, ended) for some in by_machine.values()]
        try:
            for job in as_completed(jobs):
                found += job.result()
        except BaseException:
            stop.set()
            for job in jobs:
                job.cancel()
            raise
    return found


def _run_machine(
    cells: Sequence[Cell],
    asked: Asked,
    place: Place,
    stop: threading.Event,
    tell: Tell,
    ended: Callable[[Done], None],
) -> list[Done]:
    machine = cells[0].machine.name
    guest: Guest | None = None
    made = False
    found = []
    try:
        for cell in cells:
            if stop.is_set():
                break
            asked.timings.begin(cell.name)
            began = time.monotonic()
            try:
                if guest is None:
                    tell(cell.name, "starting its machine")
                    made = True
                    with _timed(asked, cell, "up"):
                        guest = machines_of(place).up(machine, place)
                left = ""
                # A partial profile has no test of it, and a user namespace no machine to reset.
                with_reset = asked.profile not in PARTIAL and cell.privilege == "root"
                if REQUIREMENT in cell.requirements and with_reset:
                    guest, left = _reset(cell, guest, asked, place, tell)
                well = _run_cell(cell, guest, asked, stop, tell, left)
                (part,) = read(results_of(cell, asked))
                failure = " ".join(part.run.failure.split())
                done = Done(cell, time.monotonic() - began, _counts(part), lost=failure)
            except (MachineFailed, BadResults, subprocess.CalledProcessError) as failed:
                if stop.is_set():  # that may be why
                    break
                _lose(cell, asked, place, str(failed))
                done = Done(cell, time.monotonic() - began, {}, lost=str(failed).splitlines()[0])
                well = False
            found.append(done)
            ended(done)
            if not well:  # the next cell gets a new one
                _end(cell, asked, place, tell)
                guest, made = None, False
    except Stopped:
        pass
    finally:
        last = found[-1].cell if found else cells[0]
        if made:
            _end(last, asked, place, tell)
        tell(last.name, "")
    return found


@contextmanager
def _timed(asked: Asked, cell: Cell, step: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        asked.timings.add(cell.name, step, time.monotonic() - began)


def _end(cell: Cell, asked: Asked, place: Place, tell: Tell) -> None:
    """Destroy a machine. One that cannot be is no reason to lose other cells; ``clean`` finds it by its name."""
    tell(cell.name, "destroying its machine")
    with _timed(asked, cell, "destroy"), suppress(MachineFailed):
        machines_of(place).destroy(cell.machine.name, place)


def machines_of(place: Place) -> Machines:
    """What makes the machines of a place."""
    return uml if place.provider == "uml" else vagrant


def _reset(cell: Cell, guest: Guest, asked: Asked, place: Place, tell: Tell) -> tuple[Guest, str]:
    """Reset the machine in the middle of a history; the machine, and what goes before the command of its cell."""
    tell(cell.name, "resetting its machine in the middle of a history")
    heard = asked.output / "logs" / f"{cell.name}.heard"
    with _timed(asked, cell, "reset"):
        return reset_in_the_middle(cell, guest, lambda: machines_of(place).reset(guest, place), heard)


def _run_cell(cell: Cell, guest: Guest, asked: Asked, stop: threading.Event, tell: Tell, left: str) -> bool:
    """One run of the suite in a machine, and whether the machine is still well; raises MachineFailed, Stopped.

    ``left`` goes before its command, where a reset has left a store to look at.
    """
    with _timed(asked, cell, "prepare"):
        said = guest.run(commands.preparing(cell)).decode().split()
        before = dict(zip(cell.overlay.parameters, said, strict=True))
    before_it = None
    # Of another question or kernel, what was judged is of no use here.
    if state_of(cell, results_of(cell, asked), asked.question).kernel == asked.releases[cell.machine.name]:
        before_it = kept(results_of(cell, asked))
    rest = cell
    if before_it is not None:
        names = set(before_it.run.selected)
        # With nothing left, all of it runs again: a run without a requirement would judge every one.
        others = tuple(one for one in cell.requirements if one not in names)
        rest = replace(cell, requirements=others or cell.requirements)
    began = time.monotonic()
    _run_suite(rest, guest, asked, stop, tell, left)
    took = time.monotonic() - began
    tell(cell.name, "fetching its results")
    with _timed(asked, cell, "fetch"):
        well, suite = _fetch(cell, guest, asked, before, before_it)
    asked.timings.add(cell.name, "suite", suite)
    asked.timings.add(cell.name, "around", took - suite)
    if stop.is_set():
        raise Stopped
    return well


def _run_suite(cell: Cell, guest: Guest, asked: Asked, stop: threading.Event, tell: Tell, left: str) -> None:
    log = asked.output / "logs" / f"{cell.name}.log"
    with log.open("wb") as output, guest.start(commands.judging(cell, _options(asked), left), output) as process:
        last = Last("", time.monotonic())
        to = log.with_suffix(".events")
        follower = threading.Thread(target=_follow, args=(process, cell, tell, to, last), daemon=True)
        follower.start()
        limit = (asked.budget + _GRACE if asked.budget else asked.limit) * asked.slower
        deadline = time.monotonic() + limit
        try:
            while process.poll() is None:
                if stop.wait(0.2):
                    _interrupt(guest, process, asked)
                    break
                now = time.monotonic()
                if now > deadline:
                    raise MachineFailed(f"{cell.name} was not done after {limit:.0f} s{last.at}; see {log}")
                if now > last.heard + _SILENT * asked.slower:
                    silent = now - last.heard
                    raise MachineFailed(f"{cell.name} said nothing for {silent:.0f} s{last.at}; see {log}")
        finally:
            process.kill()
            process.wait()
            follower.join()
    if process.returncode in _INTERRUPTED and not stop.is_set():
        raise MachineFailed(f"{cell.name}: a signal ended the run in the machine ({process.returncode}); see {log}")
    if process.returncode not in (0, 1, 2, 3, *_INTERRUPTED):
        raise MachineFailed(
            f"{cell.name}: the connection to the machine ended ({process.returncode}){last.at}; see {log}"
        )


def _interrupt(guest: Guest, process: subprocess.Popen[bytes], asked: Asked) -> None:
    """Have the suite in a machine write what it has judged; raises Stopped if it does not in time."""
    try:
        guest.run(commands.interrupting(), limit=_LAST_WORDS * asked.slower)
        process.wait(_LAST_WORDS * asked.slower)  # _follow reads its output meanwhile
    except (MachineFailed, subprocess.TimeoutExpired) as failed:
        raise Stopped from failed


def _options(asked: Asked) -> tuple[str, ...]:
    """Options of ``run`` that are the same for all cells."""
    words = ["--profile", asked.profile, "--examples", str(asked.examples), "--seed", str(asked.seed)]
    return (*words, *(["--budget", f"{asked.budget * asked.slower:.0f}s"] if asked.budget else []))


@dataclass(slots=True)
class Last:
    """What was heard last from a machine: the test that began, in words, and when something was heard."""

    at: str
    heard: float


def _follow(process: subprocess.Popen[bytes], cell: Cell, tell: Tell, to: Path, last: Last) -> None:
    """Tell of each test that begins, from the events of the run in the machine, which are kept.

    ``last`` becomes what a lost machine was at.
    """
    assert process.stdout is not None, "it was opened with a pipe"
    tell(cell.name, "starting the suite")
    total, counts = 0, Counter[str]()
    with to.open("wb", buffering=0) as kept:
        for line in process.stdout:
            kept.write(line)
            last.heard = time.monotonic()
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a line that was cut, as the machine went away
            match event.get("event"):
                case "collected":
                    total = event["tests"]
                case "outcome":
                    counts[event["verdict"]] += 1
                case "test":
                    number = event["number"]
                    place = f"{number}/{total} tests" if number <= total else f"{number} tests"
                    said = [f"{counts[verdict]} {verdict}" for verdict in _TOLD if counts[verdict]]
                    last.at = f" at {event['test']}"
                    tell(cell.name, ", ".join([place, *said, event["test"]]))


def _fetch(
    cell: Cell, guest: Guest, asked: Asked, before: Mapping[str, str], earlier: Part | None
) -> tuple[bool, float]:
    """The result file and the evidence folders; whether the kernel is well, and the suite's seconds.

    ``earlier`` is what an interrupted run of the cell has judged. Raises MachineFailed if there is no result.
    """
    archive = guest.run(commands.fetching(cell, before), limit=300)
    target = results_of(cell, asked)
    with tempfile.TemporaryDirectory(dir=target.parent.parent) as made:
        fetched = Path(made) / "cell"
        fetched.mkdir()
        # Clocks of machines are not those of the host.
        subprocess.run(["tar", "-x", "--warning=no-timestamp", "-C", str(fetched)], input=archive, check=True)
        (part,) = read(fetched / target.name)
        log = [_STAMP.sub("", line) for line in (fetched / "dmesg").read_text(errors="replace").splitlines()]
        outcome = health.judged(log, int((fetched / "tainted").read_text()), part.outcomes, cell.backing.name)
        ill = outcome.verdict is Verdict.FAIL
        outcomes = part.outcomes
        if ill and not any(one.test == health.TEST and one.verdict is Verdict.FAIL for one in outcomes):
            # It came before the tests, or after them.
            outcomes = (*(one for one in outcomes if one.test != health.TEST), outcome)
        about = (f"{PACKAGE}{asked.packages[cell.machine.name]}", f"{MACHINE}{asked.provider}")
        run = replace(part.run, notes=(*part.run.notes, *about))
        whole = Part(run, outcomes)
        if earlier is not None:
            # If the driver is another version by now, the rest stays alone, and the cell is incomplete.
            with suppress(BadResults):
                whole = joined(earlier, whole)
                keep_evidence(earlier, target.parent, fetched)
        write(fetched / target.name, [whole])
        (fetched / "tainted").unlink()
        shutil.rmtree(target.parent, ignore_errors=True)
        fetched.rename(target.parent)
    return not ill, part.run.seconds


def _counts(part: Part) -> dict[str, int]:
    found: dict[str, int] = {}
    for result in part.results():
        found[result.verdict.value] = found.get(result.verdict.value, 0) + 1
    return found


def _lose(cell: Cell, asked: Asked, place: Place, why: str) -> None:
    run = unheard(
        cell,
        suite=asked.suite,
        specification=asked.specification,
        kernel=asked.releases[cell.machine.name],
        profile=asked.profile,
        examples=asked.examples,
    )
    write_lost(run, results_of(cell, asked), place.consoles / f"{cell.machine.name}.console", why)
