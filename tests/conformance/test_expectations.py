"""Known failures: strict, dated, and quick to confirm."""

from __future__ import annotations

import datetime
import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import commanding
import pytest
from reading import verdicts

from conformance.report import expectations
from conformance.report.expectations import BadExpectations, Expectation, apply, within
from conformance.spec import load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict
from conformance.suites.boundaries import BOUNDARIES
from conformance.suites.lattice import LATTICE

TODAY = datetime.date(2026, 11, 24)
KNOWN = load_requirements()
HEAD = "format = 1\n"
ENTRY = """
[[known]]
requirement = "OVL-CHANGES-OPAQUE"
reason = "lists a directory that was made again as deleted"
review-by = 2027-01-31
"""
ONE = Expectation("OVL-CHANGES-OPAQUE", "the reason", datetime.date(2027, 1, 31))
ENVIRONMENT = {**os.environ, "CONFORMANCE_MUTANT_BASIS": "refdriver:Driver"}


def loaded(tmp_path: Path, text: str) -> list[Expectation]:
    path = tmp_path / "expectations.toml"
    path.write_text(text)
    return expectations.load(path, KNOWN, TODAY)


def outcome(verdict: Verdict, *requirements: str, test: str = "test_1", backing: str = "ext4") -> TestOutcome:
    return TestOutcome(test, requirements or ("OVL-CHANGES-OPAQUE",), verdict, "why", backing=backing)


def test_an_entry_is_read(tmp_path: Path) -> None:
    more = (
        'kernel = ">=5.10, <6.19"\nbacking = ["xfs"]\ndriver-version = "==1.43.*"\nlink = "https://example.org/1"\n'
    )
    (found,) = loaded(tmp_path, HEAD + ENTRY + more)
    assert found.requirement == "OVL-CHANGES-OPAQUE"
    assert found.review_by == datetime.date(2027, 1, 31)
    assert found.backing == ("xfs",)
    assert found.holds("6.18.44-vendor", "1.43.0+ds1-8")
    assert not found.holds("6.19", "1.43.0")
    assert not found.holds("6.1", "1.44.0")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "format = 1"),
        ("format = 2\n", "format = 1"),
        (HEAD + "colour = 1\n", "entries"),
        (HEAD + ENTRY.replace("OVL-CHANGES-OPAQUE", "OVL-NO-SUCH"), "entry 1 .*no such requirement"),
        (HEAD + ENTRY.replace("2027-01-31", "2026-11-23"), "is past"),
        (HEAD + ENTRY.replace("2027-01-31", '"2027-01-31"'), "without quotes"),
        (HEAD + ENTRY.replace("reason", "because"), "because.*reason is missing"),
        (HEAD + ENTRY + 'kernel = "new"\n', "condition"),
        (HEAD + ENTRY + 'backing = ["ntfs"]\n', "backing is a list"),
        (HEAD + ENTRY + "link = 7\n", "entry 1 .*link: expected a text, found 7"),
        (HEAD + ENTRY + 'backing = "xfs"\n', "entry 1 .*backing: expected a list, found 'xfs'"),
        (HEAD + "known = 5\n", "entries"),
        (HEAD + "[[known]\n", "expectations.toml"),
    ],
)
def test_what_is_not_right_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadExpectations, match=complaint) as raised:
        loaded(tmp_path, text)
    assert "expectations.toml" in str(raised.value)


def test_an_expected_failure_does_not_fail_the_run() -> None:
    applied = apply([ONE], [outcome(Verdict.FAIL)])
    assert applied.outcomes[0].verdict is Verdict.XFAIL
    assert "the reason" in applied.outcomes[0].reason
    assert "2027-01-31" in applied.outcomes[0].reason


def test_an_expected_failure_that_passes_is_reported() -> None:
    applied = apply([ONE], [outcome(Verdict.PASS)])
    assert applied.outcomes[0].verdict is Verdict.XPASS


def test_one_failure_among_passes_is_what_was_expected() -> None:
    applied = apply([ONE], [outcome(Verdict.PASS), outcome(Verdict.FAIL, test="test_2")])
    assert [one.verdict for one in applied.outcomes] == [Verdict.PASS, Verdict.XFAIL]


def test_another_requirement_of_the_same_test_is_not_covered() -> None:
    applied = apply([ONE], [outcome(Verdict.FAIL, "OVL-CHANGES-OPAQUE", "OVL-LIFE-CREATE")])
    assert applied.outcomes[0].verdict is Verdict.FAIL


@pytest.mark.parametrize("other", [replace(ONE, backing=("xfs",)), replace(ONE, test="test_2*")])
def test_what_an_entry_is_not_about_stays_a_failure(other: Expectation) -> None:
    assert apply([other], [outcome(Verdict.FAIL)]).outcomes[0].verdict is Verdict.FAIL


