"""Options that choose what runs, and for how long: -k, -x, --max-failures, --no-shrink and --budget once."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from commanding import command
from making import RUN
from reading import records, without_progress

from conformance.cli import main
from conformance.report import expectations
from conformance.report.expectations import Expectation
from conformance.report.markdown import markdown
from conformance.report.matrix import matrix_of
from conformance.report.records import Part, merge, read
from conformance.report.statement import UNDETERMINED, statements
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict

COMMAND = [sys.executable, "-m", "conformance"]
DRIVER = "python:forgetful:Forgetful"
FORGETFUL = """
from refdriver import ChangeKind, Driver

class Forgetful(Driver):
    def changes(self, layer_id, parent=""):
        return [one for one in super().changes(layer_id, parent) if one.kind is not ChangeKind.DELETE]
"""
OPAQUE = "OVL-CHANGES-OPAQUE"  # a property that the driver fails, with one more test


@pytest.fixture
def directory(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the broken driver is, and everything that a run writes."""
    (scratch / "forgetful.py").write_text(FORGETFUL)
    monkeypatch.setenv("PYTHONPATH", str(scratch))
    return scratch


def run(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A run with its results and evidence in a directory."""
    outputs = ["--results", str(directory / "results.jsonl"), "--evidence", str(directory / "evidence")]
    return command("run", DRIVER, *outputs, "--scratch", str(directory), *words)


def conclusion(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.strip().splitlines()[-1].rpartition(" -> ")[2]


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize("words", [("-x",), ("--max-failures", "1", "--jobs", "2")], ids=" ".join)
def test_a_run_stops_after_so_many_failures_and_says_so(directory: Path, words: tuple[str, ...]) -> None:
    done = run(directory, "--family", "changes", "--no-shrink", "--no-evidence", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    said = "the run stopped after"
    assert conclusion(done).startswith(f"does not conform; {said}")
    stopped = records(directory / "results.jsonl", "run")[0]["stopped"]
    assert stopped.startswith(said)
    outcomes = records(directory / "results.jsonl", "outcome")
    verdicts = [one["verdict"] for one in outcomes]
    assert 1 <= verdicts.count("FAIL") <= 2  # a second process completes the test that it is in
    assert verdicts.count("UNTESTED") >= len(verdicts) // 2
    assert {
        one["reason"] for one in outcomes if one["verdict"] == "UNTESTED" and not one["reason"].startswith("test_")
    } == {f"untested: {stopped}"}
    assert "UNTESTED" in {one["verdict"] for one in records(directory / "results.jsonl", "result")}


@pytest.mark.mounts
@pytest.mark.slow
def test_a_limit_of_failures_leaves_out_those_that_are_known(directory: Path) -> None:
    known = directory / "known.toml"
    review = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=9)
    known.write_text(
        f'format = 1\n[[known]]\nrequirement = "{OPAQUE}"\nreason = "it forgets"\nreview-by = {review}\n'
    )
    chosen = [word for one in (OPAQUE, "OVL-CHANGES-ORDER") for word in ("--requirement", one)]
    done = run(directory, *chosen, "-x", "--expectations", str(known), "--no-evidence")
    assert done.returncode == 0, done.stdout + done.stderr
    assert conclusion(done) == "no deviation besides known failures; not conformant"
    results = {one["requirement"]: one["verdict"] for one in records(directory / "results.jsonl", "result")}
    assert results == {OPAQUE: "XFAIL", "OVL-CHANGES-ORDER": "PASS"}
    assert "stopped" not in records(directory / "results.jsonl", "run")[0]


@pytest.mark.mounts
@pytest.mark.slow
def test_an_expression_chooses_tests_and_nothing_is_concluded_from_them(directory: Path) -> None:
    done = run(directory, "--requirement", "OVL-LIFE-REMOVE", "-k", "removed and not child", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert conclusion(done) == "no deviation in the tested requirements"
    assert "only tests that match -k 'removed and not child' ran" in done.stdout
    tests = {one["test"] for one in records(directory / "results.jsonl", "outcome")}
    assert tests
    assert all("removed" in one and "child" not in one for one in tests)
    found = records(directory / "results.jsonl", "result")
    assert [(one["verdict"], one["ran"]) for one in found] == [("PASS", len(tests))]
    assert found[0]["tests"] > len(tests)  # those that were left out count
    run_of = read(directory / "results.jsonl")[0].run
    assert run_of.expression == "removed and not child"


@pytest.mark.mounts
@pytest.mark.slow
def test_an_expression_that_matches_nothing_is_no_verdict(directory: Path) -> None:
    done = run(directory, "--requirement", OPAQUE, "-k", "no_such_test")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no test of the selected requirements in profile standard matches -k" in done.stdout
    assert records(directory / "results.jsonl", "result") == []


@pytest.mark.parametrize("expression", ["a and", "(", "a b"])
def test_an_expression_that_pytest_refuses_is_refused_at_once(expression: str) -> None:
    told = CliRunner().invoke(main, ["run", "python:no:Such", "-k", expression])
    assert told.exit_code == 2
    assert f"-k {expression!r}" in told.stderr


@pytest.mark.mounts
@pytest.mark.slow
def test_everything_once_and_no_example_is_shrunk(directory: Path) -> None:
    done = run(directory, "--requirement", OPAQUE, "--budget", "once", "--no-shrink")
    assert done.returncode == 1, done.stdout + done.stderr
    said = records(directory / "results.jsonl", "run")[0]
    assert (said["examples"], said["shrinks"]) == (2, False)
    outcomes = records(directory / "results.jsonl", "outcome")
    assert len({one["test"] for one in outcomes}) == len(outcomes)  # one round
    assert "examples of failures are not minimal" in done.stdout
    assert "inimal example" not in done.stdout
    texts = [one.read_text() for one in (directory / "evidence").glob("*/failure.md")]
    assert texts
    assert all("Example, not shrunk:" in one and "Minimal" not in one for one in texts)


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"stopped": "the run stopped after 1 failure"}, "the run stopped after 1 failure"),
        ({"expression": "a or b"}, "the option -k 'a or b' left out tests"),
        ({}, "every core requirement passed"),
    ],
)
def test_the_reports_of_a_part_of_the_tests_claim_no_conformance(changes: dict[str, str], because: str) -> None:
    known = load_requirements()
    outcomes = [TestOutcome(f"test_{one}", (one,), Verdict.PASS, backing="ext4") for one in known]
    run_of = replace(RUN, backings=("ext4",), selected=tuple(known), **changes)  # type: ignore[arg-type]
    matrix = matrix_of([Part(run_of, tuple(outcomes))], known)
    one = statements(matrix, known, load_capabilities())[0]
    assert (one.conclusion == UNDETERMINED) is bool(changes)
    assert one.because.startswith(because)
    assert ("partial" in markdown(matrix)) is bool(changes)


def test_what_an_expression_left_out_is_no_finding_of_any_report() -> None:
    outcome = TestOutcome("test_a", (RUN.selected[0],), Verdict.PASS, backing="ext4")
    part = Part(replace(RUN, expression="a"), (outcome,))
    assert [one.requirement for one in part.results()] == [RUN.selected[0]]
    cells = matrix_of([part], load_requirements()).cells
    assert {name for name, _ in cells} == {RUN.selected[0]}


def test_merged_parts_are_as_partial_as_each_of_them() -> None:
    first = Part(replace(RUN, expression="a", shrinks=False), ())
    second = Part(replace(RUN, stopped="the run stopped"), ())
    joined = merge([("one", [first]), ("two", [second])])[0].run
    assert (joined.expression, joined.shrinks, joined.stopped) == ("a", False, "the run stopped")


def test_a_known_failure_whose_tests_were_left_out_is_not_unexpected_by_that() -> None:
    entry = Expectation(OPAQUE, "it forgets", datetime.date(2999, 1, 1))
    passed = TestOutcome("test_a", (OPAQUE,), Verdict.PASS)
    found = {partial: expectations.apply([entry], [passed], partial=partial).outcomes for partial in (False, True)}
    assert [one[0].verdict for one in found.values()] == [Verdict.XPASS, Verdict.PASS]


@pytest.mark.parametrize("words", [("list",), ("--help",), ("run", "--help"), ("doctor",)], ids=" ".join)
def test_a_closed_pipe_is_no_answer(words: tuple[str, ...]) -> None:
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 141
    assert b"Traceback" not in said
    assert b"rror" not in said


@pytest.mark.mounts
@pytest.mark.slow
def test_a_run_whose_reader_left_has_no_verdict_and_a_complete_result_file(directory: Path) -> None:
    results = directory / "results.jsonl"
    words = [
        *COMMAND,
        "run",
        DRIVER,
        "--requirement",
        OPAQUE,
        "--no-shrink",
        "--no-evidence",
        "--results",
        str(results),
    ]
    with subprocess.Popen(
        [*words, "--scratch", str(directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate(timeout=120)
    assert (process.returncode, without_progress(said.decode())) == (141, "")
    assert json.loads(results.read_text().splitlines()[-1])["record"] == "end"
