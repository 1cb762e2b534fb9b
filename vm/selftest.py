"""A selftest in a machine: for mutants that take what a host may lack, xfs with quota and the device mapper.

Of the catalogue these are the mutants that need a capability; of generated mutants, those that survived on the host
and whose survival the list of survivors explains by the machine.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.report import generatedfile
from conformance.report.killfile import KillReport
from conformance.selftest.kills import Fate
from vm.machines import Guest, MachineFailed, Place
from vm.runner import machines_of

NEEDS: Final = ("xfs-quota", "device-mapper")
_OUT: Final = "/var/tmp/overlay-conformance-selftest"
_FILE: Final = "results.jsonl"
GENERATED: Final = "generated.jsonl"  # in the output: all mutants of the host's file


@dataclass(frozen=True, slots=True)
class Asked:
    """What to try: names of mutants, or all that take one of NEEDS; ``budget`` is in seconds for each trial."""

    mutants: tuple[str, ...]
    profile: str
    seed: int
    seeds: int
    budget: float
    output: Path


def untried_in(report: KillReport) -> tuple[tuple[str, ...], str, int, int]:
    """Mutants that could not be tried where a selftest was run, and its profile, first seed and number of seeds."""
    matrix = report.matrix
    names = tuple(one.name for one in matrix.mutants if matrix.fate(one) is Fate.NOT_APPLICABLE)
    return names, report.about.profile, report.about.seeds[0], len(report.about.seeds)


@dataclass(frozen=True, slots=True)
class AskedGenerated:
    """The generated mutants to try: those of a host's result file that survived for want of such a machine."""

    results: generatedfile.Results
    budget: float
    output: Path


def run(kernel: str, asked: Asked, place: Place, say: Callable[[str], None]) -> Path:
    """The result file of a selftest in a machine of that kernel, which is destroyed. Raises MachineFailed."""
    return _run_in_machine(kernel, _command(asked), asked.output, place, say)


def run_generated(kernel: str, asked: AskedGenerated, place: Place, say: Callable[[str], None]) -> Path:
    """The result file of those mutants in a machine of that kernel. Raises MachineFailed."""
    survivors, whole = asked.output / "survivors.jsonl", asked.output / GENERATED
    _results(asked.output, kernel).unlink(missing_ok=True)
    asked.results.of_another_machine(survivors).write()
    command = _command_of_generated(asked)
    try:
        return _run_in_machine(kernel, command, asked.output, place, say, given=survivors.read_bytes())
    except BaseException:
        if (file := _results(asked.output, kernel)).exists():
            asked.results.join(file)
            asked.results.path = whole
            asked.results.write()
            say(f"{kernel}: what was killed until now is in {whole}; go on with --generated {whole}")
        raise
    finally:
        survivors.unlink()


def _results(output: Path, kernel: str) -> Path:
    return output / f"selftest-{kernel}.jsonl"


def _run_in_machine(
    kernel: str, command: str, output: Path, place: Place, say: Callable[[str], None], given: bytes = b""
) -> Path:
    """Copy the result file of a command in a machine; ``given`` is what that file has before."""
    machines = machines_of(place)
    try:
        say(f"{kernel}: starting its machine")
        guest = machines.up(kernel, place)
        log = output / f"selftest-{kernel}.log"
        say(f"{kernel}: trying the mutants; {log} has the log")
        guest.run(f"rm -rf {_OUT} && mkdir -p {_OUT} && cat > {_OUT}/{_FILE}", given=given)
        file = _results(output, kernel)
        try:
            _try(guest, command, log)
        except BaseException:
            if given:  # a file that grows with each mutant; others are written at the end
                with suppress(MachineFailed):
                    file.write_bytes(guest.run(f"cat {_OUT}/{_FILE}"))
            raise
        file.write_bytes(guest.run(f"cat {_OUT}/{_FILE}"))
        return file
    finally:
        say(f"{kernel}: destroying its machine")
        with suppress(MachineFailed):  # clean finds it by its name
            machines.destroy(kernel, place)


def _try(guest: Guest, command: str, log: Path) -> None:
    began = time.monotonic()
    with log.open("wb") as output, guest.start(f"cd {_OUT} && exec {command} 1>&2", output) as process:
        try:
            # A mutant may hang until its budget ends; a machine that does is known by its connection (ssh's alive).
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code not in (0, 1):
        last = log.read_text(errors="replace").strip()[-500:]
        took = time.monotonic() - began
        raise MachineFailed(f"{guest.name}: the selftest exited with status {code} after {took:.0f} s: {last}")


def _command(asked: Asked) -> str:
    words = ["overlay-conformance", "selftest", "--profile", asked.profile, "--budget", f"{asked.budget:.0f}s"]
    words += ["--seed", str(asked.seed), "--seeds", str(asked.seeds), "--scratch", "/var/tmp"]
    words += ["--results", f"{_OUT}/{_FILE}"]
    for name in asked.mutants:
        words += ["--mutant", name]
    for need in () if asked.mutants else NEEDS:
        words += ["--needs", need]
    return shlex.join(words)


def _command_of_generated(asked: AskedGenerated) -> str:
    about = asked.results.about
    words = ["overlay-conformance", "selftest", "--generated", "1", "--again", "--profile", about.profile]
    words += ["--seed", str(about.seed), "--basis", about.basis, "--budget", f"{asked.budget:.0f}s"]
    # Most of these mutants need the quota of xfs.
    words += ["--backing", "xfs", "--scratch", "/var/tmp", "--results", f"{_OUT}/{_FILE}"]
    for name in asked.results.elsewhere:
        words += ["--mutant", name]
    return shlex.join(words)
