"""What is read: JUnit XML, Markdown, the badge and the statement of conformance."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from making import OUTCOMES, PARTS, RUN
from rich.console import Console

from conformance.cli import main
from conformance.cli.blocks import Blocks
from conformance.cli.summary import print_summary
from conformance.report import records
from conformance.report.badge import badge
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.report.matrix import matrix_of
from conformance.report.page import page
from conformance.report.records import Part, Run, digest_of
from conformance.report.statement import (
    CONFORMANT,
    NOT_CONFORMANT,
    UNDETERMINED,
    Statement,
    statement_markdown,
    statements,
)
from conformance.spec import is_core, load_capabilities, load_requirements
from conformance.spec.profiles import EXAMPLES, PROFILES
from conformance.spec.verdicts import TestOutcome, Verdict, totals

KNOWN, CAPABILITIES = load_requirements(), load_capabilities()
WHOLE = replace(RUN, backings=("host",), selected=tuple(KNOWN), specification=digest_of(KNOWN))
CORE = [one.id for one in KNOWN.values() if is_core(one, CAPABILITIES)]
SHOULD = next(one.id for one in KNOWN.values() if one.level == "SHOULD")


def stated(verdicts: Mapping[str, Verdict] = {}, run: Run = WHOLE) -> Statement:
    """A statement where every requirement passed but for these."""
    outcomes = [
        TestOutcome(f"test_{one}", (one,), verdicts.get(one, Verdict.PASS), "the reason", backing="host")
        for one in KNOWN
    ]
    (found,) = statements(matrix_of([Part(run, tuple(outcomes))], KNOWN), KNOWN, CAPABILITIES)
    return found


def but(requirement: str, verdict: Verdict, run: Run = WHOLE) -> Statement:
    return stated({requirement: verdict}, run)


def test_a_driver_that_passes_everything_is_conformant() -> None:
    assert stated().conclusion == CONFORMANT
    assert "conformant" in statement_markdown(stated())


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.XFAIL])
def test_a_failure_of_level_must_is_not_conformant_even_if_it_is_known(verdict: Verdict) -> None:
    assert but(CORE[0], verdict).conclusion == NOT_CONFORMANT


def test_a_failure_of_level_should_is_listed_and_does_not_decide() -> None:
    statement = but(SHOULD, Verdict.FAIL)
    assert statement.conclusion == CONFORMANT
    assert statement.failed == (SHOULD,)


@pytest.mark.parametrize("verdict", [Verdict.DECLINED, Verdict.NOT_APPLICABLE, Verdict.UNTESTED, Verdict.ERROR])
@pytest.mark.parametrize("requirement", [CORE[0], CORE[-1]])
def test_nobody_is_conformant_with_a_core_requirement_left_out(requirement: str, verdict: Verdict) -> None:
    statement = but(requirement, verdict)
    assert statement.conclusion == UNDETERMINED
    assert requirement in statement.because or verdict is Verdict.ERROR


@settings(max_examples=30, deadline=None)
@given(left_out=st.sets(st.sampled_from(list(KNOWN)), max_size=8))
def test_what_was_left_out_is_listed_with_its_reason(left_out: set[str]) -> None:
    statement = stated(dict.fromkeys(left_out, Verdict.NOT_APPLICABLE))
    assert {one.requirement for one in statement.left_out} == left_out
    assert all(one.reason == "the reason" for one in statement.left_out)
    assert (statement.conclusion == CONFORMANT) == (not left_out & set(CORE))


@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_a_run_of_some_tests_determines_nothing(profile: str) -> None:
    assert stated(run=replace(WHOLE, profile=profile)).conclusion == UNDETERMINED


@pytest.mark.parametrize("examples", [1, 2, EXAMPLES["standard"] - 1])
def test_a_run_with_few_examples_determines_nothing(examples: int) -> None:
    found = stated(run=replace(WHOLE, examples=examples, budget="once"))
    assert found.conclusion == UNDETERMINED
    assert f"{examples} example" in found.because


def test_a_statement_says_with_what_effort() -> None:
    found = stated(run=replace(WHOLE, examples=40, budget="600 s", shrinks=False))
    assert found.conclusion == CONFORMANT
    assert found.effort == "40 examples for each property, budget 600 s"
    assert found.effort in statement_markdown(found)
    assert "40 examples" in badge(found)


@pytest.mark.parametrize(
    ("verdicts", "changes", "code", "said"),
    [
        ({}, {}, 0, "conforms"),
        ({}, {"shrinks": False}, 0, "conforms"),
        ({}, {"examples": 1}, 0, "no deviation in the tested requirements"),
        ({}, {"profile": "smoke"}, 0, "no deviation in the tested requirements"),
        ({}, {"expression": "x"}, 0, "no deviation in the tested requirements"),
        ({CORE[0]: Verdict.DECLINED}, {}, 0, "no deviation in the tested requirements"),
        ({CORE[0]: Verdict.FAIL}, {"examples": 1}, 1, "does not conform"),
        ({CORE[0]: Verdict.XFAIL}, {}, 0, "no deviation besides known failures; not conformant"),
        ({SHOULD: Verdict.FAIL}, {}, 1, "does not conform to requirements of level SHOULD"),
    ],
)
def test_the_terminal_concludes_as_the_statement_does(
    verdicts: Mapping[str, Verdict],
    changes: Mapping[str, Any],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = replace(WHOLE, **changes)
    outcomes = [
        TestOutcome(f"test_{one}", (one,), verdicts.get(one, Verdict.PASS), "the reason", backing="host")
        for one in KNOWN
    ]
    blocks = Blocks(lambda _: None, KNOWN, lambda outcome, _: outcome, lambda _: "")
    print_summary(Console(file=io.StringIO()), Part(run, tuple(outcomes)), blocks, code=code)
    *_, statement, last = capsys.readouterr().out.splitlines()
    assert last.rpartition(" -> ")[2] == said
    assert statement.startswith(f"statement: {stated(verdicts, run).conclusion}, as ")
    assert (said == "conforms") == (statement.startswith("statement: conformant") and code == 0)


def test_a_failure_of_the_harness_determines_nothing() -> None:
    assert stated(run=replace(WHOLE, failure="it broke")).conclusion == UNDETERMINED


def test_the_statement_counts_by_level() -> None:
    counts = but(SHOULD, Verdict.FAIL).counts
    assert counts["SHOULD"]["FAIL"] == 1
    assert sum(counts["MUST"].values()) == sum(one.level == "MUST" for one in KNOWN.values())


@settings(max_examples=60, deadline=None)
@given(part=PARTS, profile=st.sampled_from(PROFILES))
def test_the_terminal_the_statement_and_the_page_count_the_same(part: Part, profile: str) -> None:
    # The name of a test ends with its filesystem.
    outcomes = tuple(replace(one, test=f"{one.test}[{one.backing}]") for one in part.outcomes)
    part = Part(replace(part.run, profile=profile), outcomes)
    matrix = matrix_of([part], KNOWN)
    on_the_terminal = totals({one.requirement: one.verdict for one in part.results()}, KNOWN)
    words = {
        level: {verdict.value: count for verdict, count in of.items()} for level, of in on_the_terminal.items()
    }
    (statement,) = statements(matrix, KNOWN, load_capabilities())
    assert statement.counts == words
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page(matrix, {}), re.DOTALL)
    assert data
    assert json.loads(data[1])["totals"] == words


def test_the_badge_names_profile_and_kernels_and_no_percentage() -> None:
    for statement in (stated(), but(CORE[0], Verdict.FAIL), but(CORE[0], Verdict.DECLINED)):
        text = badge(statement)
        ET.fromstring(text)
        assert "standard, 10 examples, Linux 6.1" in text
        assert "%" not in text
    assert "1 requirement fails" in badge(but(CORE[0], Verdict.FAIL))
    assert ">not determined<" in badge(but(CORE[0], Verdict.DECLINED))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(part=PARTS)
def test_junit_is_xml_whatever_a_driver_says(part: Part) -> None:
    matrix = matrix_of([part], KNOWN)
    root = ET.fromstring(junit(matrix).encode())
    assert len(root.findall("testsuite")) == len(matrix.columns)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests", "")) == len(cases)
        assert int(suite.get("failures", "")) == sum(case.find("failure") is not None for case in cases)
        assert int(suite.get("errors", "")) == sum(case.find("error") is not None for case in cases)
        assert int(suite.get("skipped", "")) == sum(case.find("skipped") is not None for case in cases)


@settings(max_examples=60, deadline=None)
@given(outcome=OUTCOMES)
def test_markdown_keeps_a_drivers_words_behind_its_fences(outcome: TestOutcome) -> None:
    hostile = replace(outcome, verdict=Verdict.FAIL, reason="````\n# not a heading\n```", steps=("```",))
    text = markdown(matrix_of([Part(RUN, (hostile,))], KNOWN))
    fence, outside = "", []
    for line in text.split("\n"):
        if fence and line == fence:
            fence = ""
        elif not fence and line.startswith("```"):
            fence = line
        elif not fence:
            outside.append(line)
    assert "# not a heading" not in outside
    assert fence == ""


def test_differences_between_kernels_come_first_in_markdown() -> None:
    one = Part(RUN, (TestOutcome("test_1", (CORE[0],), Verdict.PASS, backing="ext4"),))
    other = Part(
        replace(RUN, kernel="6.2"), (TestOutcome("test_1", (CORE[0],), Verdict.FAIL, "why", backing="ext4"),)
    )
    text = markdown(matrix_of([one, other], KNOWN))
    assert text.index("Differences") < text.index("## Failures")


def test_all_reports_are_made_of_one_file(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    records.write(results, [Part(RUN, (TestOutcome("test_1", (CORE[0],), Verdict.FAIL, "why", backing="ext4"),))])
    names = {"--html": "page.html", "--junit": "junit.xml", "--markdown": "report.md", "--badge": "badge.svg"}
    words = [word for option, name in names.items() for word in (option, str(tmp_path / name))]
    runner = CliRunner()
    done = runner.invoke(main, ["report", str(results), *words, "--statement", str(tmp_path / "statement.json")])
    assert done.exit_code == 0, done.output
    assert all((tmp_path / name).stat().st_size for name in names.values())
    assert json.loads((tmp_path / "statement.json").read_text())["conclusion"] == NOT_CONFORMANT
    assert "## Failures" in runner.invoke(main, ["report", str(results)]).output


def test_the_command_merges_and_refuses(tmp_path: Path) -> None:
    first, second, both = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "both.jsonl"
    outcomes = [TestOutcome("test_1", (CORE[0],), Verdict.PASS, backing=one) for one in RUN.backings]
    records.write(first, [Part(RUN, tuple(outcomes[:1]))])
    records.write(second, [Part(RUN, tuple(outcomes[1:]))])
    runner = CliRunner()
    assert runner.invoke(main, ["merge", str(first), str(second), "-o", str(both)]).exit_code == 0
    assert both.read_text().splitlines() == records.lines_of([Part(RUN, tuple(outcomes))])
    done = runner.invoke(main, ["merge", str(first), str(both), "-o", str(tmp_path / "no.jsonl")])
    assert done.exit_code == 1
    assert "name each file once" in done.output
    assert not (tmp_path / "no.jsonl").exists()


def test_what_nobody_asked_for_is_no_difference() -> None:
    runs = [replace(WHOLE, kernel=one) for one in ("6.1", "6.2")]
    runs[1] = replace(runs[1], selected=(CORE[0],))
    parts = [
        Part(run, tuple(TestOutcome(f"test_{one}", (one,), Verdict.PASS, backing="host") for one in run.selected))
        for run in runs
    ]
    differ = markdown(matrix_of(parts, KNOWN)).partition("## Differences between columns")[2].partition("##")[0]
    assert "None: every requirement has one verdict everywhere." in differ


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (["--junit", "no-such/j.xml"], "is not a directory"),
        (["--junit", "page.html"], "named for two reports"),
        (["--junit", "r.jsonl"], "is read, too"),
        (["--export-pytest", "test_it.py"], "evidence folders"),
    ],
)
def test_nothing_is_written_if_one_output_cannot_be(
    second: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    failure = TestOutcome("test_x", (CORE[0],), Verdict.FAIL, "wrong", backing="host", evidence="gone")
    records.write(Path("r.jsonl"), [Part(WHOLE, (failure,))])
    before = Path("r.jsonl").read_bytes()
    done = CliRunner().invoke(main, ["report", "r.jsonl", "--html", "page.html", *second])
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]
    assert Path("r.jsonl").read_bytes() == before
