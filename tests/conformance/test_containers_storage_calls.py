"""The calls of containers-storage in reproducers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import conformance.drivers.containers_storage

CALLS = Path(str(conformance.drivers.containers_storage.__file__)).with_name("calls.sh")


def called(tmp_path: Path, program: str, call: str) -> tuple[int, str]:
    """The exit status and the output of a call of a command that is this program."""
    command = tmp_path / "command"
    command.write_text(f"#!/bin/sh\n{program}\n")
    command.chmod(0o755)
    text = f". {CALLS}; binary={command} driver=overlay options_store= place_store=/nowhere; {call}"
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("call", ["cs_changes store changes layer", "cs_size store diffsize layer"])
def test_a_refused_call_has_the_exit_status_of_the_command(tmp_path: Path, call: str) -> None:
    assert called(tmp_path, "exit 3", call) == (3, "")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("echo 'Add \"/a b\"'; echo 'Modify \"/d\"'; echo 'Delete \"/e\"'", "add /a b\nmodify /d\ndelete /e\n"),
        (":", ""),
    ],
)
def test_changes_are_in_the_words_of_reproducers(tmp_path: Path, program: str, said: str) -> None:
    assert called(tmp_path, program, "cs_changes store changes layer") == (0, said)
