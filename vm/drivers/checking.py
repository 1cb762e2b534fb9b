"""Reproducers of the data, each run by itself: with a shell, coreutils and the commands of its build, no more."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vm.drivers import roots
from vm.drivers.builds import BadBuilds, Builds, Root
from vm.drivers.data import Judged

_LIMIT: Final = 120  # seconds for a script
_DEVIATES: Final = 1  # what a reproducer exits with (docs/evidence.md)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NAME: Final = re.compile(r"^- version: (\S+) ", re.M)
_SCRIPT: Final = re.compile(r"^```sh\n(#!.*?)^```$", re.M | re.S)
_OUTPUT: Final = re.compile(r"^Output[^\n]*:\n\n```text\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a reproducer did: ``folder`` names it in the archive of its build, ``last`` is the end of its output."""

    folder: str
    status: int
    last: str

    @property
    def reproduces(self) -> bool:
        """Whether it showed the deviation."""
        return self.status == _DEVIATES


def check(judged: Judged, builds: Builds, place: Path) -> Iterator[Checked]:
    """Run each reproducer of a build, whose roots are below ``place``, with PATH and TMPDIR and no other variable.

    A script has mounts and processes of its own, and can write to its temporary directory only
    (conformance/lab/confined.py).
    """
    found = [path for root in builds.roots_of([judged.build]) for path in roots.paths_of(root, place)]
    path = ":".join([*found, _PATH])
    for folder, text in sorted(judged.scripts.items()):
        with tempfile.TemporaryDirectory(prefix="overlay-conformance-check-") as scratch:
            yield _run(folder, text, path, Path(scratch))


def check_report(report: Path, known: Sequence[Root], place: Path) -> Checked:
    """Run the script of a report for upstream, and compare what it prints with the output that the report has.

    Names of temporary files, times and digests may differ. Raises BadBuilds for a report of another form.
    """
    text = report.read_text()
    name, script, output = (found[1] if (found := one.search(text)) else "" for one in (_NAME, _SCRIPT, _OUTPUT))
    those = [one for one in known if one.package == name]
    if not (those and script and output):
        raise BadBuilds(f"{report}: a report has the lines '- version: PACKAGE VERSION', a script and its output")
    path = ":".join([*roots.paths_of(those[-1], place), _PATH])
    with tempfile.TemporaryDirectory(prefix="overlay-conformance-check-") as scratch:
        file = Path(scratch, "report.sh")
        file.write_text(script)
        words = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        status, said = _ended([*words, "--mount-proc", "sh", str(file)], {"PATH": path, "TMPDIR": scratch})
    shown, expected = _lasting(said, scratch), _lasting(output, scratch)
    if shown == expected:
        return Checked(report.name, _DEVIATES, "")
    differs = next((line for line in shown if line not in expected), "lines are missing")
    return Checked(report.name, 0, f"exit status {status}, and another output: {differs}")


def _lasting(output: str, scratch: str) -> list[str]:
    """The lines of an output without what each run has of its own."""
    for pattern, name in (
        (re.compile(rf"(?:{re.escape(scratch)}|/tmp)/tmp\.\w+"), "DIRECTORY"),
        (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
        (re.compile(r"\bextract-\d+-\S{4}"), "KEY"),  # of containerd, for a snapshot that is being filled
        (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\dZ?)?|\b[A-Z][a-z]{2} +\d+ \d\d:\d\d\b"), "TIME"),
    ):
        output = pattern.sub(name, output)
    return [" ".join(line.split()) for line in output.strip().splitlines()]


def _run(folder: str, text: str, path: str, scratch: Path) -> Checked:
    script, work = scratch / "repro.sh", scratch / "work"
    script.write_text(text)
    work.mkdir()
    words = [sys.executable, "-m", "conformance.lab.confined", str(os.getpid()), str(work), str(script)]
    status, said = _ended(words, {**_python(), "PATH": path})
    lines = said.strip().splitlines()
    return Checked(folder, status, lines[-1] if lines else "")


def _ended(words: Sequence[str], env: Mapping[str, str]) -> tuple[int, str]:
    """The exit status of a command, 124 if it timed out, and its output."""
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=env,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=_LIMIT)
            status = process.returncode
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # what the script started ends with its first process
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            said, _ = process.communicate()
            status = 124
    return status, said.decode(errors="replace")


def _python() -> dict[str, str]:
    """What this Python needs itself; the script gets none of it."""
    return {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
