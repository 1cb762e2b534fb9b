"""Refusals are the same in two runs but for paths, numbers and addresses; sed(1) and Python agree on that."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conformance.evidence.refusals import as_shell, plain

PARTS = st.sampled_from(
    [
        "/tmp/a b",
        "'/x/y:z'",
        "0x7f",
        "layer-1",
        "\\u003c",
        '\\"',
        "\\n",
        "deadbeef0123",
        "A" * 26,
        "\n",
        "é",
        "|&<",
        " ",
    ]
)


def shelled(text: str) -> str:
    script = f"export LC_ALL=C\n{as_shell()}\nplain"
    done = subprocess.run(["sh", "-euc", script], input=text.encode(), capture_output=True, check=True)
    return done.stdout.decode().strip()


@given(st.lists(PARTS | st.text(max_size=5)).map("".join))
@example("a\\\\u003cb")
@settings(max_examples=100, deadline=None)
def test_a_script_reads_a_refusal_as_python_does(text: str) -> None:
    assert shelled(text)[:300].strip() == plain(text)


@pytest.mark.parametrize(
    ("recorded", "said", "same"),
    [
        ("no space left on /tmp/run-1/s1/home", "Error: no space left on /var/tmp/x.7/store/home (pid 12)", True),
        ("LayerInUse: layer 'a' is mounted at 0x7f12", "LayerInUse: layer 'a' is mounted at 0x8", True),
        ('cannot parse "x<y"', '{"Err": "cannot parse \\"x\\u003cy\\""}', True),
        ("no space left", "permission denied", False),
        ("exit 1: first line\nsecond line", "exit 1: first line\nsecond line\nthird", True),
    ],
)
def test_what_is_the_same_refusal(recorded: str, said: str, same: bool) -> None:
    assert (plain(recorded) in shelled(said)) is same
