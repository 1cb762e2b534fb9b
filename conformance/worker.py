"""The process in which a run takes place, in mounts of its own; started by the controller, and dying with it.

It reads its task from standard input and writes events, one JSON object a line, to standard output.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

import pytest

from conformance.adapters import UnknownDriver, connect
from conformance.lab import namespace
from conformance.plugin import ConformancePlugin, RunConfig
from conformance.results import TestOutcome
from conformance.spec import load_requirements

_SUITES: Final = Path(__file__).parent / "suites"
_NO_UPPER: Final = {0x794C7630: "overlayfs", 0x61756673: "aufs", 0xF15F: "ecryptfs", 0x2FC12FC1: "zfs"}
_USER_NAMESPACE_LACKS: Final = (
    "user namespace: device nodes, foreign owners and file capabilities are left out;"
    " run as root (sudo) to test them"
)


@dataclass(frozen=True, slots=True)
class Task:
    """What the controller asks for."""

    driver: str
    scratch: str
    parent: int
    selected: tuple[str, ...]
    examples: int
    seed: int


def main() -> None:
    """Run one task; exits with 0 when all events are told, whatever they say."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    task = Task(**json.loads(sys.stdin.read()))
    log = Path(task.scratch) / "log"
    try:
        namespace.die_with_parent(task.parent)
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            with redirect_stdout(file), redirect_stderr(file):
                _run(task, events)
    except UnknownDriver as error:
        _tell(events, "failed", message=str(error))
    except BaseException:
        _tell(events, "failed", message=traceback.format_exc())


def _tell(events: IO[str], event: str, **fields: Any) -> None:
    events.write(json.dumps({"event": event, **fields}) + "\n")


def _run(task: Task, events: IO[str]) -> None:
    lacking: dict[str, str] = {}
    notes: list[str] = []
    lane = "none"
    try:
        lane = namespace.enter_private_mounts()
    except namespace.NoNamespace as error:
        lacking["mounts"] = str(error)
    if lane == "user-namespace":
        notes.append(_USER_NAMESPACE_LACKS)
    scratch = _usable_scratch(Path(task.scratch) / "stores", notes)
    source = connect(task.driver)
    if not lacking:
        lacking |= _probe(scratch)
    info = source.info
    _tell(events, "opened", name=info.name, version=info.version, lane=lane, notes=[*notes, *lacking.values()])
    config = RunConfig(
        source,
        scratch,
        load_requirements(),
        frozenset(task.selected),
        privileged=lane == "root",
        examples=task.examples,
        seed=task.seed,
        lacking=lacking,
    )

    def report(outcome: TestOutcome) -> None:
        _tell(events, "outcome", **{**asdict(outcome), "verdict": outcome.verdict.value})

    plugin = ConformancePlugin(config, lambda test: _tell(events, "test", name=test), report)
    arguments = [str(_SUITES), "-q", "-p", "no:cacheprovider", "--rootdir", str(_SUITES), "-c", os.devnull]
    code = pytest.main([*arguments, f"--hypothesis-seed={task.seed}", "--import-mode=importlib"], plugins=[plugin])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.stdout.flush()
        text = (Path(task.scratch) / "log").read_text()
        _tell(events, "failed", message=f"pytest ended with {code!r}:\n{text[-4000:]}")
        return
    _tell(events, "finished")


def _usable_scratch(scratch: Path, notes: list[str]) -> Path:
    scratch.mkdir()
    name = _NO_UPPER.get(namespace.filesystem_magic(scratch))
    if name:
        namespace.mount_tmpfs(scratch)
        notes.append(f"the temporary directory is on {name}, which cannot hold layers: the run used a tmpfs")
    return scratch


def _probe(scratch: Path) -> dict[str, str]:
    """What this host cannot do, so that no driver is blamed for it."""
    directory = scratch / "probe"
    directory.mkdir()
    for name in ("lower", "upper", "work", "merged"):
        (directory / name).mkdir()
    try:
        namespace.mount_overlay(directory)
    except OSError as error:
        return {
            "mounts": f"this host mounts no overlays: {error.strerror}; run as root (sudo) on kernel 4.0 or later"
        }
    shutil.rmtree(directory)
    return {}


if __name__ == "__main__":
    main()
