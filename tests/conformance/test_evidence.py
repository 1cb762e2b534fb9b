"""What a failure leaves: a folder, a script that was seen to fail, and a case that is replayed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from commanding import command
from reading import records

pytestmark = pytest.mark.mounts
REFERENCE = "python:refdriver:Driver"
ENVIRONMENT = {**os.environ, "CONFORMANCE_MUTANT_BASIS": "refdriver:Driver"}
MUTANTS = {
    "a whiteout lost": ("archives:ApplyOmitsDeletions", "OVL-APPLY-ROUND-TRIP"),
    "mtimes rounded": ("archives:ApplyRoundsTimesToMinutes", "OVL-APPLY-FILE-TIMES"),
    "128 taken as 127": ("life_chains:ChainLimitIs127", "OVL-CHAIN-128"),
    "hard links broken": ("archives:ApplyCopiesHardLinks", "OVL-APPLY-HARD-LINKS"),
    "attributes lost": ("metadata:DiffOmitsXattrs", "OVL-META-XATTRS"),
    "changes not listed": ("changes:ChangesAreEmpty", "OVL-CHANGES-EXPLAIN"),
    "an archive taken that is none": ("hostile:ApplyAcceptsJunk", "OVL-HOSTILE-JUNK"),
    "a mount left": ("mounting:PutNeverUnmounts", "OVL-LIFE-NO-LEAKS"),
    "a short link trusted": ("together:RemoveTrustsLinkFile", "OVL-RESTART-LINK-EMPTY"),
    "a refusal that names nothing": ("refdriver.mutants.mounting:MountErrorNamesNoLower", "OVL-MOUNT-LOWER-GONE"),
    "a history": ("archives_apply:ApplyRefusesEveryArchive", "OVL-LIFE-HISTORY"),
}


@dataclass(frozen=True, slots=True)
class Left:
    """A run that failed: its output, and the folders that it left."""

    output: str
    results: Path
    folders: tuple[Path, ...]


def run(driver: str, *words: str, scratch: Path, env: Mapping[str, str] = ENVIRONMENT) -> Left:
    results, evidence = scratch / "results.jsonl", scratch / "evidence"
    options = ["--results", str(results), "--evidence", str(evidence), "--seed", "5", "--examples", "20"]
    done = command("run", driver, *options, "--scratch", str(scratch), *words, env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    named = [one["evidence"] for one in records(results, "outcome") if one["verdict"] == "FAIL"]
    return Left(done.stdout, results, tuple(results.parent / one for one in named))


def replay(case: Path, driver: str, *words: str) -> tuple[int, str]:
    done = command("replay", str(case), driver, *words, env=ENVIRONMENT)
    return done.returncode, done.stdout + done.stderr


def run_script(path: Path, text: str | None = None) -> tuple[int, str]:
    if text is not None:
        path = path.with_name("changed.sh")
        path.write_text(text)
    # As its reader may run it: with nothing in the environment.
    done = subprocess.run(["/bin/sh", str(path)], env={}, capture_output=True, text=True, check=False, cwd="/")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("what", MUTANTS)
def test_a_failure_is_shown_by_a_script_and_replayed(scratch: Path, what: str) -> None:
    mutant, requirement = MUTANTS[what]
    mutant = mutant if mutant.startswith("refdriver.") else f"conformance.selftest.mutants.{mutant}"
    driver = f"python:{mutant}"
    left = run(driver, "--requirement", requirement, "-x", scratch=scratch)
    (folder,) = left.folders
    there = {path.name for path in folder.iterdir()}
    assert {"case.json", "environment.json", "failure.md", "kernel.log", "repro.sh", "repro.log"} <= there
    assert f"reproducer: {folder / 'repro.sh'}" in left.output
    if what == "a whiteout lost":
        trees_and_their_difference_are_explained(folder)
    code, said = run_script(folder / "repro.sh")
    assert code == 1, said
    assert "DEVIATES" in said
    module, name = mutant.split(":")
    correct = (folder / "repro.sh").read_text().replace(module, "refdriver")
    code, said = run_script(folder / "repro.sh", correct.replace(f"\nname={name}\n", "\nname=Driver\n"))
    assert code == 0, said
    code, said = replay(folder, driver)
    assert (code, said[:5]) == (1, "STILL"), said
    # Each of the three replays that are the default starts a process: once is enough, but for one case.
    once = () if what == "attributes lost" else ("--times", "1")
    code, said = replay(folder / "case.json", REFERENCE, *once)
    assert (code, said[:5]) == (0, "FIXED"), said
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()


def trees_and_their_difference_are_explained(folder: Path) -> None:
    expected, actual = (folder / "expected.txt").read_text(), (folder / "actual.txt").read_text()
    lost = set(actual.splitlines()) - set(expected.splitlines())
    assert len(lost) == 1
    explained = (folder / "difference.txt").read_text()
    assert "unexpected: " in explained
    assert "last touched by: " in explained
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["kernel"] == os.uname().release
    words = (folder / "failure.md").read_text()
    assert "repro.sh" in words
    assert "\nA user would see: " in words
    assert "\n# a user would see: " in (folder / "repro.sh").read_text()
    assert "overlay-conformance replay case.json" in words


@pytest.mark.parametrize(
    "damage",
    ["", "{}", '{"format": 99}', "not json"],
    ids=["empty", "no-fields", "another-format", "no-json"],
)
def test_a_case_that_cannot_be_read_is_refused(scratch: Path, damage: str) -> None:
    case = scratch / "case.json"
    case.write_text(damage)
    code, said = replay(case, REFERENCE)
    assert code == 2
    assert str(case) in said


def test_what_an_evidence_folder_cannot_show_is_an_error(scratch: Path) -> None:
    """A script of which a command is missing, and a case of a test that is no more."""
    mutant = "python:conformance.selftest.mutants.life:ExistsIsAlwaysTrue"
    left = run(mutant, "--requirement", "OVL-LIFE-CREATE", scratch=scratch)
    env = {**ENVIRONMENT, "PYTHON": "no-such-python"}
    script = ["sh", str(left.folders[0] / "repro.sh")]
    done = subprocess.run(script, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout
    assert "no-such-python" in done.stdout
    said = json.loads((left.folders[0] / "case.json").read_text())
    case = scratch / "case.json"
    case.write_text(json.dumps({**said, "test": "test_of_another_age"}))
    code, answer = replay(case, REFERENCE)
    assert code == 2
    assert answer.startswith("ERROR")
    assert "test_of_another_age" in answer


PLUGIN = """\
import sys

