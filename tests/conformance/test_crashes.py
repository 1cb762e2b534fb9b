"""Histories that a power cut ends: what they say may be left, and what a check says of a driver in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from conformance.drivers.protocol import DriverUnderTest, OpenRequest
from conformance.drivers.registry import connect
from conformance.harness.host import RESET
from conformance.history.calls import ApplyDiff, Create, Remove
from conformance.machines.churn import left_behind
from conformance.machines.crashes import (
    KEPT,
    Ended,
    History,
    Step,
    Sync,
    beginning,
    check,
    do,
    drawn_steps,
)

CREATE = Create("layer-2", "layer-1")
APPLY = ApplyDiff("layer-2", "layer-1", "layer-2.tar")
REMOVE = Remove("layer-2")
SYNC = Sync()


def history_of(*steps: Step) -> History:
    """The beginning (steps 0 to 4), and these steps."""
    history = History()
    for step in beginning(history):
        history.add(step)
    for step in steps:
        history.add(step)
    return history


def test_what_was_synced_has_one_state() -> None:
    allowed = history_of(CREATE, APPLY).allowed(synced=4, begun=4)
    assert {layer: len(states) for layer, states in allowed.items()} == {"layer-0": 1, "layer-1": 1}


def test_what_was_not_synced_has_all_states_from_then_on() -> None:
    history = history_of(CREATE, APPLY, REMOVE)
    gone, empty, full = history.allowed(4, 6)["layer-2"]
    assert gone is None
    assert empty is not None
    assert full is not None
    assert set(full.nodes) > {b"common", b"d-0", b"d-2/large"}
    assert b"d-1/f-1" in empty.nodes
    assert b"d-1/f-1" not in full.nodes
    assert history.allowed(4, 7)["layer-2"] == [None, empty, full]
    assert history.last_call("layer-2", 6) == APPLY
    assert history.last_call("layer-2", 7) == REMOVE


def test_a_sync_settles() -> None:
    history = history_of(CREATE, APPLY, SYNC, REMOVE)
    assert len(history.allowed(7, 7)["layer-2"]) == 1
    full, gone = history.allowed(7, 8)["layer-2"]
    assert full is not None
    assert gone is None


@pytest.mark.parametrize("seed", range(20))
def test_no_archive_is_applied_to_a_layer_that_another_was_built_on(seed: int) -> None:
    """A containerd snapshotter closes such a layer, which stays closed when the other one is gone."""
    built_on = set[str]()
    for step in islice(drawn_steps(seed, History()), 300):
        match step:
            case Create():
                built_on.add(step.parent)
                built_on.discard(step.layer)
            case ApplyDiff():
                assert step.layer not in built_on
            case Remove() | Sync():
                pass


def test_a_seed_is_always_the_same_history() -> None:
    first, second = History(), History()
    list(islice(drawn_steps(7, first), 60))
    list(islice(drawn_steps(7, second), 60))
    assert first.steps == second.steps
    assert {type(step) for step in first.steps} == {Create, ApplyDiff, Remove, Sync}


def test_only_what_has_no_children_is_filled_or_removed() -> None:
    for seed in range(20):
        history = History()
        children: dict[str, set[str]] = {}
        for step in islice(drawn_steps(seed, history), 80):
            if isinstance(step, Create):
                children.setdefault(step.parent, set()).add(step.layer)
            elif isinstance(step, (ApplyDiff, Remove)):
                assert not children.get(step.layer)
            if isinstance(step, Remove):
                for found in children.values():
                    found.discard(step.layer)


def left(history: History, driver: DriverUnderTest, directory: Path, upto: int) -> None:
    """Do the steps of a history up to an index."""
    again = History()
    for step in history.steps[: upto + 1]:
        do(again.add(step), again, driver, directory, lambda: None)


Open = Callable[[], DriverUnderTest]


@pytest.fixture
def opened(scratch: Path) -> Iterator[Open]:
    store = scratch / "store"
    store.mkdir()
    with closing(connect("python:refdriver:Driver")) as source:
        yield lambda: source.open(OpenRequest(store))


@pytest.mark.mounts
@pytest.mark.parametrize("upto", range(4, 8))
def test_every_state_that_is_allowed_is_found_right(opened: Open, scratch: Path, upto: int) -> None:
    history = history_of(CREATE, APPLY, REMOVE)
    driver = opened()
    left(history, driver, scratch, upto)
    driver.leave()
    assert check(history, Ended(4, 7), opened) == []


@pytest.mark.mounts
def test_what_is_wrong_is_said_by_requirement(opened: Open, scratch: Path) -> None:
    history = history_of(CREATE, APPLY)
    driver = opened()
    left(history, driver, scratch, 6)
    (Path(driver.home) / "layer-0" / "diff" / "common").write_text("harmed")
    (Path(driver.home) / "layer-2" / "diff" / "d-2" / "large").write_text("")
    os.symlink("../nothing/diff", Path(driver.home) / "l" / "LOST")
    driver.leave()
    found = {one.requirements: str(one) for one in check(history, Ended(4, 6), opened)}
    assert found.keys() == {(KEPT,), ("OVL-CRASH-POWER-APPLY",), ("OVL-CRASH-LITTER",)}
    assert "large" in found["OVL-CRASH-POWER-APPLY",]
    assert "layer-0" in found[KEPT,]


def test_a_reset_is_known_by_what_was_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "ext4-7"
    directory.mkdir()
    heard: list[Any] = [line for number in range(6) for line in (f"begun {number}", f"ended {number}")]
    (directory / "heard").write_text("\n".join(["noise", *heard, "begun 6", "begun 7"]))
    monkeypatch.setenv(RESET, str(tmp_path))
    (found,) = left_behind("ext4")
    assert left_behind("xfs") == []
    # The last line has no end, and a step beyond what was heard may have begun.
    assert found.ended == Ended(synced=4, begun=7)
    assert len(found.history.steps) == 8
