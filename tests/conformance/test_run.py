"""The command itself: its exit codes, its requirements, and what is left after it."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance import suites
from conformance.lab.scratch import scratch_directory, sweep
from conformance.results import TestOutcome, Verdict, exit_code, judge
from conformance.spec import load_requirements

pytestmark = pytest.mark.mounts
COMMAND = [sys.executable, "-m", "conformance"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)


def declared_by_tests() -> set[str]:
    """Every id in a requirement marker of the suites."""
    found: set[str] = set()
    for path in Path(str(suites.__file__)).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                own = [
                    argument.value
                    for decorator in node.decorator_list
                    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.requirement"
                    for argument in decorator.args
                    if isinstance(argument, ast.Constant)
                ]
                assert own, f"{path.name}: {node.name} declares no requirement"
                found |= {str(one) for one in own}
    return found


def test_every_requirement_has_a_test_and_every_test_a_requirement() -> None:
    assert declared_by_tests() == set(load_requirements())


def test_ids_are_semantic_and_sentences_whole() -> None:
    for requirement in load_requirements().values():
        assert re.fullmatch(r"OVL-[A-Z]+(-[A-Z0-9]+)+", requirement.id)
        assert requirement.source


def test_list_and_explain() -> None:
    listed = run("list")
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) == len(load_requirements())
    assert "never" not in run("explain", "OVL-CHAIN-128").stderr
    assert run("explain", "OVL-NO-SUCH").returncode == 2


@pytest.mark.parametrize(
    "words",
    [
        ["run", "nonsense"],
        ["run", "python:no.such.module:Driver"],
        ["run", "python:refdriver"],
        ["run", "containers-storage:overlay?binary=/no/such/binary"],
        ["run", "python:refdriver:Driver", "--requirement", "OVL-NO-SUCH"],
        ["run", "python:refdriver:Driver", "--family", "no such family"],
    ],
)
def test_what_is_no_run_exits_with_2(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_driver_that_cannot_open_is_at_fault_and_not_the_harness() -> None:
    done = run("run", "python:decimal:Decimal", "--requirement", "OVL-LIFE-CREATE")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "InvalidOperation" in done.stdout


def outcome(verdict: Verdict) -> TestOutcome:
    return TestOutcome("test", ("A",), verdict)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([Verdict.PASS], 0),
        ([Verdict.PASS, Verdict.DECLINED], 0),
        ([Verdict.PASS, Verdict.FAIL], 1),
        ([Verdict.FAIL, Verdict.ERROR], 2),
        ([Verdict.DECLINED, Verdict.NOT_APPLICABLE], 3),
        ([], 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst(verdicts: list[Verdict], code: int) -> None:
    assert exit_code(judge(["A"], [outcome(verdict) for verdict in verdicts])) == code


def test_a_skip_never_hides_a_failure() -> None:
    results = judge(["A", "B"], [outcome(Verdict.PASS), outcome(Verdict.FAIL), outcome(Verdict.DECLINED)])
    assert [result.verdict for result in results] == [Verdict.FAIL, Verdict.UNTESTED]


def started_run(scratch: Path) -> subprocess.Popen[str]:
    """A run that has begun with its first test."""
    process = subprocess.Popen(
        [*COMMAND, "run", "python:refdriver:Driver", "--scratch", str(scratch)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(scratch.glob("overlay-conformance-run-*/stores/s1")):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        os.sched_yield()
    return process


def test_an_interrupted_run_leaves_nothing(scratch: Path) -> None:
    with started_run(scratch) as process:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert list(scratch.iterdir()) == []
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()


def test_a_killed_run_is_swept_by_the_next(scratch: Path) -> None:
    with started_run(scratch) as process:
        process.kill()
        process.communicate(timeout=60)  # the worker dies with it and closes its end of the pipe
    left = list(scratch.iterdir())
    assert len(left) == 1
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()
    done = run("run", "python:refdriver:Driver", "--requirement", "OVL-LIFE-CREATE", "--scratch", str(scratch))
    assert done.returncode == 0, done.stdout
    assert list(scratch.iterdir()) == []


def test_a_living_run_is_not_swept(scratch: Path) -> None:
    with scratch_directory(scratch) as mine:
        assert sweep(scratch) == []
        assert mine.is_dir()
    assert list(scratch.iterdir()) == []


def test_the_user_namespace_lane_says_what_it_leaves_out(scratch: Path) -> None:
    words = ["run", "python:refdriver:Driver", "--examples", "5", "--scratch", str(scratch)]
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run([*unshare, *COMMAND, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lane user-namespace" in done.stdout
    assert "run as root" in done.stdout


def test_where_nothing_can_be_mounted_nothing_is_judged(scratch: Path) -> None:
    words = ["run", "python:refdriver:Driver", "--scratch", str(scratch)]
    # A user without a user namespace of its own, as in a container without privileges.
    limited = 'exec setpriv --bounding-set -all --inh-caps -all "$0" "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", limited, *COMMAND, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "run as root" in done.stdout
