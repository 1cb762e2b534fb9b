"""The history of an example: its trace, its case file, and case files of earlier versions."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.history import calls
from conformance.history.calls import ApplyDiff, Create, Diff, Exists, Get, Put, Remove, Reopen
from conformance.history.case import BadCase, Case
from conformance.history.findings import WrongAnswer
from conformance.history.steps import (
    Archived,
    Beyond,
    Called,
    Did,
    History,
    Looked,
    Noted,
    Opened,
    Step,
    Tampered,
    Waited,
)
from conformance.history.trace import describe, trace
from conformance.history.turns import WriteLayer
from conformance.operations import ops

CALLS = st.one_of([st.from_type(kind) for kind in get_args(calls.Call)])


def looked_at(layer: str) -> list[Step]:
    return [Called("store", Get(layer)), Looked("store", layer, ()), Called("store", Put(layer))]


def test_a_trace_says_each_step_once() -> None:
    steps: list[Step] = [
        Opened("store"),
        Called("store", Create("a")),
        Called("store", Create("b", "a", {"size": "1m"})),
        Called("store", Get("b")),
        Did("store", "b", ops.Unlink(b"f"), "ENOENT"),
        Called("store", Put("b")),
        *looked_at("a"),
        Archived("store-archive-1.tar", b"", ("f, a file",)),
        Called("store", ApplyDiff("b", "a", "store-archive-1.tar"), answer=7),
        Called("store", Exists("c"), answer=False),
        Called("store", Remove("a"), refused="it has children"),
        Called("store", Remove("b"), refused="remove raised NameError: x", failed=True),
        Tampered("store", "home", ops.Unlink(b"b/link")),
        Called("store", Reopen()),
        Waited(),
        Beyond("calls of two processes"),
        Noted("what comes now matters"),
    ]
    assert trace(steps) == (
        "create a",
        "create read-write layer b on a with size=1m",
        "get b",
        "  Unlink f  -> ENOENT",
        "put b",
        "look at the tree of a",
        "an archive store-archive-1.tar of:",
        "  f, a file",
        "apply store-archive-1.tar to b  -> 7 bytes",
        "exists c  -> no",
        "remove a  -> refused: it has children",
        "remove b  -> failed: remove raised NameError: x",
        "in the home: Unlink b/link",
        "open the home again",
        "wait one second",
        "(calls of two processes)",
        "what comes now matters",
    )


def test_stores_are_named_where_there_are_two() -> None:
    steps: list[Step] = [
        Opened("origin"),
        Opened("copy"),
        Called("origin", Create("a")),
        Called("copy", Create("a")),
    ]
    assert trace(steps) == ("origin: create a", "copy: create a")


def test_a_long_chain_is_cut_short() -> None:
    made = [Called("store", Create(f"layer-{n}", f"layer-{n - 1}" if n else "")) for n in range(129)]
    assert trace(made) == (
        "create layer-0",
        "create layer-1 on layer-0",
        "create layer-2 on layer-1",
        "... and so on, 128 times in all, to:",
        "create layer-128 on layer-127",
    )


@given(CALLS)
def test_every_call_is_one_line(call: calls.Call) -> None:
    assert describe(call)


def test_labels_lead_back_to_their_files(tmp_path: Path) -> None:
    history = History()
    for directory in ("one", "two"):
        label = history.label(tmp_path / directory / "archive.tar", "store")
        assert history.label(tmp_path / directory / "archive.tar", "store") == label
        assert history.label(str(tmp_path / directory / "archive.tar"), "another store") == label
        assert history.file_of(label) == tmp_path / directory / "archive.tar"


def test_a_case_of_format_1_is_read() -> None:
    """As overlay-conformance 0.3.0 wrote it."""
    said = {
        "format": 1,
        "test": "test_it",
        "requirements": ["OVL-LIFE-CREATE"],
        "backing": "host",
        "driver": "python:refdriver:Driver",
        "reason": "why",
        "words": ["create a", "diff a"],
        "drawn": [
            1,
            [
                "write",
                {"which": 1, "number": 2, "done": [{"is": "Unlink", "path": {"bytes": "f"}}], "diffed": False},
            ],
        ],
        "steps": [
            {"is": "Opened", "store": "store"},
            {"is": "Called", "store": "store", "verb": "create", "layer": "a", "options": {"size": "1m"}},
            {"is": "Called", "store": "store", "verb": "get", "layer": "a"},
            {"is": "Called", "store": "store", "verb": "diff", "layer": "a", "archive": "store-a.tar"},
            {"is": "Called", "store": "store", "verb": "exists", "layer": "a", "answer": True},
            {"is": "Called", "store": "store", "verb": "remove", "layer": "a", "refused": "no"},
            {"is": "Called", "store": "store", "verb": "reopen"},
        ],
        "finding": {"is": "WrongAnswer"},
        "directory": "/x",
    }
    case = Case.from_json(said)
    assert case.drawn == (1, WriteLayer(1, 2, (ops.Unlink(b"f"),), False))
    assert case.finding == WrongAnswer()
    assert case.steps == (
        Opened("store"),
        Called("store", Create("a", "", {"size": "1m"})),
        Called("store", Get("a")),
        Called("store", Diff("a", "", "store-a.tar")),
        Called("store", Exists("a"), answer=True),
        Called("store", Remove("a"), refused="no"),
        Called("store", Reopen()),
    )
    assert Case.from_json(case.as_json()) == case
    with pytest.raises(BadCase, match="format 3"):
        Case.from_json({**said, "format": 3})
    said["steps"] = [{"is": "Called", "store": "store", "verb": "frobnicate"}]
    with pytest.raises(BadCase, match="frobnicate"):
        Case.from_json(said)
