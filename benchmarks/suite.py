"""How thin the suite is: which part of a run's time is the driver's or the kernel's, and where the rest goes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from conformance.report.speedfile import Part


def measure_parts(driver: str, profile: str, scratch: Path) -> tuple[Part, ...]:
    """Run a profile on one core: the tests of each name, those in which the suite itself takes most first.

    Raises CalledProcessError if the harness fails.
    """
    results = scratch / "results.jsonl"
    words = ["run", driver, "--profile", profile, "--scratch", str(scratch), "--no-evidence"]
    words += ["--results", str(results)]
    # One core: a driver and a harness that run at a time would both count their waiting.
    command = ["taskset", "1", sys.executable, "-m", "conformance", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    records = [json.loads(line) for line in results.read_text().splitlines()]
    return _parts([record for record in records if record["record"] == "outcome"])


def _parts(outcomes: list[dict[str, Any]]) -> tuple[Part, ...]:
    parts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for outcome in outcomes:
        part = parts[re.sub(r"\[.*", "", outcome["test"])]
        part[0] += outcome["seconds"]
        part[1] += outcome["driver_seconds"]
    listed = (Part(test, *times) for test, times in parts.items())
    return tuple(sorted(listed, key=lambda one: -one.harness_seconds))
