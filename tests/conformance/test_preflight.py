"""The preflight: what cannot be used is not judged, what deviates is judged by that alone."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from commanding import command
from reading import records, verdicts

from conformance.drivers.protocol import DriverFailed, DriverInfo, DriverRefused, DriverUnderTest, OpenRequest
from conformance.drivers.source import DriverSource
from conformance.harness.channel import event_of, new_token
from conformance.harness.events import Tried
from conformance.harness.place import Place
from conformance.harness.preflight import Unusable, preflight
from conformance.harness.session import Session
from conformance.harness.stores import Fixtures, reason_to_skip
from conformance.harness.task import Task
from conformance.harness.timing import Stopwatch
from conformance.harness.worker import arguments
from conformance.history.steps import History
from conformance.selftest.trial import Job
from conformance.selftest.trials import Trials
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.verdicts import PREFLIGHT

pytestmark = pytest.mark.mounts
DRIVERS = '''
import os
from refdriver import Driver, DriverError

def seen(what):
    with open(os.environ["SEEN"], "a") as file:
        file.write(what + "\\n")

class RefusesToOpen(Driver):
    def __init__(self, home, **asked):
        raise DriverError(f"no kernel module for {home!r}")

class RefusesToMount(Driver):
    """A base layer needs no overlay, so that only a child of it shows this."""
    def get(self, layer_id, label=""):
        if layer_id == "child":
            raise DriverError("fuse-overlayfs: cannot exec: No such file or directory")
        return super().get(layer_id, label)

class RefusesToRemove(Driver):
    def remove(self, layer_id):
        retrun

class RefusesToClose(Driver):
    def cleanup(self):
        raise DriverError("the home is busy")

class Loses(Driver):
    """Forgets what was written last into a child."""
    def get(self, layer_id, label=""):
        self.root = super().get(layer_id, label)
        return self.root
    def put(self, layer_id):
        if os.path.exists(f"{self.root}/of-child/file"):
            os.unlink(f"{self.root}/of-child/file")
        super().put(layer_id)


class Opens(Driver):
    def __init__(self, home, **asked):
        if "/preflight/" in str(home):
            seen("preflight")
        super().__init__(home, **asked)
'''


def run(scratch: Path, *words: str, program: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """The command in this process, or another ``program``, where the drivers can be imported."""
    (scratch / "drivers").mkdir(exist_ok=True)
    (scratch / "stores").mkdir(exist_ok=True)
    (scratch / "drivers" / "driving.py").write_text(DRIVERS)
    path = os.pathsep.join([str(scratch / "drivers"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "SEEN": str(scratch / "seen")}
    if not program:
        return command(*words, env=env)
    return subprocess.run([*program, *words], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("driver", "step", "said", "following"),
    [
        ("python:driving:RefusesToOpen", "open an empty home", "no kernel module for", "driving.RefusesToOpen("),
        ("python:driving:RefusesToMount", "'child', write into it", "fuse-overlayfs: cannot exec", "by hand"),
        ("python:driving:RefusesToRemove", "remove the child", "'retrun' is not defined", "by hand"),
        ("python:driving:RefusesToClose", "close the home", "the home is busy", "by hand"),
        ("graphdriver:/no/such.sock", "open an empty home", "No such file or directory", "curl --unix-socket"),
        (
            "graphdriver:?command=sh -c 'echo the address is taken; exit 3' {socket}",
            "open an empty home",
            "the address is taken",
            "start it by hand",
        ),
        pytest.param(
            "containers-storage:ovrelay",
            "open an empty home",
            "driver not supported",
            "--storage-driver ovrelay status",
            marks=pytest.mark.skipif(
                not shutil.which("containers-storage"), reason="needs the package containers-storage"
            ),
        ),
    ],
)
def test_a_driver_that_cannot_be_used_is_not_judged(
    scratch: Path, driver: str, step: str, said: str, following: str
) -> None:
    file = scratch / "results.jsonl"
    words = ["--scratch", str(scratch / "stores"), "--results", str(file), "--no-evidence"]
    done = run(scratch, "run", driver, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) < 40
    assert lines[0].startswith(f"overlay-conformance: {driver} cannot be judged: the driver")
    assert step in lines[1]
    assert said in done.stderr
    assert following in done.stderr
    assert "UNTESTED" not in done.stderr
    assert records(file, "outcome") == records(file, "result") == []
    (about,) = records(file, "run")
    assert about["failure"] in done.stderr
    assert os.listdir(scratch / "stores") == []


def test_reports_say_why_nothing_was_judged(scratch: Path) -> None:
    file = scratch / "results.jsonl"
    run(scratch, "run", "python:driving:RefusesToOpen", "--results", str(file), "--no-evidence")
    done = run(scratch, "report", str(file), "--markdown", str(scratch / "page.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    page = (scratch / "page.md").read_text()
    assert "python:driving:RefusesToOpen cannot be judged" in page
    assert "UNTESTED" not in page


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_deviation_is_a_verdict_and_the_run_ends_with_it(scratch: Path, jobs: str) -> None:
    file = scratch / "results.jsonl"
    words = ["--results", str(file), "--evidence", str(scratch / "evidence"), "--jobs", jobs]
    done = run(scratch, "run", "python:driving:Loses", *words, "--requirement", "OVL-LIFE-CREATE")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "UNTESTED" not in done.stdout + done.stderr
    assert verdicts(file) == {"OVL-TREE-MODEL": "FAIL"}
    (outcome,) = records(file, "outcome")
    assert outcome["test"] == PREFLIGHT
    assert "missing: 'of-child/file'" in outcome["reason"]
    folder = scratch / "evidence" / "OVL-TREE-MODEL-preflight"
    assert (folder / "repro.sh").exists()
    for driver, verdict, code in (("driving:Loses", "STILL", 1), ("refdriver:Driver", "FIXED", 0)):
        again = run(scratch, "replay", str(folder), f"python:{driver}", "--times", "1")
        assert (again.stdout.split(":")[0], again.returncode) == (verdict, code), again.stdout + again.stderr


def test_it_is_no_known_failure(scratch: Path) -> None:
    """A run that ends early has not looked whether anything else fails."""
    (scratch / "known.toml").write_text(
        'format = 1\n[[known]]\nrequirement = "OVL-TREE-MODEL"\nreason = "known"\nreview-by = 2999-01-01\n'
    )
    words = ["--expectations", str(scratch / "known.toml"), "--no-evidence"]
    done = run(scratch, "run", "python:driving:Loses", *words)
    assert done.returncode == 1, done.stdout + done.stderr


def test_a_replay_of_something_else_is_not_a_verdict_on_it(scratch: Path) -> None:
    words = ["--evidence", str(scratch / "evidence")]
    run(scratch, "run", "python:driving:Loses", *words)
    case = scratch / "evidence" / "OVL-TREE-MODEL-preflight" / "case.json"
    stored = {**json.loads(case.read_text()), "requirements": ["OVL-CHAIN-128"], "test": "test_of_chains"}
    case.write_text(json.dumps(stored))
    for driver in ("Loses", "RefusesToOpen"):
        again = run(scratch, "replay", str(case), f"python:driving:{driver}", "--times", "1")
        assert (again.stdout.split(":")[0], again.returncode) == ("ERROR", 2), again.stdout + again.stderr


def test_drivers_that_are_compared_can_be_used(scratch: Path) -> None:
    for words in (["python:refdriver:Driver", "python:driving:RefusesToOpen"], ["python:driving:Loses"] * 2):
        done = run(scratch, "compare", *words, "--examples", "1")
        assert done.returncode == 2, done.stdout + done.stderr
        assert f"overlay-conformance: {words[1]} cannot be" in done.stderr
        assert "harness" not in done.stderr


@pytest.mark.parametrize("parallel", [[], ["-n", "2"]])
def test_pytest_itself_is_told(scratch: Path, parallel: list[str]) -> None:
    pytest_ = [sys.executable, "-m", "pytest", "--pyargs", "conformance", "-q", "-p", "no:cacheprovider"]
    pytest_.append("--assert=plain")  # no module of the suite has to be rewritten
    pytest_ += ["-c", os.devnull, "--rootdir", str(scratch), *parallel]
    done = run(scratch, "--driver=python:driving:RefusesToOpen", program=pytest_)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert "ERROR: python:driving:RefusesToOpen cannot be judged" in done.stderr
    done = run(scratch, "--driver=python:driving:Loses", program=pytest_)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "OVL-TREE-MODEL" in done.stdout + done.stderr


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_it_is_done_once_in_a_run(scratch: Path, jobs: str) -> None:
    words = ["--no-evidence", "--requirement", "OVL-LIFE-CREATE", "--examples", "1"]
    done = run(scratch, "run", f"python:driving:Opens?writable={scratch}", *words, "--jobs", jobs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (scratch / "seen").read_text().split() == ["preflight"]


def test_a_mutant_is_killed_by_what_it_is_named_for_and_not_by_the_preflight(scratch: Path) -> None:
    job = Job("Loses", "python:driving:Loses", ("OVL-LIFE-CREATE",), "host", "", 1, 60.0)
    token = new_token()
    trials = Trials(str(scratch), os.getpid(), "refdriver:Driver", (job,), "smoke", 1)
    done = subprocess.run(
        [sys.executable, "-m", "conformance.selftest.trials"],
        input=f"{token}\n{json.dumps(dataclasses.asdict(trials))}",
        env={**os.environ, "PYTHONPATH": str(made(scratch))},
        capture_output=True,
        text=True,
        check=False,
    )
    events = [event_of(line.encode(), token) for line in done.stdout.splitlines()]
    tried = [event for event in events if isinstance(event, Tried)]
    assert tried, done.stdout + done.stderr
    assert PREFLIGHT not in {outcome.test for one in tried for outcome in one.outcomes}
    assert tried[0].outcomes
    task = Task("d", "s", 1, (), "smoke", 1, 1, preflight=False)
    assert "--conformance-no-preflight" in arguments(task, 0, scratch)


def made(scratch: Path) -> Path:
    (scratch / "driving.py").write_text(DRIVERS)
    return scratch


class Scripted:
    """A driver that makes layers, and refuses or fails in one of its calls."""

    home = image_store = ""

    def __init__(self, wrong: str = "", error: Exception | None = None) -> None:
        self._wrong, self._error = wrong, error
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> object:
        def call(*_: object, **__: object) -> None:
            self.calls.append(name)
            if name == self._wrong and self._error:
                raise self._error

        return call


def fixtures(scratch: Path, driver: Scripted, lacking: Mapping[str, str], *places: Place) -> Fixtures:
    def opened(_: OpenRequest) -> DriverUnderTest:
        return driver  # type: ignore[return-value] # it has what is called

    session = Session("kind:name", "smoke", 1, (), "root", places, lacking, (), stores=str(scratch))
    source = DriverSource(DriverInfo("kind:name", "1"), opened, next_step="buy a kernel")
    return Fixtures(session, source, History(), Stopwatch(), load_requirements(), load_capabilities())


def test_a_host_that_mounts_nothing_is_not_the_drivers_fault(scratch: Path) -> None:
    refusing = Scripted("create", DriverRefused("cannot mount"))
    assert preflight(fixtures(scratch, refusing, {"mounts": "none here"})) is None
    good = Scripted()
    assert preflight(fixtures(scratch, good, {"mounts": "none here"})) is None
    assert [one for one in good.calls if one != "home"] == ["create", "remove", "close"]
    failing = Scripted("create", DriverFailed("its process died of SIGSEGV in create", "a trace"))
    with pytest.raises(Unusable, match="SIGSEGV"):
        preflight(fixtures(scratch, failing, {"mounts": "none here"}))


def test_the_message_has_the_step_the_words_the_detail_and_what_is_next(scratch: Path) -> None:
    failing = Scripted("create", DriverFailed("it died", "line 1\nline 2"))
    with pytest.raises(Unusable) as unusable:
        preflight(fixtures(scratch, failing, {}))
    assert str(unusable.value) == (
        "kind:name cannot be judged: the driver (version 1) failed in a step of the preflight\n"
        "  step: create a layer\n"
        "  said: it died\n"
        "        line 1\n"
        "        line 2\n"
        "  next: buy a kernel"
    )


def test_it_is_done_on_the_first_filesystem_that_can_hold_layers(scratch: Path) -> None:
    for name in ("unfit", "fit"):
        (scratch / name).mkdir()
    unfit = Place("overlay", str(scratch / "unfit"), unfit="an overlay cannot hold an upper")
    missing = Place("xfs", str(scratch), missing="this kernel has no xfs")
    fit = Place("ext4", str(scratch / "fit"))
    driver = Scripted()
    none = {"mounts": "none here"}
    preflight(fixtures(scratch, driver, none, missing, unfit, fit))
    assert (os.listdir(scratch / "fit"), os.listdir(scratch / "unfit")) == (["preflight"], [])
    preflight(fixtures(scratch, driver, none, missing, unfit))
    assert (scratch / "preflight").is_dir()


def test_where_no_filesystem_can_hold_layers_nothing_is_tried(scratch: Path) -> None:
    unfit = Place("tmpfs", str(scratch), unfit="tmpfs has no attributes of users")
    driver = Scripted("create", DriverRefused("there is no place for my marks"))
    found = fixtures(scratch, driver, {}, unfit)
    found = dataclasses.replace(found, session=dataclasses.replace(found.session, unfit=unfit.unfit))
    assert preflight(found) is None
    assert driver.calls == []


@pytest.mark.parametrize(
    ("requirement", "backing", "judged"),
    [
        ("OVL-GATE-REAL-OVERLAY", "overlay", True),  # of a filesystem that is never fit
        ("OVL-QUOTA-UNSUPPORTED", "tmpfs", False),  # of one that is unfit on some kernels
        ("OVL-LIFE-CREATE", "overlay", False),
        ("OVL-LIFE-CREATE", "tmpfs", False),
    ],
)
def test_what_is_unfit_is_judged_by_what_is_about_that_alone(
    scratch: Path, requirement: str, backing: str, judged: bool
) -> None:
    unfit = Place(backing, str(scratch), unfit="overlay does not work here")
    reason = reason_to_skip(fixtures(scratch, Scripted(), {}), [requirement], unfit)
    assert reason == ("" if judged else f"not applicable: {backing}: overlay does not work here")
