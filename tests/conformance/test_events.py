"""What a run tells a program while it is under way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from conformance.cli.events import SCHEMA

COMMAND = [
    sys.executable,
    "-m",
    "conformance",
    "run",
    "python:refdriver:Driver",
    "--requirement",
    "OVL-LIFE-CREATE",
]


@pytest.mark.mounts
@pytest.mark.parametrize("to", ["a descriptor", "a file"])
def test_events_are_told_as_the_schema_says(scratch: Path, to: str) -> None:
    words = ["--scratch", str(scratch), "--no-evidence"]
    if to == "a descriptor":
        reading, writing = os.pipe()
        subprocess.run([*COMMAND, *words, "--events", str(writing)], check=True, pass_fds=[writing])
        os.close(writing)
        with os.fdopen(reading) as pipe:
            lines = pipe.read().splitlines()
    else:
        subprocess.run([*COMMAND, *words, "--events", str(scratch / "events")], check=True)
        lines = (scratch / "events").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    for event in events:
        jsonschema.validate(event, json.loads(SCHEMA.read_text()))
    kinds = [event["event"] for event in events]
    total = events[1]["tests"]
    assert kinds == ["run", "collected", *["test", "outcome"] * total, "end"]
    assert [event["number"] for event in events if event["event"] == "test"] == list(range(1, total + 1))
    assert events[-1]["exit_code"] == 0


@pytest.mark.slow
def test_a_place_that_cannot_be_written_to_is_refused() -> None:
    done = subprocess.run([*COMMAND, "--events", "/no/such/place"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--events /no/such/place: No such file or directory" in done.stderr
    done = subprocess.run([*COMMAND, "--events", "77"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--events 77: Bad file descriptor" in done.stderr