from refdriver import ChangeKind, Driver
from refdriver.cli import main


class Forgetful(Driver):
    def changes(self, layer_id, parent=""):
        return [one for one in super().changes(layer_id, parent) if one.kind is not ChangeKind.DELETE]


if __name__ == "__main__":
    sys.argv = ["refdriver", "serve", "--graphdriver", sys.argv[1], "--driver", "forgetful:Forgetful"]
    main()
"""


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
def test_a_plugin_is_shown_by_curl(scratch: Path) -> None:
    (scratch / "forgetful.py").write_text(PLUGIN)
    driver = f"graphdriver:?command={sys.executable} {scratch}/forgetful.py {{socket}}"
    left = run(driver, "--requirement", "OVL-CHANGES-OPAQUE", scratch=scratch)
    script = left.folders[0] / "repro.sh"
    assert "curl" in script.read_text()
    code, said = run_script(script)
    assert code == 1, said
    (scratch / "forgetful.py").write_text(PLUGIN.replace(', "--driver", "forgetful:Forgetful"', ""))
    code, said = run_script(script)
    assert code == 0, said
    assert replay(left.folders[0], driver, "--times", "1")[0] == 0


@pytest.mark.skipif(not shutil.which("containers-storage"), reason="needs the package containers-storage")
def test_another_projects_driver_is_shown_by_its_own_commands(scratch: Path) -> None:
    wanted = ["OVL-CHANGES-SYMLINK", "OVL-APPLY-WHITEOUT-BEFORE", "OVL-RESTART-LINK-EMPTY"]
    words = [word for one in wanted for word in ("--requirement", one)]
    # Deviations that this driver has had for years; if it has none of them any more, this test has to learn so.
    left = run("containers-storage:overlay", *words, scratch=scratch)
    for folder in left.folders:
        script = (folder / "repro.sh").read_text()
        assert "conformance." not in script, "the script needs nothing of this project"
        code, said = run_script(folder / "repro.sh")
        assert code == 1, said
    assert replay(left.folders[0], "containers-storage:overlay")[0] == 1
    assert replay(left.folders[0], REFERENCE, "--times", "1")[0] == 0
