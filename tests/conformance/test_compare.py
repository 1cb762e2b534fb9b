"""``compare``: two drivers side by side."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from commanding import command

pytestmark = pytest.mark.mounts


def compared(second: str, scratch: Path) -> tuple[int, dict[str, Any], str]:
    results = scratch / "comparison.json"
    env = {**os.environ, "CONFORMANCE_MUTANT_BASIS": "refdriver:Driver"}
    words = [
        "compare",
        "python:refdriver:Driver",
        second,
        "--examples",
        "20",
        "--seed",
        "3",
        "--scratch",
        str(scratch),
    ]
    done = command(*words, "--json", str(results), env=env)
    return done.returncode, json.loads(results.read_text()), done.stdout + done.stderr


def test_a_driver_is_like_itself(scratch: Path) -> None:
    code, found, output = compared("python:conformance.selftest.mutants.basis:Faithful", scratch)
    assert (code, found["found"]) == (0, ""), output


def test_a_difference_of_two_drivers_is_explained(scratch: Path) -> None:
    code, found, output = compared("python:conformance.selftest.mutants.changes:DiffSizeCountsWhiteouts", scratch)
    assert code == 1, output
    assert "the size of" in found["found"]
    assert found["steps"]
    assert "Minimal example" in output
