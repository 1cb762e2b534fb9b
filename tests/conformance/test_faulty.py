"""A driver that is wrong in one way fails the requirement that says so, and the correct one does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reading import records, verdicts

from conformance.faulty.catalogue import EXCEPTIONS, FAULTS
from conformance.faulty.fault import Fault
from conformance.spec import load_requirements

pytestmark = pytest.mark.mounts


def test_every_requirement_has_a_fault_that_it_catches() -> None:
    broken = {one for fault in FAULTS for one in fault.breaks}
    assert broken | EXCEPTIONS.keys() == set(load_requirements())
    assert not broken & EXCEPTIONS.keys()


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


@pytest.mark.parametrize("fault", [pytest.param(one, id=f"{one.name}-{one.backing}") for one in FAULTS])
def test_each_fault_is_seen(scratch: Path, fault: Fault) -> None:
    words = [word for one in fault.breaks for word in ("--requirement", one)]
    words += ["--seed", "5", "--examples", "40", "--backing", fault.backing]
    code, found, output = run(fault.connection, *words, scratch=scratch)
    assert code == 1, output
    said = verdicts(found)
    assert {one: said[one] for one in fault.breaks} == dict.fromkeys(fault.breaks, "FAIL"), output
    assert all(one["steps"] for one in records(found, "outcome") if one["verdict"] == "FAIL")
    assert "smallest steps" in output
    assert "--seed 5" in output


def test_the_wrapper_itself_conforms(scratch: Path) -> None:
    code, found, output = run(
        "python:conformance.faulty.basis:Faithful", "--examples", "3", "--seed", "5", scratch=scratch
    )
    assert code == 0, output
    assert set(verdicts(found).values()) <= {"PASS", "NOT-APPLICABLE"}


def test_a_lost_whiteout_shrinks_to_one_deletion(scratch: Path) -> None:
    words = ("--requirement", "OVL-APPLY-ROUND-TRIP", "--seed", "5", "--examples", "40")
    _, found, _ = run("python:conformance.faulty.archives:LosesWhiteouts", *words, scratch=scratch)
    steps = records(found, "outcome")[0]["steps"]
    above = steps[steps.index("origin: create layer-1 on layer-0") :]
    assert sum(step.startswith("origin:   ") for step in above) == 1, steps
