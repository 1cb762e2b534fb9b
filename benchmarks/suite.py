"""How thin the suite is: which part of a run's time is the driver's or the kernel's, and where the rest goes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """The tests of one name, on all filesystems and with all parameters: seconds, and those inside the driver."""

    test: str
    seconds: float
    driver_seconds: float

    @property
    def harness_seconds(self) -> float:
        """What the suite itself took."""
        return self.seconds - self.driver_seconds


@dataclass(frozen=True, slots=True)
class Share:
    """Of one run; ``share`` is a ratio of 0 to 1."""

    seconds: float
    driver_seconds: float
    parts: tuple[Part, ...]

    @property
    def share(self) -> float:
        """The part of the driver and the kernel."""
        return self.driver_seconds / self.seconds


def measure_share(driver: str, profile: str, scratch: Path) -> Share:
    """Run a profile on one core; raises CalledProcessError if the harness fails."""
    results = scratch / "results.jsonl"
    words = ["run", driver, "--profile", profile, "--scratch", str(scratch), "--no-evidence"]
    words += ["--results", str(results)]
    # One core: a driver and a harness that run at a time would both count their waiting.
    command = ["taskset", "1", sys.executable, "-m", "conformance", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    records = [json.loads(line) for line in results.read_text().splitlines()]
    return _share([record for record in records if record["record"] == "outcome"])


def _share(outcomes: list[dict[str, Any]]) -> Share:
    parts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for outcome in outcomes:
        part = parts[re.sub(r"\[.*", "", outcome["test"])]
        part[0] += outcome["seconds"]
        part[1] += outcome["driver_seconds"]
    listed = sorted((Part(test, *times) for test, times in parts.items()), key=lambda one: -one.harness_seconds)
    return Share(sum(one.seconds for one in listed), sum(one.driver_seconds for one in listed), tuple(listed))
