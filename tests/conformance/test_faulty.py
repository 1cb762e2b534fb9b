"""A driver that is wrong in one way fails the requirement that says so, and the correct one does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conformance.spec import load_requirements

pytestmark = pytest.mark.mounts

FAULTS = {
    "layers:ExistsAlways": "OVL-LIFE-CREATE",
    "layers:InventsParents": "OVL-LIFE-UNKNOWN-PARENT",
    "layers:OverwritesLayers": "OVL-LIFE-EXISTING-ID",
    "layers:ForgetsRemove": "OVL-LIFE-REMOVE",
    "layers:OrphansLayers": "OVL-LIFE-REMOVE-PARENT",
    "layers:InventsTrees": "OVL-LIFE-MISSING-LAYER",
    "layers:ForgetsOnReopen": "OVL-LIFE-REOPEN",
    "layers:SaysNothing": "OVL-LIFE-METADATA",
    "layers:LimitOf127": "OVL-CHAIN-128",
    "layers:NoLimit": "OVL-CHAIN-129-REFUSED",
    "layers:UnmountsAtOnce": "OVL-MOUNT-ONCE",
    "layers:NeverUnmounts": "OVL-MOUNT-LAST-PUT",
    "layers:CountsBelowZero": "OVL-MOUNT-EXTRA-PUT",
    "layers:ComparesWithAWholePage": "OVL-MOUNT-PAGE-BOUNDARY",
    "layers:SharesMounts": "OVL-MOUNT-HOME-PRIVATE",
    "layers:LosesBits": "OVL-TREE-MODEL",
    "layers:MountsReadOnly": "OVL-TREE-ERRNO",
    "layers:WritesThrough": "OVL-TREE-PARENT-UNTOUCHED",
    "layers:ResurrectsFiles": "OVL-WHITEOUT-HIDES",
    "archives:LosesWhiteoutsInDiff": "OVL-WHITEOUT-IN-DIFF",
    "archives:LosesOpaque": "OVL-OPAQUE-PRESERVED",
    "archives:RepeatsEntries": "OVL-DIFF-TAR",
    "archives:RandomOrder": "OVL-DIFF-DETERMINISTIC",
    "archives:DiffsTooMuch": "OVL-DIFF-MINIMAL",
    "archives:LosesWhiteouts": "OVL-APPLY-ROUND-TRIP",
    "archives:RoundsTimes": "OVL-APPLY-FILE-TIMES",
    "archives:BreaksHardLinks": "OVL-APPLY-HARD-LINKS",
    "archives:DiffsTooLittle": "OVL-APPLY-WHOLE-TREE",
    "archives:AppliesOnce": "OVL-APPLY-TWICE",
    "archives:AcceptsHalfArchives": "OVL-APPLY-TRUNCATED",
    "archives:NeedsNoEnd": "OVL-APPLY-NO-END",
    "layers:ListsNoChanges": "OVL-CHANGES-EXPLAIN",
    "layers:ListsNoParents": "OVL-CHANGES-PARENTS",
    "layers:CountsWhiteouts": "OVL-SIZE-DIFF",
    "layers:EscapesNothing": "OVL-NAMES-HOME",
}


def test_every_requirement_has_a_fault_that_it_catches() -> None:
    assert set(FAULTS.values()) == set(load_requirements())


def run(driver: str, *words: str, scratch: Path) -> tuple[int, dict[str, Any], str]:
    results = scratch / "results.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "conformance",
            "run",
            driver,
            "--json",
            str(results),
            "--scratch",
            str(scratch),
            *words,
        ],
        env={**os.environ, "CONFORMANCE_FAULTY_BASIS": "refdriver:Driver"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(results.read_text()) if results.exists() else {}
    return done.returncode, found, done.stdout + done.stderr


@pytest.mark.parametrize(("fault", "requirement"), FAULTS.items())
def test_each_fault_is_seen(scratch: Path, fault: str, requirement: str) -> None:
    words = ("--requirement", requirement, "--seed", "5", "--examples", "40")
    code, found, output = run(f"python:conformance.faulty.{fault}", *words, scratch=scratch)
    assert code == 1, output
    result = next(one for one in found["results"] if one["requirement"] == requirement)
    assert result["verdict"] == "FAIL"
    assert result["tests"][0]["steps"]
    assert "smallest steps" in output
    assert "--seed 5" in output


def test_the_wrapper_itself_conforms(scratch: Path) -> None:
    code, found, output = run(
        "python:conformance.faulty.basis:Faithful", "--examples", "3", "--seed", "5", scratch=scratch
    )
    assert code == 0, output
    assert {one["verdict"] for one in found["results"]} == {"PASS"}


def test_a_lost_whiteout_shrinks_to_one_deletion(scratch: Path) -> None:
    words = ("--requirement", "OVL-APPLY-ROUND-TRIP", "--seed", "5", "--examples", "40")
    _, found, _ = run("python:conformance.faulty.archives:LosesWhiteouts", *words, scratch=scratch)
    steps = found["results"][0]["tests"][0]["steps"]
    above = steps[steps.index("origin: create layer-1 on layer-0") :]
    assert sum(step.startswith("origin:   ") for step in above) == 1, steps
