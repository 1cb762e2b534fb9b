"""Result files: what is written is read, what is split is merged, and what does not agree is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import PARTS, REQUIREMENTS, RUN

from conformance.report import records
from conformance.report.matrix import Column, matrix_of
from conformance.report.records import BadResults, Part
from conformance.spec import load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict, judge, with_cut_short

VALIDATOR = jsonschema.Draft202012Validator(json.loads(records.SCHEMA.read_text()))


def outcome(verdict: Verdict = Verdict.PASS, test: str = "test_1", backing: str = "ext4") -> TestOutcome:
    return TestOutcome(test, REQUIREMENTS[:1], verdict, "why", backing=backing)


def written(path: Path, *parts: Part) -> Path:
    records.write(path, parts)
    return path


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(part=PARTS)
def test_every_line_is_as_the_schema_says(part: Part) -> None:
    for line in records.lines_of([part]):
        VALIDATOR.validate(json.loads(line))


def test_the_schema_refuses_what_is_no_record() -> None:
    line: dict[str, Any] = json.loads(records.lines_of([Part(RUN, (outcome(),))])[1])
    for wrong in ({**line, "verdict": "GOOD"}, {**line, "colour": "red"}, {**line, "run": "x"}, {}):
        assert not VALIDATOR.is_valid(wrong), wrong


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(part=PARTS)
def test_what_is_written_is_read(part: Part, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(tmp_path_factory.mktemp("results") / "results.jsonl", part)
    (again,) = records.read(path)
    assert again.run == part.run
    assert sorted(map(repr, again.outcomes)) == sorted(map(repr, part.outcomes))
    assert records.lines_of([again]) == path.read_text().splitlines()


@settings(max_examples=50, deadline=None)
@given(part=PARTS, choice=st.integers(0, 2**12))
def test_the_halves_of_a_run_make_the_whole(part: Part, choice: int) -> None:
    halves: tuple[list[TestOutcome], list[TestOutcome]] = ([], [])
    for number, one in enumerate(part.outcomes):
        halves[choice >> number & 1].append(one)
    merged = records.merge([(str(number), [Part(RUN, tuple(half))]) for number, half in enumerate(halves)])
    assert records.lines_of(merged) == records.lines_of([part])


def test_halves_by_filesystem_and_by_requirement_are_joined() -> None:
    first = Part(replace(RUN, backings=("ext4",), selected=REQUIREMENTS[:2]), (outcome(),))
    second = Part(replace(RUN, backings=("xfs",), selected=REQUIREMENTS[2:4]), (outcome(backing="xfs"),))
    (both,) = records.merge([("a", [first]), ("b", [second])])
    assert set(both.run.backings) == {"ext4", "xfs"}
    assert set(both.run.selected) == set(REQUIREMENTS[:4])
    assert len(both.outcomes) == 2


def test_the_host_lacks_what_both_halves_lacked() -> None:
    first = Part(replace(RUN, lacking={"selinux": "off", "xfs-quota": "not here"}), (outcome(),))
    second = Part(replace(RUN, lacking={"selinux": "off"}), (outcome(backing="xfs"),))
    (both,) = records.merge([("a", [first]), ("b", [second])])
    assert both.run.lacking == {"selinux": "off"}


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (Part(RUN, (outcome(),)), "both hold test_1"),
        (Part(replace(RUN, specification="ffffffffffff"), (outcome(),)), "different requirements"),
        (Part(replace(RUN, kernel="6.2", declined={"diff": "no"}), (outcome(),)), "declines other capabilities"),
    ],
    ids=["twice", "another-specification", "another-driver-of-the-name"],
)
def test_what_does_not_agree_is_not_merged(other: Part, complaint: str) -> None:
    with pytest.raises(BadResults, match=complaint):
        records.merge([("a.jsonl", [Part(RUN, (outcome(),))]), ("b.jsonl", [other])])


def test_runs_of_other_kernels_stay_apart() -> None:
    merged = records.merge(
        [("a", [Part(RUN, (outcome(),))]), ("b", [Part(replace(RUN, kernel="6.2"), (outcome(Verdict.FAIL),))])]
    )
    matrix = matrix_of(merged, load_requirements())
    found = {
        column.kernel: matrix.cells[REQUIREMENTS[0], column].verdict
        for column in matrix.columns
        if column.backing == "ext4"
    }
    assert found == {"6.1.0": Verdict.PASS, "6.2": Verdict.FAIL}


WRITTEN: list[dict[str, Any]] = [
    {
        "record": "run",
        "run": "557c952591c6",
        "format": 1,
        "suite": "0.3.0",
        "specification": "b5d26360bca1",
        "connection": "python:refdriver:Driver",
        "driver": "python:refdriver:Driver",
        "version": "0.3.0",
        "kernel": "6.18.44",
        "machine": "x86_64",
        "lane": "root",
        "profile": "standard",
        "examples": 1,
        "seed": 7,
        "backings": ["host"],
        "selected": ["OVL-LIFE-CREATE"],
        "declined": {"diff": "no"},
        "lacking": {"selinux": "off"},
        "notes": ["a note"],
        "started": "2026-11-26T06:20:56+00:00",
        "seconds": 17.393,
        "failure": "",
        "overlay": {},
        "tests": {"host": {"OVL-LIFE-CREATE": 1}},
    },
    {
        "record": "outcome",
        "run": "557c952591c6",
        "test": "test_it[host]",
        "verdict": "FAIL",
        "reason": "no",
        "requirements": ["OVL-LIFE-CREATE"],
        "steps": ["create a"],
        "backing": "host",
        "seconds": 0.6201,
        "driver_seconds": 0.417,
        "kernel": [],
        "facts": ["EDQUOT"],
        "evidence": "folder",
    },
]


def test_a_file_of_version_0_3_0_is_read(tmp_path: Path) -> None:
    """The lines are literal: whatever becomes of the types, a file that exists must stay readable."""
    path = tmp_path / "results.jsonl"
    end = {"record": "end", "run": "557c952591c6", "outcomes": 1, "counts": {"FAIL": 1}, "exit_code": 1}
    path.write_text("".join(json.dumps(one) + "\n" for one in (*WRITTEN, end)))
    (part,) = records.read(path)
    again = [json.loads(line) for line in records.lines_of([part])]
    assert again[:2] == WRITTEN
    # The keys that are younger than format 1 may be missing.
    run, outcome_ = ({**one} for one in WRITTEN)
    del run["overlay"], run["tests"], outcome_["facts"]
    path.write_text("".join(json.dumps(one) + "\n" for one in (run, outcome_, end)))
    (older,) = records.read(path)
    assert older.run == replace(part.run, tests={})
    assert older.outcomes == (replace(part.outcomes[0], facts=()),)


@pytest.mark.parametrize("keep", [0, 1, 2, 5])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, keep: int) -> None:
    path = written(tmp_path / "results.jsonl", Part(RUN, (outcome(), outcome(backing="xfs"))))
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[:keep]))
    with pytest.raises(BadResults, match="cut"):
        records.read(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace('"format": 1', '"format": 9'), "the format is not"),
        (lambda text: text.replace('"seed": 1', '"seed": 2'), "edited"),
        (
            lambda text: text.replace('"seed": 1', '"seed": "1"'),
            "line 1: .*seed: expected a whole number, found '1'",
        ),
        (
            lambda text: text.replace('"backing": ', '"packing": '),
            "line 2: .*there is no key packing; the keys are",
        ),
        (lambda text: text.replace('"record": "outcome"', '"record": "rumour"'), "rumour"),
        (lambda text: text.replace('"verdict": "PASS"', '"verdict": "GOOD"'), "line 2"),
        (lambda text: "hello\n" + text, "line 1"),
        (
            lambda text: "\n".join(line for line in text.splitlines() if '"outcome", ' not in line),
            "outcomes expected",
        ),
    ],
    ids=[
        "format",
        "edited",
        "type",
        "unknown-key",
        "unknown-record",
        "unknown-verdict",
        "no-json",
        "outcomes-lost",
    ],
)
def test_a_damaged_file_is_refused_by_line(tmp_path: Path, change: Any, complaint: str) -> None:
    path = written(tmp_path / "results.jsonl", Part(RUN, (outcome(),)))
    path.write_text(change(path.read_text()))
    with pytest.raises(BadResults, match=complaint):
        records.read(path)


def test_what_ran_once_counts_in_every_column() -> None:
    part = Part(RUN, (outcome(), TestOutcome("test_2", REQUIREMENTS[1:2], Verdict.PASS, backing="xfs")))
    matrix = matrix_of([part], load_requirements())
    columns = [Column("python:a:B", "1.0", "6.1.0", one, "root", "standard") for one in RUN.backings]
    assert [matrix.cells[REQUIREMENTS[0], column].verdict for column in columns] == [Verdict.PASS] * 2


def test_what_cannot_differ_is_told_of_every_column() -> None:
    everywhere = load_requirements()["OVL-LIFE-BAD-ID"]
    by_kernel = load_requirements()["OVL-MOUNT-ONCE"]
    assert (everywhere.varies, by_kernel.varies) == ((), ("kernel",))
    ids = (everywhere.id, by_kernel.id)
    first = Part(
        replace(RUN, selected=ids, backings=("ext4",)),
        tuple(TestOutcome(f"test_{one}", (one,), Verdict.PASS, backing="ext4") for one in ids),
    )
    others = [
        Part(replace(RUN, selected=REQUIREMENTS[:1], backings=("xfs",), kernel=kernel), (outcome(backing="xfs"),))
        for kernel in (RUN.kernel, "6.2")
    ]
    matrix = matrix_of([first, *others], load_requirements())
    known = {(one, column.kernel, column.backing) for one, column in matrix.cells if one in ids}
    assert known == {
        *((one, RUN.kernel, backing) for one in ids for backing in ("ext4", "xfs")),
        (everywhere.id, "6.2", "xfs"),
    }


def test_a_filesystem_has_its_own_verdict_from_another_kernel() -> None:
    """Not that of another filesystem on its kernel, where it did not run."""
    by_backing = load_requirements()["OVL-APPLY-PIECES"]
    assert by_backing.varies == ("backing",)
    on_ext4 = TestOutcome("test_pieces", (by_backing.id,), Verdict.PASS, backing="ext4")
    on_overlay = TestOutcome("test_pieces", (by_backing.id,), Verdict.NOT_APPLICABLE, backing="overlay")
    parts = [
        Part(replace(RUN, selected=(by_backing.id,), backings=("overlay",)), (on_overlay,)),
        Part(replace(RUN, selected=(by_backing.id,), backings=("ext4", "overlay"), kernel="7.2"), (on_ext4,)),
    ]
    matrix = matrix_of(parts, load_requirements())
    said = {(one.kernel, one.backing): matrix.cells[by_backing.id, one].verdict for one in matrix.columns}
    assert said["7.2", "overlay"] is Verdict.NOT_APPLICABLE
    assert said["7.2", "ext4"] is Verdict.PASS


def test_parameters_of_overlay_make_columns() -> None:
    runs = [replace(RUN, overlay={"index": "N", "metacopy": value}) for value in ("N", "N", "Y")]
    assert len({run.id for run in runs}) == 2
    parts = [Part(replace(run, kernel=f"6.{number}"), (outcome(),)) for number, run in enumerate(runs)]
    columns = matrix_of(parts, load_requirements()).columns
    assert {(column.kernel, column.backing) for column in columns} == {
        *(("6.0", backing) for backing in RUN.backings),
        *(("6.1", backing) for backing in RUN.backings),
        *(("6.2", f"{backing} metacopy=Y") for backing in RUN.backings),
    }


def test_what_a_failed_test_did_not_judge_is_untested_with_the_reason() -> None:
    failed, first, second = REQUIREMENTS[:3]
    found = [
        TestOutcome("test_of_three", (failed,), Verdict.FAIL, "why", cut=(first, second)),
        TestOutcome("test_of_one", (first,), Verdict.PASS),
    ]
    whole = with_cut_short(found, (failed, first, second))
    results = {one.requirement: one for one in judge((failed, first, second), whole)}
    assert [results[one].verdict for one in (failed, first, second)] == [
        Verdict.FAIL,
        Verdict.PASS,
        Verdict.UNTESTED,
    ]
    assert (
        results[second].outcomes[0].reason == f"test_of_three failed on {failed}, and did not test this requirement"
    )
    assert with_cut_short(found, (failed, first)) == found