def test_an_entry_that_can_match_nothing_is_named() -> None:
    assert "remove the entry" in apply([ONE], [outcome(Verdict.DECLINED)]).matchless[0]
    assert apply([ONE], [outcome(Verdict.NOT_APPLICABLE)]).matchless == []


@pytest.mark.parametrize(
    ("condition", "version", "holds"),
    [("", "anything", True), (">=6", "6.18.44-fc", True), ("<6", "6.18", False), (">=6", "unknown", False)],
)
def test_conditions_look_at_the_leading_numbers(condition: str, version: str, holds: bool) -> None:
    assert within(condition, version) is holds


def test_update_keeps_what_it_does_not_touch() -> None:
    before = HEAD + "# why we keep this file\n" + ENTRY.replace("OVL-CHANGES-OPAQUE", "OVL-LIFE-CREATE") + ENTRY
    outcomes = [outcome(Verdict.XPASS), outcome(Verdict.FAIL, "OVL-NAMES-HOME")]
    text = expectations.updated(before, outcomes, {"OVL-NAMES-HOME": "cases/x.json"}, TODAY)
    assert "# why we keep this file" in text
    said = {one["requirement"]: one for one in tomllib.loads(text)["known"]}
    assert said.keys() == {"OVL-LIFE-CREATE", "OVL-NAMES-HOME"}
    assert said["OVL-NAMES-HOME"]["case"] == "cases/x.json"
    assert said["OVL-NAMES-HOME"]["review-by"] > TODAY
    assert expectations.updated(text, [outcome(Verdict.FAIL, "OVL-NAMES-HOME")], {}, TODAY) == text


# A mutant that writes down how often it applied an archive, and omits empty files: no written case has one.
COUNTING = """\
from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.rewriting import filtered


def is_empty(member):
    return member.isreg() and not member.size and ".wh." not in member.name


class Counting(Faithful):
    def apply_diff(self, layer_id, parent, archive):
        with open({count!r}, "a") as count:
            count.write(".")
        changed = filtered(archive, lambda member: None if is_empty(member) else member)
        return self.inner.apply_diff(layer_id, parent, changed)
"""


def command(*words: str, path: str = "") -> tuple[int, str]:
    done = commanding.command(*words, env={**ENVIRONMENT, "PYTHONPATH": path})
    return done.returncode, done.stdout + done.stderr


def run(driver: str, scratch: Path, *words: str) -> tuple[int, Path, str]:
    results = scratch / "results.jsonl"
    chosen = ["--requirement", "OVL-APPLY-ROUND-TRIP", "--seed", "5"]
    places = ["--results", str(results), "--evidence", str(scratch / "evidence"), "--scratch", str(scratch)]
    code, output = command("run", driver, *chosen, *places, *words, path=str(scratch))
    return code, results, output


@pytest.mark.mounts
def test_the_life_of_a_known_failure(scratch: Path) -> None:
    """It is found, written down, expected with its stored case first, and missed when it is put right."""
    file, count = scratch / "expectations.toml", scratch / "count"
    mutant = f"python:counting:Counting?writable={scratch}"
    (scratch / "counting.py").write_text(COUNTING.format(count=str(count)))
    code, results, output = run(mutant, scratch)
    applied = count.stat().st_size
    cases = [case for case in (*BOUNDARIES, *LATTICE) if case.requirement == "OVL-APPLY-ROUND-TRIP"]
    written = sum(len(case.chain) for case in cases) + 2  # of names that need an extension, one layer each
    assert applied > 2 * written
    assert code == 1, output
    code, output = command("expect", "update", str(file), str(results))
    assert code == 0, output
    assert "expected from now on: OVL-APPLY-ROUND-TRIP" in output
    assert command("expect", "check", str(file))[0] == 0
    case = json.loads(next((scratch / "cases").glob("*.json")).read_text())
    assert case["drawn"]

    code, results, output = run(mutant, scratch, "--expectations", str(file))
    assert code == 0, output
    assert set(verdicts(results).values()) == {"XFAIL"}
    # The stored case decides at once, beside the written tests; nothing is drawn, and nothing is made smaller.
    assert count.stat().st_size - applied <= written + written

    code, results, output = run("python:refdriver:Driver", scratch, "--expectations", str(file))
    assert code == 1, output
    assert "XPASS" in output
    assert command("expect", "update", str(file), str(results))[0] == 0
    assert tomllib.loads(file.read_text())["known"] == []
    code, _, output = run("python:refdriver:Driver", scratch, "--expectations", str(file))
    assert code == 0, output


@pytest.mark.slow
def test_a_file_that_is_not_right_stops_the_run_before_it_begins(scratch: Path) -> None:
    file = scratch / "expectations.toml"
    file.write_text(HEAD + ENTRY.replace("2027-01-31", "2020-01-31"))
    code, output = command("run", "python:refdriver:Driver", "--expectations", str(file))
    assert code == 2
    assert "OVL-CHANGES-OPAQUE" in output
    assert "2020-01-31" in output
