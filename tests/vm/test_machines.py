"""What becomes of cells and machines when something ends: a kernel, a machine, the runner. On real machines.

They take root, packages and minutes, so they are run when they are asked for: OVERLAY_CONFORMANCE_MACHINES=libvirt
(or uml). What is left is looked for in the host's own books, not by what the runner asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from conformance.report import records
from conformance.report.records import Part
from conformance.spec import health
from conformance.spec.verdicts import Verdict
from vm import build
from vm.keeping import kept
from vm.machines import MARK, PREFIX

PROVIDER = os.environ.get("OVERLAY_CONFORMANCE_MACHINES", "")
pytestmark = pytest.mark.skipif(
    not PROVIDER, reason="takes virtual machines and minutes: OVERLAY_CONFORMANCE_MACHINES=libvirt (or uml)"
)
# Of user-mode Linux the newest, which runs on any processor.
KERNEL = "k7-2" if PROVIDER == "uml" else "k6-1"
FIRST, SECOND = (f"{KERNEL}.refdriver.{backing}.default" for backing in ("ext4", "tmpfs"))
LIMIT = 900  # seconds for what takes one or two minutes without KVM
_T = TypeVar("_T")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Before a test and after it."""
    assert left() == []
    try:
        yield
        assert left() == []
    finally:
        subprocess.run(matrix("clean"), check=True, capture_output=True)


def left() -> list[str]:
    """Processes, files and network devices of machines, by the host's own books."""
    found = [f"process {pid}: {words[0]}" for pid, words in processes() if belongs(pid, words)]
    found += [f"file {path}" for path in (build.cache_directory() / "machines").glob("*")]
    found += [f"file {path}" for path in (build.cache_directory() / "vagrant").glob("machines/*/*/id")]
    for directory in ("/var/lib/libvirt/images", "/etc/libvirt/qemu", "/run/libvirt/qemu"):
        found += [f"file {path}" for path in Path(directory).glob(f"{PREFIX}*")]
    found += [f"network {path}" for path in Path("/etc/libvirt/qemu/networks").glob("overlay-conformance*")]
    found += [f"lease {path}" for path in Path("/var/lib/libvirt/dnsmasq").glob("overlay-conformance*")]
    return found


def belongs(pid: int, words: list[str]) -> bool:
    if any(f"guest={PREFIX}" in word for word in words):
        return True
    with contextlib.suppress(OSError):
        return MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def processes() -> Iterator[tuple[int, list[str]]]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            if words:  # a zombie has none
                yield int(process.name), words


def matrix(verb: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "conformance", "matrix", verb, *words]


def run_of_two(output: Path) -> list[str]:
    chosen = ["--kernel", KERNEL, "--driver", "refdriver", "--overlay", "default"]
    chosen += ["--backing", "ext4", "--backing", "tmpfs", "--privilege", "root", "--provider", PROVIDER]
    return matrix("run", *chosen, "--profile", "quick", "--output", str(output))


