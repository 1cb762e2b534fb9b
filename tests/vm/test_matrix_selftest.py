"""``matrix selftest`` where no machine is needed; with one, it is what CI runs on every mutant."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "conformance", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_the_host_could_try_takes_no_machine(tmp_path: Path) -> None:
    held, output = tmp_path / "host.jsonl", tmp_path / "kills"
    assert ran("selftest", "--fault", "ExistsIsAlwaysTrue", "--results", str(held)).returncode == 0
    done = ran("matrix", "selftest", "--untried", str(held), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert "nothing is left for a machine" in done.stdout
    trials = [json.loads(line) for line in (output / "kills.jsonl").read_text().splitlines()]
    assert [one["fate"] for one in trials if one["record"] == "trial"] == ["KILLED"]
    assert "`ExistsIsAlwaysTrue`" in (output / "kills.md").read_text()
    assert sorted(path.name for path in output.iterdir()) == ["kills.jsonl", "kills.md"]


@pytest.mark.slow
def test_a_file_that_is_no_selftest_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    held, output = tmp_path / "host.jsonl", tmp_path / "kills"
    held.write_text('{"record": "run"}\n')
    done = ran("matrix", "selftest", "--untried", str(held), "--output", str(output))
    assert done.returncode == 2
    assert str(held) in done.stderr
    assert not output.exists()
