"""The suites of others: how they are built, and what one says of a driver that is served as a plugin."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.selftest.kills import is_own_defect
from conformance.selftest.mutants.basis import BASIS

ROOT: Final = Path(__file__).parents[2]
GO: Final = Path(__file__).with_name("go")
SOURCES: Final = Path("/usr/share/gocode")  # where Debian's packages of Go sources are
TIME: Final = 180  # seconds for one suite on one driver; the longest takes a tenth of it
_ENDED: Final = re.compile(r"^\s*--- (PASS|FAIL|SKIP): (\S+)", re.M)
_BEGUN: Final = re.compile(r"^=== RUN\s+(\S+)", re.M)


@dataclass(frozen=True, slots=True)
class Suite:
    """``key`` names its adapter in ``go/``; ``package`` is Debian's, of its sources."""

    key: str
    title: str
    package: str


SUITES: Final = (
    Suite("moby", "graphtest of moby", "golang-github-docker-docker-dev"),
    Suite("storage", "graphtest of containers/storage", "golang-github-containers-storage-dev"),
    Suite("containerd", "testsuite of containerd's snapshotters", "golang-github-containerd-containerd-dev"),
)
PACKAGES: Final = ("golang-go", *(one.package for one in SUITES), "golang-github-ulikunitz-xz-dev")


@dataclass(frozen=True, slots=True)
class Ran:
    """One suite on one driver: what passed, what failed or did not end, and whether the driver's code broke."""

    suite: str
    mutant: str
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    own_defect: bool
    seconds: float


class NotBuilt(Exception):
    """The tests of a suite could not be built; the text says why and what to do."""


def build(suite: Suite, directory: Path) -> Path:
    """The program of a suite's tests, built below a directory; raises NotBuilt."""
    sources = directory / "src"
    if not sources.exists():
        shutil.copytree(GO, sources / "neighbours", ignore=shutil.ignore_patterns("missing"))
        # What Debian's package of moby leaves out, and what it calls by another name.
        shutil.copytree(GO / "missing" / "plugin-v2", sources / "github.com/docker/docker/plugin/v2")
        shutil.copytree(GO / "missing" / "quota", sources / "github.com/docker/docker/quota")
        (sources / "gotest.tools").mkdir()
        (sources / "gotest.tools/v3").symlink_to(SOURCES / "src/gotest.tools")
    program = directory / f"{suite.key}.test"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{directory}:{SOURCES}", "GOFLAGS": "-p=1"}
    try:
        subprocess.run(
            ["go", "test", "-c", "-o", str(program), f"neighbours/{suite.key}"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        raise NotBuilt(f"go is not installed: apt-get install {' '.join(PACKAGES)}") from None
    except subprocess.CalledProcessError as error:
        raise NotBuilt(
            f"the tests of {suite.title} cannot be built; apt-get install {' '.join(PACKAGES)}\n{error.stderr}"
        ) from None
    return program


def run(suite: Suite, program: Path, mutant: str, driver: str, basis: str, scratch: Path) -> Ran:
    """Run the tests of a suite on MODULE:CLASS, in mounts of their own, which end with them."""
    began = time.monotonic()
    serve = [sys.executable, "-m", "benchmarks.neighbours.server", driver]
    directory = scratch / "run"
    directory.mkdir()
    environment = {**os.environ, BASIS: basis, "NEIGHBOURS_SERVER": json.dumps(serve), "TMPDIR": str(directory)}
    environment["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    words = ["-test.v", f"-test.timeout={TIME}s"]
    # With a PID namespace nothing outlives the tests, whatever a mutant has its process do.
    prefix = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen(
        [*prefix, str(program), *words],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as tests:
        try:
            said = tests.communicate(timeout=TIME + 60)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            os.killpg(tests.pid, signal.SIGKILL)
            said = tests.communicate()[0].decode(errors="replace")
    shutil.rmtree(directory)
    passed, failed = told(said)
    return Ran(suite.key, mutant, passed, failed, is_own_defect(said), round(time.monotonic() - began, 3))


def told(output: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tests that passed and those that failed, one that began and did not end with these; groups left out."""
    ended = dict.fromkeys(_BEGUN.findall(output), "FAIL") | {name: how for how, name in _ENDED.findall(output)}
    groups = {name.rpartition("/")[0] for name in ended}
    names = [name for name in ended if name not in groups]
    return (
        tuple(name for name in names if ended[name] == "PASS"),
        tuple(name for name in names if ended[name] == "FAIL"),
    )
