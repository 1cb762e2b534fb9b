"""Tests in several processes: which are handed out first, and that their number changes no verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from commanding import command
from hypothesis import given
from hypothesis import strategies as st
from reading import records

from conformance.harness.sharing import longest_first

IDS = ("OVL-CHANGES-OPAQUE", "OVL-LIFE-CREATE", "OVL-SIZE-EMPTY")
WORDS = [word for one in IDS for word in ("--requirement", one)]
WORDS += ["--seed", "1", "--examples", "2", "--no-evidence"]


@given(st.lists(st.booleans()))
def test_tests_that_draw_examples_are_handed_out_first(drawing: list[bool]) -> None:
    order = longest_first(drawing, lambda one: one)
    assert sorted(order) == list(range(len(drawing)))
    said = [drawing[one] for one in order]
    assert said == sorted(drawing, reverse=True)
    for kind in (True, False):  # otherwise in the order in which pytest collected them
        of_kind = [one for one in order if drawing[one] is kind]
        assert of_kind == sorted(of_kind)


@pytest.mark.mounts
@pytest.mark.slow
def test_the_number_of_processes_changes_no_verdict(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFORMANCE_MUTANT_BASIS", "refdriver:Driver")
    found = []
    for jobs in ("1", "3"):
        results = scratch / f"results-{jobs}.jsonl"
        words = ["--scratch", str(scratch), "--results", str(results), "--jobs", jobs]
        done = command("run", "python:conformance.selftest.mutants.changes:ChangesAreEmpty", *WORDS, *words)
        assert done.returncode == 1, done.stdout + done.stderr
        outcomes = records(results, "outcome")
        found.append({(one["test"], one["backing"], one["verdict"], one["reason"]) for one in outcomes})
        assert len(outcomes) == len(found[-1]) > 2
    assert found[0] == found[1]