@contextlib.contextmanager
def started(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A runner in a process group of its own, as a shell starts it."""
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=LIMIT)
    return process.returncode, said


def when(look: Callable[[], _T | None], process: subprocess.Popen[str]) -> _T:
    """What a look finds, as soon as it finds something; an error if the runner ends before."""
    end, pause = time.monotonic() + LIMIT, threading.Event()
    while True:
        found = look()
        if found is not None:
            return found
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing was seen"
        pause.wait(0.05)


def suite_of(output: Path, cell: str) -> tuple[int, list[str]] | None:
    """The way into the machine of a cell whose suite runs: the process that runs it, and its words."""
    if not (output / "logs" / f"{cell}.log").exists():
        return None
    return next(
        (one for one in processes() if one[1][0] == "ssh" and "overlay-conformance run" in one[1][-1]), None
    )


def in_machine(suite: tuple[int, list[str]], command: str) -> None:
    """Do something in the machine in which a suite runs; it may not come back from that."""
    pid, words = suite
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
    subprocess.run([*enter, *words[:-1], command], check=False, capture_output=True, timeout=LIMIT)


def part_of(output: Path, cell: str) -> Part:
    (part,) = records.read(output / "cells" / cell / "results.jsonl")
    return part


def verdicts(part: Part) -> set[Verdict]:
    return {outcome.verdict for outcome in part.outcomes}


def passed(output: Path, cell: str) -> bool:
    found = verdicts(part_of(output, cell))
    return Verdict.PASS in found and not found & {Verdict.FAIL, Verdict.ERROR}


def test_a_kernel_that_panics_is_one_red_cell_and_the_run_takes_up_again(tmp_path: Path) -> None:
    with started(run_of_two(tmp_path)) as runner:
        in_machine(when(lambda: suite_of(tmp_path, FIRST), runner), "sudo sh -c 'echo c >/proc/sysrq-trigger'")
        code, said = ended(runner)
    assert code == 2, said
    lost = part_of(tmp_path, FIRST)
    by_test = {outcome.test: outcome for outcome in lost.outcomes}
    well = by_test["the_kernel_stays_well"]
    assert (well.verdict, well.requirements) == (Verdict.FAIL, ("OVL-KERNEL-WELL",))
    folder = (tmp_path / "cells" / FIRST) / well.evidence
    assert "sysrq triggered crash" in (folder / "kernel.log").read_text()
    assert "Call Trace" in (folder / "kernel.log").read_text()
    assert by_test["the_machine"].verdict is Verdict.ERROR
    assert passed(tmp_path, SECOND)
    before = (tmp_path / "cells" / SECOND / "results.jsonl").stat().st_mtime_ns
    with started(run_of_two(tmp_path)) as runner:
        code, said = ended(runner)
    assert code == 0, said
    assert "1 cells have a result already" in said
    assert passed(tmp_path, FIRST)
    assert (tmp_path / "cells" / SECOND / "results.jsonl").stat().st_mtime_ns == before


@pytest.mark.skipif(PROVIDER == "uml", reason="a machine of UML is many processes, and none of them is the machine")
def test_a_machine_that_hangs_is_one_red_cell(tmp_path: Path) -> None:
    with started(run_of_two(tmp_path)) as runner:
        when(lambda: suite_of(tmp_path, FIRST), runner)
        guest = f"guest={PREFIX}{KERNEL},"
        (machine,) = (pid for pid, words in processes() if any(guest in word for word in words))
        os.kill(machine, signal.SIGSTOP)
        code, said = ended(runner)
    assert code == 2, said
    assert verdicts(part_of(tmp_path, FIRST)) == {Verdict.ERROR}
    assert passed(tmp_path, SECOND)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["start", "suite"])
def test_a_runner_that_is_ended_destroys_what_it_made(tmp_path: Path, number: int, moment: str) -> None:
    with started(run_of_two(tmp_path)) as runner:
        when(lambda: a_machine() if moment == "start" else suite_of(tmp_path, FIRST), runner)
        os.killpg(runner.pid, number)  # as a terminal does
        code, said = ended(runner)
    assert code == 130, said
    assert "goes on where this one stopped" in said
    file = tmp_path / "cells" / FIRST / "results.jsonl"
    if moment == "start":
        assert not file.exists()
    else:
        assert part_of(tmp_path, FIRST).run.interrupted


def test_an_interrupted_cell_keeps_what_it_has_judged(tmp_path: Path) -> None:
    with started(run_of_two(tmp_path)) as runner:
        when(lambda: len(outcomes_of(tmp_path, FIRST)) > 3 or None, runner)
        runner.send_signal(signal.SIGTERM)
        code, said = ended(runner)
    assert code == 130, said
    before = kept(tmp_path / "cells" / FIRST / "results.jsonl")
    assert before is not None, said
    with started(run_of_two(tmp_path)) as runner:
        code, said = ended(runner)
    assert code == 0, said
    assert passed(tmp_path, FIRST)
    of_one = {one.test for one in before.outcomes if len(one.requirements) == 1 and one.test != health.TEST}
    assert not of_one & set(outcomes_of(tmp_path, FIRST))


def outcomes_of(directory: Path, cell: str) -> list[str]:
    """The tests that have ended in a cell, by its events."""
    try:
        lines = (directory / "logs" / f"{cell}.events").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event["test"] for event in events if event["event"] == "outcome"]


def a_machine() -> int | None:
    """A machine that is about to start."""
    for pid, words in processes():
        if any(f"guest={PREFIX}{KERNEL}," in word for word in words) or words[0].endswith("linux.uml"):
            return pid
    return None


@pytest.mark.parametrize("moment", ["start", "suite"])
def test_what_a_killed_runner_left_is_cleaned(tmp_path: Path, moment: str) -> None:
    with started(run_of_two(tmp_path)) as runner:
        when(lambda: a_machine() if moment == "start" else suite_of(tmp_path, FIRST), runner)
        runner.kill()
        ended(runner)
    assert left() != []
    said = subprocess.run(matrix("clean"), capture_output=True, text=True, check=True).stdout
    assert left() == [], said
    assert "removed" in said


def test_a_run_begins_anew_where_a_killed_one_left_its_machine(tmp_path: Path) -> None:
    with started(run_of_two(tmp_path)) as runner:
        when(lambda: suite_of(tmp_path, FIRST), runner)
        runner.kill()
        ended(runner)
    with started(run_of_two(tmp_path)) as runner:
        code, said = ended(runner)
    assert code == 0, said
    assert passed(tmp_path, FIRST)
    assert passed(tmp_path, SECOND)
