"""The command itself: its exit codes, and what is left after it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commanding import command
from reading import records

from conformance.harness import worker
from conformance.harness.events import Event
from conformance.harness.task import Task
from conformance.lab.scratch import scratch_directory, sweep
from conformance.spec import load_requirements

pytestmark = pytest.mark.mounts
COMMAND = [sys.executable, "-m", "conformance"]


COUNTED = """
from refdriver import Driver

with open({file!r}, "a") as file:
    file.write("imported\\n")
"""


def test_list_and_explain() -> None:
    listed = command("list")
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) == len(load_requirements())
    assert "never" not in command("explain", "OVL-CHAIN-128").stderr
    assert command("explain", "OVL-NO-SUCH").returncode == 2


@pytest.mark.parametrize(
    "words",
    [
        ["run", "nonsense"],
        ["run", "python:no.such.module:Driver"],
        ["run", "python:refdriver"],
        ["run", "containers-storage:overlay?binary=/no/such/binary"],
        ["run", "python:refdriver:Driver", "--requirement", "OVL-NO-SUCH"],
        ["run", "python:refdriver:Driver", "--family", "no such family"],
        ["run", "python:refdriver:Driver", "--budget", "soon"],
        ["run", "python:refdriver:Driver", "--backing", "nonsensefs"],
        ["run", "graphdriver:"],
        ["run", "graphdriver:?command=/no/such/command {socket}"],
        ["run", "containerd:overlayfs?binary=/no/such/binary"],
    ],
)
def test_what_is_no_run_exits_with_2(words: list[str]) -> None:
    done = command(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_driver_that_cannot_open_is_not_judged() -> None:
    done = command("run", "python:decimal:Decimal", "--requirement", "OVL-LIFE-CREATE")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "InvalidOperation" in done.stderr


WEARS_OUT = """
from refdriver import Driver

GETS = []

class WearsOut(Driver):
    def get(self, layer_id, label=""):
        GETS.append(layer_id)
        if len(GETS) > 20:
            raise ValueError("worn out")
        return super().get(layer_id, label)
"""


def test_a_driver_that_stays_wrong_is_at_fault_and_not_the_harness(scratch: Path) -> None:
    """What it did in one example has it fail earlier in the next ones, where hypothesis knows more steps."""
    (scratch / "wearing.py").write_text(WEARS_OUT)
    words = ["--requirement", "OVL-LIFE-HISTORY", "--seed", "1", "--no-evidence", "--jobs", "1"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(scratch), os.environ.get("PYTHONPATH", "")])}
    done = command("run", "python:wearing:WearsOut", *words, "--scratch", str(scratch), env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "worn out" in done.stdout


def started_run(scratch: Path) -> subprocess.Popen[str]:
    """A run that has begun with its first test."""
    process = subprocess.Popen(
        [*COMMAND, "run", "python:refdriver:Driver", "--scratch", str(scratch)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(scratch.glob("overlay-conformance-run-*/round-0/stores/host/*/s1")):
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
            pytest.fail(process.stdout.read() if process.stdout else "it ended")
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
    done = command("run", "python:refdriver:Driver", "--requirement", "OVL-LIFE-CREATE", "--scratch", str(scratch))
    assert done.returncode == 0, done.stdout
    assert list(scratch.iterdir()) == []


def test_a_living_run_is_not_swept(scratch: Path) -> None:
    with scratch_directory(scratch) as mine:
        assert sweep(scratch) == []
        assert mine.is_dir()
    assert list(scratch.iterdir()) == []


def test_a_run_in_a_user_namespace_says_what_it_leaves_out(scratch: Path) -> None:
    """By two requirements; .ci/run tries the whole suite in a user namespace."""
    words = ["run", "python:refdriver:Driver", "--examples", "5", "--scratch", str(scratch)]
    words += ["--requirement", "OVL-LIFE-CREATE", "--requirement", "OVL-META-DEVICES"]
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run([*unshare, *COMMAND, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "privilege level user-namespace" in done.stdout
    assert "run as root" in done.stdout
    assert re.search("^NOT-APPLICABLE +OVL-META-DEVICES", done.stdout, re.M)
    assert re.search("^PASS +OVL-LIFE-CREATE", done.stdout, re.M)


def test_without_root_a_backing_filesystem_is_that_of_the_scratch_directory(scratch: Path) -> None:
    results = scratch / "results.jsonl"
    words = ["run", "python:refdriver:Driver", "--requirement", "OVL-LIFE-CREATE", "--results", str(results)]
    words += ["--scratch", str(scratch / "mounted"), "--backing", "ext4", "--backing", "ext4-prjquota"]
    script = """
