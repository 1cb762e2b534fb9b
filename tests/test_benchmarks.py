"""The benchmarks run; their figures are for people to judge, never for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.report.speedfile import Benchmarks, Share
from conformance.spec.values import from_plain

ROOT = Path(__file__).parent.parent
USUAL = {
    "Exists",
    "GetEmpty",
    "DiffBase",
    "DiffSmallUpper",
    "Diff10KFileUpper",
    "Diff10KFilesBottom",
    "DiffApply100",
    "Diff20Layers",
    "Read20Layers",
}


@pytest.mark.mounts
def test_every_benchmark_runs_and_leaves_nothing(scratch: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", "--json"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    from_plain(Benchmarks, report)
    assert {one["name"] for one in report["speed"] if "/" not in one["name"]} == USUAL
    assert all(one["seconds"] > 0 for one in report["speed"])
    assert {"GNU tar", "mount, umount", "its system calls"} <= {one["peer"] for one in report["peers"]}
    assert "tmpfs" in {one["filesystem"] for one in report["peers"]}
    assert all(one["cpu_ratio"]["minimum"] > 0 for one in report["peers"])
    grown = {one["name"]: len(one["points"]) for one in report["growth"]}
    assert grown["diff"] == grown["apply-diff"] == 4
    assert grown["get and put"] == grown["create"] == grown["remove"] == 3
    assert len(report["memory"]) == 8
    assert all(one["peak_bytes"] >= one["added_bytes"] for one in report["memory"])
    assert list(scratch.iterdir()) == []


@pytest.mark.mounts
def test_the_share_of_the_suite_is_measured(scratch: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--suite", "--smoke", "--json"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = from_plain(Share, json.loads(done.stdout))
    assert 0 < found.share < 1
    assert sum(one.seconds for one in found.parts) == pytest.approx(found.seconds)
    assert list(scratch.iterdir()) == []


@pytest.mark.mounts
@pytest.mark.slow
def test_the_suite_s_coverage_is_that_of_the_processes_of_the_driver() -> None:
    words = ["--profile", "smoke", "--requirement", "OVL-LIFE-CREATE", "--requirement", "OVL-DIFF-TAR"]

    def measured(least: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "benchmarks.suitecoverage", "--run", "host", "--least", least, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    done = measured("5")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith("refdriver/")}
    assert "refdriver/plugin.py" not in rows
    # What only an archive executes, in a call of the driver.
    assert float(rows["refdriver/archive/pack.py"][5].rstrip("%")) > 40
    assert float(rows["refdriver/archive/unpack.py"][5].rstrip("%")) < 40
    assert measured("99").returncode == 1
