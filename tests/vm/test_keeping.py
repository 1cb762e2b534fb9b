"""What an interrupted cell keeps, and how the rest joins it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.report import records
from conformance.report.records import BadResults, Part, Run
from conformance.spec.verdicts import TestOutcome, Verdict
from vm.keeping import joined, keep_evidence, kept

A, B, C = "OVL-LIFE-CREATE", "OVL-LIFE-REMOVE", "OVL-MOUNT-ONCE"
RUN = Run(
    suite="0.3.0",
    specification="0123456789ab",
    connection="python:refdriver:Driver",
    driver="refdriver",
    version="0.3.0",
    kernel="6.1.0",
    machine="x86_64",
    lane="root",
    profile="standard",
    examples=5,
    seed=1,
    backings=("ext4",),
    selected=(A, B, C),
    started="2026-01-02T03:04:05+00:00",
    seconds=10.0,
    failure="interrupted by SIGTERM",
    tests={"ext4": {A: 1, B: 2, C: 1}},
)


def outcome(test: str, *names: str, verdict: Verdict = Verdict.PASS, evidence: str = "") -> TestOutcome:
    return TestOutcome(test, names, verdict, backing="ext4", evidence=evidence)


def interrupted(directory: Path, *outcomes: TestOutcome, **other: object) -> Path:
    file = directory / "results.jsonl"
    records.write(file, [Part(replace(RUN, **other), outcomes)])  # type: ignore[arg-type]
    return file


def test_a_requirement_is_kept_if_all_of_its_tests_ran(tmp_path: Path) -> None:
    found = kept(
        interrupted(tmp_path, outcome("one", A), outcome("two", B), outcome("three", C, verdict=Verdict.UNTESTED))
    )
    assert found is not None
    assert (found.run.selected, found.run.failure) == ((A,), "")
    assert [(one.test, one.requirements) for one in found.outcomes] == [("one", (A,))]
    assert found.run.tests == {"ext4": {A: 1}}


def test_a_requirement_that_shares_a_test_with_an_open_one_is_not_kept(tmp_path: Path) -> None:
    """B has one more test, so both of its tests run again, and with them A is judged again."""
    found = kept(interrupted(tmp_path, outcome("one", A, B), outcome("three", C)))
    assert found is not None
    assert found.run.selected == (C,)
    assert kept(interrupted(tmp_path, outcome("one", A, B))) is None


@pytest.mark.parametrize("verdict", [Verdict.UNTESTED, Verdict.ERROR])
def test_what_says_nothing_is_not_kept(tmp_path: Path, verdict: Verdict) -> None:
    assert kept(interrupted(tmp_path, outcome("one", A, verdict=verdict))) is None


def test_only_an_interrupted_run_keeps_a_part(tmp_path: Path) -> None:
    for failure in ("", "the machine hung"):
        assert kept(interrupted(tmp_path, outcome("one", A), failure=failure)) is None
    assert kept(tmp_path / "none") is None


def test_the_rest_joins_what_was_kept(tmp_path: Path) -> None:
    before = kept(interrupted(tmp_path, outcome("one", A), outcome("two", B)))
    assert before is not None
    counts = {"ext4": {B: 2, C: 1}}
    now = Part(
        replace(RUN, selected=(B, C), failure="", tests=counts),
        (outcome("two", B), outcome("four", B), outcome("three", C)),
    )
    whole = joined(before, now)
    assert (whole.run.selected, whole.run.failure, whole.run.tests) == ((A, B, C), "", RUN.tests)
    assert sorted(one.test for one in whole.outcomes) == ["four", "one", "three", "two"]
    assert {one.verdict for one in whole.results()} == {Verdict.PASS}
    assert {name: (one.ran, one.tests) for name, one in whole.shares().items()} == {A: (1, 1), B: (2, 2), C: (1, 1)}


def test_a_failure_before_the_interruption_stays(tmp_path: Path) -> None:
    before = kept(interrupted(tmp_path, outcome("one", A, verdict=Verdict.FAIL)))
    assert before is not None
    whole = joined(before, Part(replace(RUN, selected=(B,), failure=""), (outcome("one", A), outcome("two", B))))
    assert {one.requirement: one.verdict for one in whole.results()}[A] is Verdict.FAIL


def test_another_driver_does_not_join(tmp_path: Path) -> None:
    before = kept(interrupted(tmp_path, outcome("one", A)))
    assert before is not None
    with pytest.raises(BadResults, match="another than before"):
        joined(before, Part(replace(RUN, version="0.4.0", selected=(B,), failure=""), (outcome("two", B),)))


def test_evidence_goes_with_what_was_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in ("evidence/one", "evidence/other"):
        (source / folder).mkdir(parents=True)
        (source / folder / "repro.sh").write_text(folder)
    found = [outcome("one", A, verdict=Verdict.FAIL, evidence="evidence/one"), outcome("two", B, evidence="gone")]
    keep_evidence(Part(RUN, tuple(found)), source, target)
    assert [path.relative_to(target).as_posix() for path in target.rglob("*.sh")] == ["evidence/one/repro.sh"]
