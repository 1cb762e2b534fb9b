"""Judging a build: the suite's own command, with the commands of the build's roots in front of the PATH."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from conformance.report import records
from conformance.report.records import BadResults, Part
from conformance.spec.errors import HarnessError
from vm.drivers import roots
from vm.drivers.builds import Build, Builds
from vm.drivers.data import is_answer, why_not_whole
from vm.published import RESULTS


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
    for root in builds.roots_of([build]):
        if not roots.is_here(root, place.roots):
            raise NotJudged(f"{build.name}: {root.name} is not here; run 'overlay-conformance drivers fetch'")
    output.mkdir(parents=True, exist_ok=True)
    (output / RESULTS).unlink(missing_ok=True)
    said = output / "output.txt"
    with said.open("w") as out:
        words, env = _command(build, builds, place), _env(build, builds, place)
        subprocess.run(words, cwd=output, env=env, stdout=out, check=False)
    found = _result(output)
    if found is None:
        lines = said.read_text(errors="replace").strip().splitlines()
        why = lines[-1] if lines else "the run printed nothing"
        raise NotJudged(f"{build.name}: no result ({why}); {said} has what the run printed")
    if why := why_not_whole(found, builds.question):
        raise NotJudged(f"{build.name}: {why}; {said} has what the run printed. Then judge the build again")
    return found


def _result(output: Path) -> Part | None:
    try:
        (part,) = records.read(output / RESULTS)
    except (BadResults, ValueError):
        return None
    return part


def _command(build: Build, builds: Builds, place: Place) -> list[str]:
    asked = builds.question
    words = [sys.executable, "-m", "conformance", "run", build.connection_in(place.roots)]
    words += ["--profile", asked.profile, "--examples", str(asked.examples), "--seed", str(asked.seed)]
    words += ["--jobs", "1", "--backing", build.backing, "--results", RESULTS]
    # Reproducers and minimal examples take a third of the time; those of the newest build are what is reported.
    words += ["--evidence", "evidence"] if builds.is_newest(build) else ["--no-evidence", "--no-shrink"]
    words += [word for one in asked.requirements for word in ("--requirement", one)]
    return words


def _env(build: Build, builds: Builds, place: Place) -> dict[str, str]:
    found = [path for root in builds.roots_of([build]) for path in roots.paths_of(root, place.roots)]
    return {**os.environ, "PATH": ":".join([*found, os.environ.get("PATH", os.defpath)])}
