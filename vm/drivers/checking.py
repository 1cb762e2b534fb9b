"""Reproducers of the data, each run by itself: with a shell, coreutils and the commands of its build, no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vm.drivers import roots
from vm.drivers.builds import Builds
from vm.drivers.data import Judged

_LIMIT: Final = 120  # seconds for a script
_DEVIATES: Final = 1  # what a reproducer exits with (docs/evidence.md)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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


def _run(folder: str, text: str, path: str, scratch: Path) -> Checked:
    script, work = scratch / "repro.sh", scratch / "work"
    script.write_text(text)
    work.mkdir()
    words = [sys.executable, "-m", "conformance.lab.confined", str(os.getpid()), str(work), str(script)]
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**_python(), "PATH": path},
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
    lines = said.decode(errors="replace").strip().splitlines()
    return Checked(folder, status, lines[-1] if lines else "")


def _python() -> dict[str, str]:
    """What this Python needs itself; the script gets none of it."""
    return {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
