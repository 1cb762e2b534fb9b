"""The catalogue of faulty drivers: what it says of each. That the suite finds them is for ``selftest`` to show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reading import records, verdicts

from conformance.lab.backing import BACKINGS, HOST
from conformance.selftest.mutants.catalogue import EXCEPTIONS, FAULTS
from conformance.selftest.mutants.fault import Fault
from conformance.spec import load_requirements


def test_every_requirement_has_a_fault_that_breaks_it() -> None:
    broken = {one for fault in FAULTS for one in fault.breaks}
    assert broken | EXCEPTIONS.keys() == set(load_requirements())
    assert not broken & EXCEPTIONS.keys()
    assert all(EXCEPTIONS.values())


def test_every_fault_has_a_name_of_its_own() -> None:
    names = [one.name for one in FAULTS]
    assert [name for name in names if names.count(name) > 1] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_says_what_it_is(fault: Fault) -> None:
    assert fault.source
    assert fault.breaks
    assert len(set(fault.breaks)) == len(fault.breaks)
    assert set(fault.breaks) <= set(load_requirements())
    assert fault.sentence.endswith(".")
    assert fault.sentence != (fault.driver.__mro__[1].__doc__ or "").strip().splitlines()[0]
    assert fault.backing in {HOST, *(one.name for one in BACKINGS)}


def run(driver: str, *words: str, scratch: Path) -> tuple[int, Path, str]:
    """Exit code, result file and output of a run."""
    results = scratch / "results.jsonl"
    options = ["--results", str(results), "--scratch", str(scratch), "--no-evidence", *words]
    done = subprocess.run(
        [sys.executable, "-m", "conformance", "run", driver, *options],
        env={**os.environ, "CONFORMANCE_FAULTY_BASIS": "refdriver:Driver"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, results, done.stdout + done.stderr


@pytest.mark.mounts
def test_run_finds_a_fault_too_and_says_how_to_repeat_it(scratch: Path) -> None:
    words = ("--requirement", "OVL-LIFE-CREATE", "--seed", "5")
    code, found, output = run("python:conformance.selftest.mutants.layers:ExistsAlways", *words, scratch=scratch)
    assert code == 1, output
    assert verdicts(found) == {"OVL-LIFE-CREATE": "FAIL"}
    assert all(one["steps"] for one in records(found, "outcome"))
    assert "Minimal example" in output
    assert "--seed 5" in output


@pytest.mark.mounts
def test_the_wrapper_itself_conforms(scratch: Path) -> None:
    code, found, output = run(
        "python:conformance.selftest.mutants.basis:Faithful", "--examples", "3", "--seed", "5", scratch=scratch
    )
    assert code == 0, output
    assert set(verdicts(found).values()) <= {"PASS", "NOT-APPLICABLE"}


@pytest.mark.mounts
def test_a_lost_whiteout_shrinks_to_one_deletion(scratch: Path) -> None:
    words = ("--requirement", "OVL-APPLY-ROUND-TRIP", "--seed", "5", "--examples", "40")
    _, found, _ = run("python:conformance.selftest.mutants.archives:LosesWhiteouts", *words, scratch=scratch)
    chains = [one for one in records(found, "outcome") if "origin: create layer-1 on layer-0" in one["steps"]]
    steps = chains[0]["steps"]
    above = steps[steps.index("origin: create layer-1 on layer-0") :]
    assert sum(step.startswith("origin:   ") for step in above) == 1, steps


@pytest.mark.mounts
def test_a_written_case_is_made_as_small_as_a_drawn_one(scratch: Path) -> None:
    words = ("--requirement", "OVL-META-OWNERS", "--seed", "5")
    _, found, _ = run("python:conformance.selftest.mutants.carrying:LosesOwners", *words, scratch=scratch)
    cases = [one["steps"] for one in records(found, "outcome") if "every-kind" in one["test"]]
    assert [step for step in cases[0] if step.startswith("origin:   ")] == [
        "origin:   CreateFile f content=b'content' mode=0644",
        "origin:   Chown f uid=1000 gid=2000",
    ]


@pytest.mark.mounts
def test_a_failure_is_charged_to_what_it_violates(scratch: Path) -> None:
    of_one_test = ("OVL-WHITEOUT-IN-DIFF", "OVL-DIFF-DETERMINISTIC", "OVL-DIFF-TAR")
    words = [word for one in of_one_test for word in ("--requirement", one)]
    _, found, _ = run(
        "python:conformance.selftest.mutants.archives:LosesWhiteoutsInDiff", *words, "--seed", "5", scratch=scratch
    )
    assert verdicts(found) == {one: "FAIL" if one == of_one_test[0] else "PASS" for one in of_one_test}
    _, found, _ = run(
        "python:conformance.selftest.mutants.archives:RandomOrder", *words, "--seed", "5", scratch=scratch
    )
    assert verdicts(found)["OVL-DIFF-DETERMINISTIC"] == "FAIL"
    assert verdicts(found)["OVL-WHITEOUT-IN-DIFF"] == "PASS"


@pytest.mark.mounts
def test_all_tests_of_what_a_diff_holds_are_in_quick(scratch: Path) -> None:
    ids = ("OVL-WHITEOUT-IN-DIFF", "OVL-DIFF-MINIMAL")
    words = ["--profile", "quick", "--seed", "5", *(word for one in ids for word in ("--requirement", one))]
    _, found, _ = run("python:conformance.selftest.mutants.archives:DiffsTooMuch", *words, scratch=scratch)
    assert {verdicts(found)[one] for one in ids} == {"FAIL"}
