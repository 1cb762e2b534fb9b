"""Runs that end before they are done: by a signal, by a kill of one of their processes, by a closed pipe."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from commanding import command
from processes import descendants, workers
from reading import records, without_progress

from conformance.harness.collected import Collected, Inventory
from conformance.harness.events import Event
from conformance.harness.following import Followed, follow
from conformance.history.case import Case
from conformance.history.findings import InWords
from conformance.lab.scratch import sweep
from conformance.spec.values import as_plain
from conformance.spec.verdicts import TestOutcome, Verdict, shares_of

COMMAND = [sys.executable, "-m", "conformance"]
# Wrong in one requirement, which is judged first; in another one it starts a daemon, tells the test, and hangs.
HANGS = """
import os, subprocess, time
from refdriver import Driver

class Hangs(Driver):
    def exists(self, layer_id):
        return True

    def metadata(self, layer_id):
        self.hang()

    def diff_size(self, layer_id, parent):
        self.hang()

    def hang(self):
        subprocess.Popen(["sleep", MARK], start_new_session=True)
        with open(FIFO, "w") as told:
            told.write("now")
        while True:
            time.sleep(3600)
"""
STUBBORN = """
from hangs import Hangs as Driver

class Hangs(Driver):
    def hang(self):
        while True:
            try:
                super().hang()
            except BaseException:
                pass
"""
HUNG = "OVL-STATUS-METADATA-MISSING"  # it has one test
WRONG = "OVL-LIFE-REMOVE"
CHOSEN = ["--requirement", WRONG, "--requirement", HUNG]


@dataclass(frozen=True, slots=True)
class Hanging:
    """A command that hangs in a call of its driver, and what its daemon is called by."""

    process: subprocess.Popen[str]
    scratch: Path
    mark: str
    fifo: Path

    def until_it_hangs(self) -> None:
        """Wait for the driver, which writes into the FIFO when it is called."""
        fd = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            ready, _, _ = select.select([fd], [], [], 300)
            assert ready, "it never hung"
        finally:
            os.close(fd)

    def ended(self) -> tuple[int, str]:
        """Wait for the end; the exit status and the output."""
        output, _ = self.process.communicate(timeout=300)
        return self.process.returncode, output

    def left(self) -> list[str]:
        """Processes, mounts and directories that should not be there any more."""
        found = [name for name in running() if self.mark in name or str(self.scratch) in name]
        found += [path.name for path in self.scratch.glob("overlay-conformance-run-*")]
        return found + [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.scratch) in line
        ]


def running() -> list[str]:
    """The command lines of all processes."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                found.append(
                    Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
    return found


