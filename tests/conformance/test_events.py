"""What a run tells a program while it is under way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from commanding import command

from conformance.cli.events import SCHEMA
from conformance.harness.channel import event_of, new_token
from conformance.harness.events import Failed

RUN = ("run", "python:refdriver:Driver", "--requirement", "OVL-LIFE-CREATE")


@pytest.mark.mounts
@pytest.mark.parametrize("to", ["a descriptor", "a file"])
def test_events_follow_the_schema(scratch: Path, to: str) -> None:
    words = ["--scratch", str(scratch), "--no-evidence"]
    if to == "a descriptor":
        reading, writing = os.pipe()
        started = [sys.executable, "-m", "conformance", *RUN, *words, "--events", str(writing)]
        subprocess.run(started, check=True, pass_fds=[writing])
        os.close(writing)
        with os.fdopen(reading) as pipe:
            lines = pipe.read().splitlines()
    else:
        assert command(*RUN, *words, "--events", str(scratch / "events")).returncode == 0
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
    done = command(*RUN, "--events", "/no/such/place")
    assert done.returncode == 2
    assert "--events /no/such/place: No such file or directory" in done.stderr
    done = command(*RUN, "--events", "777")
    assert done.returncode == 2
    assert "--events 777: Bad file descriptor" in done.stderr


WORKERS = ["harness.worker", "harness.diagnosis", "harness.compare", "selftest.trials", "selftest.generated.trials"]


@pytest.mark.slow
@pytest.mark.parametrize("module", WORKERS)
def test_every_worker_says_what_is_wrong_with_its_task(module: str) -> None:
    token = new_token()
    done = subprocess.run(
        [sys.executable, "-m", f"conformance.{module}"],
        input=f"{token}\n" + json.dumps({"parent": "me", "colour": 1}),
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    event = event_of(line.encode(), token)
    assert isinstance(event, Failed)
    assert not event.of_driver
    assert "there is no key colour; the keys are " in event.message
    assert "parent: expected a whole number, found 'me'" in event.message


@pytest.mark.parametrize("module", WORKERS)
def test_every_worker_is_one_call_of_serve(module: str) -> None:
    text = (Path(SCHEMA).parents[1] / f"{module.replace('.', '/')}.py").read_text()
    assert text.count("serve(") == 1
    assert "traceback.format_exc" not in text
    assert "opened()" not in text


def test_the_line_of_another_process_is_no_event() -> None:
    """A driver does not know the token."""
    token = new_token()
    for begun in (b"", new_token().encode(), token.encode()[:-1]):
        with pytest.raises(ValueError, match="does not begin with the token of this run"):
            event_of(begun + b' {"event": "finished"}', token)
    assert event_of(token.encode() + b' {"event": "weather", "wind": 3}', token) is None