set -eu
cd "$1"
mkdir mounted
truncate --size 64M image
mkfs.ext4 -q -F image
mount -o loop image mounted
shift
exec unshare --user --map-root-user --mount "$@"
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(scratch), *COMMAND, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (began,) = records(results, "run")
    assert (began["backings"], began["lane"]) == (["ext4"], "user-namespace")
    assert "ext4-prjquota: loop devices need real root" in " ".join(began["notes"])
    assert {one["verdict"] for one in records(results, "outcome")} == {"PASS"}


def test_a_home_of_one_process_is_not_opened_twice(scratch: Path) -> None:
    """One that waits for its lock took a minute, and then broke the store of the test."""
    driver = "python:refdriver:Driver?decline=processes:one daemon owns the home"
    words = ["-k", "an_opening_that_is_closed_leaves_none", "--results", str(scratch / "results.jsonl")]
    done = command("run", driver, *words, "--scratch", str(scratch))
    assert done.returncode == 3, done.stdout + done.stderr
    (outcome,) = (
        one for one in records(scratch / "results.jsonl", "outcome") if one["test"] != "the_kernel_stays_well"
    )
    assert (outcome["verdict"], outcome["reason"]) == ("DECLINED", "declined: one daemon owns the home")


def test_without_root_nothing_is_judged_on_a_filesystem_without_attributes_of_users(scratch: Path) -> None:
    """Overlay keeps its marks in user.overlay.* there; tmpfs before Linux 6.6 is such a filesystem, as ramfs is."""
    words = ["run", "python:refdriver:Driver", "--requirement", "OVL-LIFE-CREATE", "--scratch", str(scratch)]
    script = 'mount -t ramfs none "$1"; shift; exec "$@"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(scratch)]
    done = subprocess.run([*unshare, *COMMAND, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.search("^NOT-APPLICABLE +OVL-LIFE-CREATE", done.stdout, re.M)
    assert "the filesystem of the scratch directory has no extended attributes user.*" in done.stdout
    assert "--scratch on another filesystem" in done.stdout


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


NOTES_CALLS = """
import os
from refdriver import Driver

class NotesCalls(Driver):
    def __getattribute__(self, name):
        with open(os.environ["CALLS"], "a") as file:
            print(name, file=file)
        return super().__getattribute__(name)
"""
# All that docs/adapters.md wants of a class but create_read_write, which takes the options of a layer.
CALLS = {"create", "remove", "get", "put", "exists", "status", "metadata", "close"}
CALLS |= {"diff", "apply_diff", "diff_size", "changes"}


def test_smoke_calls_everything_of_a_driver_and_needs_no_root(scratch: Path) -> None:
    (scratch / "noting.py").write_text(NOTES_CALLS)
    words = ["run", f"python:noting:NotesCalls?writable={scratch}", "--profile", "smoke", "--scratch", str(scratch)]
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*unshare, *COMMAND, *words],
        env={**os.environ, "PYTHONPATH": str(scratch), "CALLS": str(scratch / "calls")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "UNTESTED" not in done.stdout
    assert CALLS - set((scratch / "calls").read_text().split()) == set()


def test_a_failure_about_names_that_are_no_text_comes_from_another_process(scratch: Path) -> None:
    words = ["--requirement", "OVL-NAMES-BYTES", "--jobs", "2", "--no-evidence", "--scratch", str(scratch)]
    mutant = "python:conformance.selftest.mutants.archives:ApplyOmitsDeletions"
    env = {**os.environ, "CONFORMANCE_MUTANT_BASIS": "refdriver:Driver"}
    done = command("run", mutant, *words, env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not-utf-8" in done.stdout


def test_every_backing_filesystem_is_used_and_gone_afterwards(scratch: Path) -> None:
    results = scratch / "results.jsonl"
    devices = os.listdir("/sys/block")
    words = ["--requirement", "OVL-LIFE-CREATE", "--requirement", "OVL-GATE-REAL-OVERLAY", "--backing", "all"]
    done = command(
        "run",
        "python:refdriver:Driver",
        *words,
        "--examples",
        "1",
        "--results",
        str(results),
        "--scratch",
        str(scratch),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"ext4", "tmpfs", "overlay"} <= set(records(results, "run")[0]["backings"])
    outcomes = [one for one in records(results, "outcome") if one["test"].startswith("test_a_new_layer")]
    by_backing = {one["backing"]: one["verdict"] for one in outcomes}
    assert by_backing.pop("overlay") == "NOT-APPLICABLE"
    assert set(by_backing.values()) <= {"PASS", "NOT-APPLICABLE"}
    assert by_backing["ext4"] == by_backing["tmpfs"] == "PASS"
    assert [path.name for path in scratch.iterdir()] == ["results.jsonl"]
    busy = subprocess.run(["losetup", "--list", "--noheadings"], capture_output=True, text=True, check=True).stdout
    assert str(scratch) not in busy
    assert set(os.listdir("/sys/block")) >= set(devices)


@pytest.mark.slow
def test_gates_of_kernels_are_judged_where_stores_are_on_btrfs(scratch: Path) -> None:
    """A simulated kernel from before 4.7 is refused there, and rightly, so another filesystem is simulated too."""
    words = ["--requirement", "OVL-GATE-KERNEL-OLD", "--requirement", "OVL-GATE-KERNEL-FORM", "--no-evidence"]
    words += ["--requirement", "OVL-OPTION-BOOL", "--backing", "btrfs", "--scratch", str(scratch)]
    done = command("run", "python:refdriver:Driver", *words)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    assert ("cannot be mounted" in done.stdout or "no btrfs" in done.stdout) is (done.returncode == 3)


def test_a_budget_is_spent_in_rounds(scratch: Path) -> None:
    results = scratch / "results.jsonl"
    words = ["--requirement", "OVL-SIZE-APPLIED", "--examples", "1", "--budget", "8s"]
    done = command("run", "python:refdriver:Driver", *words, "--results", str(results), "--scratch", str(scratch))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(records(results, "outcome")) > 1  # one test, so one outcome for each round


class Deaf:
    """Where events go that nobody reads."""

    def tell(self, event: Event, /) -> None: ...


@pytest.mark.parametrize(
    ("profile", "generated", "expected"),
    [
        ("standard", True, 3),
        ("standard", False, 1),
        ("smoke", True, 1),
        ("quick", True, 3),
    ],
)
def test_there_is_another_round_only_where_it_may_find_more(
    monkeypatch: pytest.MonkeyPatch, profile: str, generated: bool, expected: int
) -> None:
    rounds = 0

    def one(_task: Any, _events: Any, listener: Any, *_others: Any) -> bool:
        nonlocal rounds
        rounds += 1
        listener.generated = generated
        return rounds < 3

    monkeypatch.setattr(worker, "_round", one)
    task = Task("", "", 0, (), profile, 1, 1, budget=3600.0)
    worker._run(task, Deaf())
    assert rounds == expected


def test_it_is_a_pytest_plugin(scratch: Path) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "conformance", "-k", "siblings_see"]
    driver = ["--driver=python:refdriver:Driver", f"--conformance-scratch={scratch}"]
    done = subprocess.run(
        [sys.executable, *words, *driver], capture_output=True, text=True, check=False, cwd=scratch
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 PASS" in done.stdout
    assert "in the driver or the kernel -> no deviation in the tested requirements" in done.stdout
    without = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=scratch)
    assert without.returncode == 4
    assert "--driver=python:refdriver:Driver" in without.stdout + without.stderr
    assert len((without.stdout + without.stderr).strip().splitlines()) == 1
    assert not list(scratch.iterdir())  # neither did the run before leave anything
    assert "warning" not in without.stdout


def test_capabilities_are_listed_in_three_columns(scratch: Path) -> None:
    results = scratch / "results.jsonl"
    words = [
        "--requirement",
        "OVL-CLAIM-HOLDS",
        "--no-evidence",
        "--results",
        str(results),
        "--scratch",
        str(scratch),
    ]
    env = {**os.environ, "CONFORMANCE_MUTANT_BASIS": "refdriver:Driver"}
    mutant = "python:conformance.selftest.mutants.stores:DiffTruncatesClaimedTimes"
    done = command("run", mutant, *words, env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {one["name"]: one for one in records(results, "capability")}
    assert rows["fine-times"] | {"reason": ""} == {
        "record": "capability",
        "run": rows["diff"]["run"],
        "name": "fine-times",
        "of": "driver",
        "declared": "yes",
        "probed": "no",
        "effective": "broken",
        "reason": "",
    }
    assert (rows["metadata"]["declared"], rows["metadata"]["effective"]) == ("no", "no")
    assert rows["metadata"]["reason"] == "there is none"
    assert (rows["diff"]["probed"], rows["diff"]["effective"]) == ("yes", "yes")


def test_a_driver_is_imported_once_in_a_run(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To import it once more only to learn whether it is there took a fifth of a short run."""
    (scratch / "counted.py").write_text(COUNTED.format(file=str(scratch / "imports")))
    monkeypatch.setenv("PYTHONPATH", str(scratch))
    driver = f"python:counted:Driver?writable={scratch}"
    done = command("run", driver, "--scratch", str(scratch), "--requirement", "OVL-LIFE-EXISTING-ID")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (scratch / "imports").read_text() == "imported\n"


def test_a_driver_that_is_not_there_leaves_nothing_that_was_prepared_for_it(scratch: Path) -> None:
    said = "cannot reach 'python:refdriver:Nobody': module 'refdriver' has no attribute 'Nobody'"
    done = command("run", "python:refdriver:Nobody", "--scratch", str(scratch), "--backing", "ext4")
    assert (done.returncode, done.stderr.strip()) == (2, f"overlay-conformance: {said}")
    assert not list(scratch.iterdir())
