"""Judging a build: the suite's own command, with the commands of the build's roots in front of the PATH."""

from __future__ import annotations

import json
import os
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from conformance.report import records
from conformance.report.records import BadResults, Part
from conformance.spec.errors import HarnessError
from vm.drivers import roots
from vm.drivers.builds import DIRECTORY, Build, Builds, placed
from vm.drivers.data import SECONDS, is_answer, why_not_whole
from vm.published import RESULTS

_SERVICE_LIMIT: Final = 20.0  # seconds
_ENDING_LIMIT: Final = 60.0  # seconds in which a run that was interrupted has to clean up
_POLL: Final = 0.05


class NotJudged(HarnessError):
    """A build has no whole result; the text names the build, the reason and the next step."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where roots are, and where each build is judged in a directory of its own."""

    roots: Path
    output: Path


def judge(build: Build, builds: Builds, place: Place, *, again: bool = False) -> Part:
    """Judge a build, unless the output has its answer; with ``again`` also then. Raises NotJudged, OSError."""
    output = place.output / build.name
    found = _result(output)
    if found and is_answer(found, builds.question) and not again:
        return found
    if why := roots.lacking(builds.roots_of([build]), place.roots):
        raise NotJudged(f"{build.name}: {why}")
    output.mkdir(parents=True, exist_ok=True)
    (output / RESULTS).unlink(missing_ok=True)
    said, env = output / "output.txt", environment(build, builds, place.roots)
    with said.open("w") as out, around(build, env) as directory:
        env |= build.env_in(place.roots, directory)
        before = _cpu_of_children()
        run_to_its_end(_command(build, builds, place, directory), output, env, out)
        (output / SECONDS).write_text(json.dumps({"cpu": round(_cpu_of_children() - before, 1)}) + "\n")
    found = _result(output)
    if found is None:
        lines = said.read_text(errors="replace").strip().splitlines()
        why = lines[-1] if lines else "the run printed nothing"
        raise NotJudged(f"{build.name}: no result ({why}); {said} has what the run printed")
    if why := why_not_whole(found, builds.question):
        raise NotJudged(f"{build.name}: {why}; {said} has what the run printed. Then judge the build again")
    return found


def run_to_its_end(words: list[str], directory: Path, env: Mapping[str, str], out: IO[str]) -> None:
    """Run the suite. A signal that ends this process ends the run, too, which then removes what it made.

    The run is in a session of its own, so that Ctrl-C reaches it once: a second signal would be an insistence.
    """
    process = subprocess.Popen(words, cwd=directory, env=env, stdout=out, start_new_session=True)
    try:
        process.wait()
    except BaseException:
        _end(process, _ENDING_LIMIT)
        raise


def _end(process: subprocess.Popen[bytes], limit: float) -> None:
    """Ask it to end, and kill it if it has not ended after ``limit`` seconds."""
    process.terminate()
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cpu_of_children() -> float:
    """Seconds of all processes that were started here and have ended, and of those that they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _result(output: Path) -> Part | None:
    try:
        (part,) = records.read(output / RESULTS)
    except (BadResults, ValueError):
        return None
    return part


@contextmanager
def around(build: Build, env: Mapping[str, str]) -> Iterator[Path]:
    """The directory of a run, with what the build needs in it and its service; raises NotJudged."""
    with tempfile.TemporaryDirectory(prefix=DIRECTORY) as made, ExitStack() as stack:
        directory = Path(made)
        for name, text in build.files.items():
            (directory / name).write_text(placed(text, directory))
        if build.before:
            words = ["sh", "-e", "-c", placed(build.before, directory)]
            done = subprocess.run(words, cwd=directory, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotJudged(f"{build.name}: 'before' failed: {done.stderr.strip()[-500:]}")
        if build.service:
            stack.enter_context(_service(build, directory, env))
        yield directory


@contextmanager
def _service(build: Build, directory: Path, env: Mapping[str, str]) -> Iterator[None]:
    log, deadline = directory / "service.log", time.monotonic() + _SERVICE_LIMIT
    with log.open("w") as out:
        words = shlex.split(placed(build.service, directory))
        process = subprocess.Popen(words, cwd=directory, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        while not _listens(placed(build.socket, directory)):
            if process.poll() is not None or time.monotonic() > deadline:
                last = log.read_text(errors="replace").strip()[-500:]
                raise NotJudged(f"{build.name}: its service does not listen on {build.socket}: {last}")
            time.sleep(_POLL)
        yield
    finally:
        _end(process, _SERVICE_LIMIT)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _command(build: Build, builds: Builds, place: Place, directory: Path) -> list[str]:
    asked = builds.question
    words = [sys.executable, "-m", "conformance", "run", build.connection_in(place.roots, directory)]
    words += ["--profile", asked.profile, "--examples", str(asked.examples), "--seed", str(asked.seed)]
    words += ["--jobs", "1", "--backing", build.backing, "--results", RESULTS]
    # Reproducers and minimal examples take a third of the time; those of the newest build are what is reported.
    wanted = builds.is_newest(build) and build.is_alone and build.reproducers
    words += ["--evidence", "evidence"] if wanted else ["--no-evidence", "--no-shrink"]
    words += [word for one in asked.requirements for word in ("--requirement", one)]
    return words


def environment(build: Build, builds: Builds, place: Path) -> dict[str, str]:
    """The variables of a run: the commands of the build's roots, below this directory, come first in the PATH."""
    found = [path for root in builds.roots_of([build]) for path in roots.paths_of(root, place)]
    return {**os.environ, "PATH": ":".join([*found, os.environ.get("PATH", os.defpath)])}