@contextmanager
def hanging(scratch: Path, *words: str, driver: str = "hangs") -> Iterator[Hanging]:
    mark, fifo = f"98765.{uuid.uuid4().int % 10**9}", scratch / "moment"
    os.mkfifo(fifo)
    # Both ends are open, so that the driver never waits for a reader.
    keeper = os.open(fifo, os.O_RDWR)
    source = HANGS.replace("MARK", repr(mark)).replace("FIFO", repr(str(fifo)))
    (scratch / "hangs.py").write_text(source)
    (scratch / "stubborn.py").write_text(STUBBORN)
    path = os.pathsep.join([str(scratch), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [
            *COMMAND,
            *(word.replace("DRIVER", f"python:{driver}:Hangs") for word in words),
            "--scratch",
            str(scratch),
        ],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with process:
            yield Hanging(process, scratch, mark, fifo)
    finally:
        os.close(keeper)
        process.kill()


@pytest.mark.mounts
@pytest.mark.parametrize(
    ("number", "jobs"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGHUP, 1), (signal.SIGTERM, 2)],
    ids=lambda one: getattr(one, "name", str(one)),
)
def test_a_signal_ends_a_run_with_what_it_judged(scratch: Path, number: signal.Signals, jobs: int) -> None:
    results, evidence = scratch / "results.jsonl", scratch / "evidence"
    words = ["run", "DRIVER", *CHOSEN, "--jobs", str(jobs), "--results", str(results), "--evidence", str(evidence)]
    with hanging(scratch, *words) as run:
        run.until_it_hangs()
        run.process.send_signal(number)
        code, output = run.ended()
        assert run.left() == []
    assert code == 128 + number, output
    assert f"interrupted by {number.name}" in output
    last = output.rstrip().splitlines()[-1]
    assert last.endswith("this is not a conclusion")
    assert "Traceback" not in output
    assert records(results, "run")[0]["failure"].startswith(f"interrupted by {number.name}")
    verdicts = {one["requirement"]: one["verdict"] for one in records(results, "result")}
    assert verdicts[HUNG] == "UNTESTED"
    if jobs == 1:  # with two, the other may have been in its test when the signal came
        assert verdicts[WRONG] == "FAIL"
        failed = [one for one in records(results, "outcome") if one["verdict"] == "FAIL"]
        assert failed
        for one in failed:
            said = (results.parent / one["evidence"] / "failure.md").read_text()
            assert "There is no reproducer: the run was interrupted" in said


@pytest.mark.mounts
def test_a_second_signal_ends_a_driver_that_takes_no_notice(scratch: Path) -> None:
    with hanging(scratch, "run", "DRIVER", "--requirement", HUNG, driver="stubborn") as run:
        run.until_it_hangs()
        run.process.send_signal(signal.SIGINT)
        assert run.process.stdout is not None
        assert any("interrupt again" in line for line in run.process.stdout)  # progress may come before
        run.process.send_signal(signal.SIGINT)
        code, output = run.ended()
        assert run.left() == []
    assert code == 130, output


@pytest.mark.mounts
@pytest.mark.parametrize(
    "words",
    [
        ["compare", "python:refdriver:Driver", "DRIVER"],
        ["replay", "CASE", "DRIVER"],
    ],
    ids=lambda words: words[0],
)
def test_a_signal_ends_other_verbs_too(scratch: Path, words: list[str]) -> None:
    case = Case("test_nothing_has_no_size", ("OVL-SIZE-EMPTY",), "host", "x", "", (), (), InWords())
    (scratch / "case.json").write_text(json.dumps(case.as_json()))
    with hanging(scratch, *[word.replace("CASE", str(scratch / "case.json")) for word in words]) as run:
        run.until_it_hangs()
        run.process.send_signal(signal.SIGTERM)
        code, output = run.ended()
        assert run.left() == []
    assert code == 143, output
    assert "interrupted by SIGTERM" in output
    assert "Traceback" not in output


@pytest.mark.mounts
def test_a_killed_worker_is_an_error_that_names_its_test(scratch: Path) -> None:
    results = scratch / "results.jsonl"
    with hanging(scratch, "run", "DRIVER", *CHOSEN, "--no-evidence", "--results", str(results)) as run:
        run.until_it_hangs()
        os.kill(descendants(run.process.pid)[0], signal.SIGKILL)
        code, output = run.ended()
        assert run.left() == []
    assert code == 2, output
    assert "killed by SIGKILL" in output
    assert f"ERROR {HUNG}" in output
    verdicts = {one["requirement"]: one["verdict"] for one in records(results, "result")}
    assert verdicts == {HUNG: "ERROR", WRONG: "FAIL"}


@pytest.mark.mounts
def test_a_killed_process_of_several_is_an_error_that_names_its_test(scratch: Path) -> None:
    results = scratch / "results.jsonl"
    words = ["run", "DRIVER", *CHOSEN, "--jobs", "2", "--no-evidence", "--results", str(results)]
    with hanging(scratch, *words) as run:
        run.until_it_hangs()
        # The first three wait, are the init of the PID namespace, and hand out the tests.
        for pid in workers(run.process.pid)[3:]:
            with suppress(ProcessLookupError):  # the other one may have no test left
                os.kill(pid, signal.SIGKILL)
        code, output = run.ended()
        assert run.left() == []
    assert code == 2, output
    assert f"ERROR {HUNG}" in output
    assert "the test reported no outcome: the process that ran" in output
    assert "was killed by signal 9" in output
    assert {one["requirement"] for one in records(results, "result")} == {HUNG, WRONG}


@pytest.mark.mounts
def test_a_closed_pipe_is_no_verdict(scratch: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = ["run", "python:refdriver:Driver", "--requirement", "OVL-LIFE-CREATE", "--scratch", str(scratch)]
    done = subprocess.run([*COMMAND, *words], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert without_progress(done.stderr) == ""
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_what_cannot_be_written_costs_no_verdict(scratch: Path) -> None:
    """The parent of the evidence is a file, so no folder can be made there."""
    (scratch / "file").write_text("")
    (scratch / "hangs.py").write_text(HANGS)
    path = os.pathsep.join([str(scratch), os.environ.get("PYTHONPATH", "")])
    words = ["run", "python:hangs:Hangs", "--requirement", WRONG, "--evidence", str(scratch / "file" / "evidence")]
    done = command(*words, "--scratch", str(scratch), env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "could not be written: NotADirectoryError" in done.stdout
    assert "does not conform" in done.stdout


@pytest.mark.mounts
def test_what_a_killed_run_left_is_swept_however_deep_and_not_through_mounts(scratch: Path) -> None:
    left, others = scratch / "overlay-conformance-run-killed", scratch / "others"
    (left / "bound").mkdir(parents=True)
    others.mkdir()
    (left / "lock").touch()
    (others / "file").touch()
    subprocess.run(["mount", "--bind", others, left / "bound"], check=True)
    above = os.open(left, os.O_RDONLY)
    for _ in range(1500):  # shutil.rmtree recurses, and Python's limit is 1000
        os.mkdir("d", dir_fd=above)
        below = os.open("d", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)
    assert sweep(scratch) == [left]
    assert [path.name for path in scratch.rglob("*")] == ["others", "file"]
    assert str(left) not in Path("/proc/self/mountinfo").read_text()


# ---- The events of a worker that is none.

FAKE = """
import json, os, subprocess, sys, time
token, _, task = sys.stdin.read().partition("\\n")
def tell(**fields):
    print(token, json.dumps(fields), flush=True)
"""
OUTCOME = as_plain(TestOutcome("test_1", ("A",), Verdict.PASS))
INVENTORY = as_plain(
    Inventory({"f::test_1": Collected("test_1", ("A",)), "f::test_2": Collected("test_2", ("B",))})
)
TELLS = f"tell(event='collected', tests=2, inventory={INVENTORY!r})\n"


class Silent:
    """Hears of a run and says nothing."""

    def hear(self, event: Event) -> None: ...


def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Followed:
    (tmp_path / "fakeworker.py").write_text(FAKE + body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    found = follow("fakeworker", {}, Silent())
    found.account()
    return found


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("print('no token', flush=True)", "does not begin with the token of this run"),
        ('print(\'{"event": "finished"}\', flush=True)', "does not begin with the token of this run"),
        ("print(token, 'not JSON', flush=True)", "is not an event"),
        ("print(token, '[]', flush=True)", "not an object with the key 'event'"),
        ("tell(event='outcome', verdict='NONSENSE')", "is not an event"),
        ("tell(event='collected')", "is not an event (tests is missing)"),
        ("tell(event='collected', tests='2')", "tests: expected a whole number, found '2'"),
        ("tell(event='test', test='test_1', verdict='PASS')", "there is no key verdict"),
        ("os.write(1, b'\\x1b[31m\\xff\\n')", "\\x1b[31m\\xff"),
        ("os.write(1, token.encode() + b' {\"event\"')", "is not an event"),
        ("", "exited with status 0 before"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL before"),
        ("tell(event='failed', message='it broke')", "it broke"),
    ],
)
def test_what_is_no_event_is_a_failure_of_the_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, failure: str
) -> None:
    found = followed(tmp_path, monkeypatch, body)
    assert failure in found.failure
    assert found.failure.isprintable()


def test_an_event_that_is_not_known_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = followed(tmp_path, monkeypatch, "tell(event='weather', wind=3)\ntell(event='finished')")
    assert found.failure == ""


def test_tests_without_an_outcome_are_errors_where_they_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = followed(tmp_path, monkeypatch, TELLS + "tell(event='test', test='test_1')")
    assert [(one.test, one.verdict) for one in found.outcomes] == [
        ("test_1", Verdict.ERROR),
        ("test_2", Verdict.UNTESTED),
    ]
    ended = f"tell(event='test', test='test_1')\ntell(event='outcome', **{OUTCOME!r})"
    found = followed(tmp_path, monkeypatch, TELLS + ended)
    assert [one.verdict for one in found.outcomes] == [Verdict.PASS, Verdict.UNTESTED]


def test_a_worker_that_ended_is_seen_although_a_child_of_it_holds_its_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"98765.{uuid.uuid4().int % 10**9}"
    body = f"tell(event='finished')\nsubprocess.Popen(['sleep', '{mark}'], start_new_session=True)\nos._exit(0)"
    watchdog = threading.Timer(120, os.kill, (os.getpid(), signal.SIGABRT))
    watchdog.start()
    try:
        assert followed(tmp_path, monkeypatch, body).failure == ""
    finally:
        watchdog.cancel()
    assert [name for name in running() if mark in name] == []


def test_a_pass_says_of_how_many_tests_it_is() -> None:
    outcomes = [
        TestOutcome(f"test_{n}", ("A",), verdict) for n, verdict in enumerate([Verdict.PASS, Verdict.UNTESTED])
    ]
    (share,) = shares_of(outcomes, {"A": 3}).values()
    assert share.words("smoke") == "1 of 3 tests, profile smoke"
    assert shares_of(outcomes, {"A": 1})["A"].words("standard") == "1 test"
    assert shares_of(outcomes, {})["A"].words("standard") == ""


# ---- Within pytest.

MEDDLER = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    MEDDLES
"""


@pytest.mark.mounts
@pytest.mark.parametrize(
    ("meddles", "code", "said"),
    [
        ("pytest.exit('enough', returncode=0)", 2, "the test began and reported no outcome"),
        ("pytest.skip('declined: there is none')", 2, "skipped by meddler"),
        ("pytest.skip('it rains')", 2, "skipped by meddler"),
        ("import unittest; raise unittest.SkipTest('declined: there is none')", 2, "skipped, and not by the suite"),
        ("pytest.xfail('it is known')", 2, "pytest.xfail was called"),
    ],
)
def test_nothing_ends_or_skips_a_test_but_the_suite(scratch: Path, meddles: str, code: int, said: str) -> None:
    (scratch / "meddler.py").write_text(MEDDLER.replace("MEDDLES", meddles))
    path = os.pathsep.join([str(scratch), os.environ.get("PYTHONPATH", "")])
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "meddler", "--assert=plain"]
    words += ["--pyargs", "conformance.suites.test_life_cycle"]  # test_run has the whole suite
    words += ["-k", "sibling", "--driver=python:refdriver:Driver", f"--conformance-scratch={scratch}", "-rA"]
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout or "began" in said
    assert "1 ERROR" in done.stdout
    assert "-> the harness failed" in done.stdout
