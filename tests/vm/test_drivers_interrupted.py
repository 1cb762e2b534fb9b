"""Judging that is interrupted leaves nothing of the run that it started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BUILDS = """
format = 1

[question]
profile = "standard"
examples = 2
seed = 1
why = "A test."
requirements = ["OVL-STATUS-METADATA-MISSING"]

[[build]]
name = "hangs"
line = "a driver that hangs"
roots = []
connection = "python:hangs:Hangs?writable={place}"
"""
HANGS = """
import time
from refdriver import Driver

class Hangs(Driver):
    def metadata(self, layer_id):
        with open({fifo!r}, "w") as told:
            told.write("now")
        time.sleep(3600)
"""


def until_it_hangs(fifo: Path) -> None:
    """Wait for the driver, which writes when it is called; a run that never gets there fails the test."""
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ready, _, _ = select.select([fd], [], [], 300)
        assert ready, "it never hung"
    finally:
        os.close(fd)


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_nothing_is_left_of_a_run(tmp_path: Path, number: signal.Signals) -> None:
    scratch, fifo = tmp_path / "scratch", tmp_path / "fifo"
    for directory in (scratch, tmp_path / "data"):
        directory.mkdir()
    os.mkfifo(fifo)
    (tmp_path / "data/deviations.toml").write_text("format = 1\n")
    (tmp_path / "builds.toml").write_text(BUILDS.format(place=tmp_path))
    (tmp_path / "hangs.py").write_text(HANGS.format(fifo=str(fifo)))
    words = ["drivers", "judge", "--file", "builds.toml", "--data", "data", "--output", "output"]
    process = subprocess.Popen(
        [sys.executable, "-m", "conformance", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until_it_hangs(fifo)
        assert any("overlay-conformance-run-" in path.name for path in scratch.iterdir())
        process.send_signal(number)
        said, _ = process.communicate(timeout=100)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number, said
    assert list(scratch.iterdir()) == []
    assert list((tmp_path / "data").glob("*.xz")) == []
