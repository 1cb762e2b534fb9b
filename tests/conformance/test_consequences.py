"""What a user of the driver would see: a sentence of each requirement, and of other causes of failures."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from making import RUN

from conformance.cli.blocks import WIDTH, block
from conformance.evidence.folder import About, write_folder, write_kernel_folder, write_plain_folder
from conformance.history.case import Case
from conformance.history.findings import InWords
from conformance.report import consequences
from conformance.report.consequences import LABEL, consequence_of
from conformance.report.junit import junit
from conformance.report.markdown import markdown
from conformance.report.matrix import matrix_of
from conformance.report.records import Part, digest_of
from conformance.spec import Requirement, health, load_requirements
from conformance.spec.causes import UNKNOWN, Cause, CauseKind, TreeDifference
from conformance.spec.verdicts import TestOutcome, Verdict

KNOWN = load_requirements()
ONE = KNOWN["OVL-WHITEOUT-HIDES"]
LONGEST = WIDTH - len(f"    {LABEL}: ")  # so that no block cuts it
OF_CAUSES: Mapping[str, str] = {
    **consequences._REFUSED,
    **{one.value: sentence for one, sentence in consequences._TREES.items()},
    **{name: getattr(consequences, name) for name in ("_DEFECT", "_UNANSWERED", "_ERROR", "_DONE", "_LAYOUT")},
}


def is_one_sentence(text: str) -> bool:
    return (
        text == text.strip() and bool(re.fullmatch(r"[^\n]*[^.!?\s]\.", text)) and not re.search(r"[.!?;] ", text)
    )


def failed(cause: Cause | None = UNKNOWN, reason: str = "wrong", requirement: str = ONE.id) -> TestOutcome:
    return TestOutcome("test_x[host]", (requirement,), Verdict.FAIL, reason, ("create a",), "host", cause=cause)


def of_tree(difference: TreeDifference) -> Cause:
    return Cause(CauseKind.TREE, difference=difference)


@pytest.mark.parametrize("requirement", KNOWN.values(), ids=lambda one: one.id)
def test_a_consequence_is_one_short_sentence_that_does_not_repeat_the_requirement(requirement: Requirement) -> None:
    said = requirement.consequence
    assert is_one_sentence(said), said
    assert len(said) <= LONGEST
    assert "OVL-" not in said
    likeness = difflib.SequenceMatcher(None, requirement.sentence.lower(), said.lower()).ratio()
    assert likeness < 0.65, "what does a person see who does not know what a driver is asked?"


@pytest.mark.parametrize("name", OF_CAUSES)
def test_the_consequence_of_a_cause_is_one_short_sentence(name: str) -> None:
    assert is_one_sentence(OF_CAUSES[name])
    assert len(OF_CAUSES[name]) <= LONGEST


@pytest.mark.parametrize(
    "text",
    ["", "Two. Sentences.", "No stop", "A question?", "A line\nand another.", " It begins late.", "An end.."],
)
def test_what_is_no_sentence_is_recognised(text: str) -> None:
    assert not is_one_sentence(text)


def test_no_two_requirements_have_one_consequence() -> None:
    said = [one.consequence for one in KNOWN.values()]
    assert [one for one in said if said.count(one) > 1] == []


def test_a_consequence_is_no_part_of_what_a_driver_is_judged_by() -> None:
    others = {name: replace(one, consequence="Something else happens.") for name, one in KNOWN.items()}
    assert digest_of(others) == digest_of(KNOWN)
    changed = {**KNOWN, ONE.id: replace(ONE, sentence="Something else.")}
    assert digest_of(changed) != digest_of(KNOWN)


def lines_of(outcome: TestOutcome) -> list[str]:
    return block(1, "a cause", outcome, KNOWN, "folder")


def test_the_block_of_a_failure_shows_it_after_the_requirement() -> None:
    lines = lines_of(failed())
    assert lines[1:3] == [f"    why: {ONE.sentence}", f"    {LABEL}: {ONE.consequence}"]


@pytest.mark.parametrize("requirement", KNOWN)
def test_no_block_cuts_it(requirement: str) -> None:
    assert f"    {LABEL}: {KNOWN[requirement].consequence}" in lines_of(failed(requirement=requirement))


@pytest.mark.parametrize("verdict", [Verdict.ERROR, Verdict.XPASS])
def test_what_is_no_failure_of_the_driver_has_none(verdict: Verdict) -> None:
    outcome = replace(failed(), verdict=verdict)
    assert consequence_of(outcome, KNOWN) == ""
    assert not [line for line in lines_of(outcome) if LABEL in line]


def test_a_requirement_of_another_version_has_none() -> None:
    assert consequence_of(failed(requirement="OVL-OF-ANOTHER-VERSION"), KNOWN) == ""


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (Cause(CauseKind.REFUSED, "apply", "OSError"), "An image with such a layer cannot be pulled or loaded."),
        (Cause(CauseKind.REFUSED, "remove"), OF_CAUSES["remove"]),
        (Cause(CauseKind.DEFECT, error="diff raised NameError"), OF_CAUSES["_DEFECT"]),
        (Cause(CauseKind.UNANSWERED, error="no answer"), OF_CAUSES["_UNANSWERED"]),
        (Cause(CauseKind.LAYOUT), OF_CAUSES["_LAYOUT"]),
        (of_tree(TreeDifference.MODE), OF_CAUSES["mode"]),
    ],
    ids=lambda one: one.kind.value if isinstance(one, Cause) else "",
)
def test_a_failure_for_another_cause_says_what_that_brings(cause: Cause, said: str) -> None:
    """The file that was deleted is not back: the test did not come that far, or saw something else."""
    assert consequence_of(failed(cause), KNOWN) == said != ONE.consequence


@pytest.mark.parametrize(
    "cause",
    [
        of_tree(TreeDifference.UNEXPECTED),
        Cause(CauseKind.ACCEPTED, "create"),
        Cause(CauseKind.REFUSED),  # of several concurrent calls
        UNKNOWN,
    ],
    ids=lambda one: one.kind.value,
)
def test_a_failure_by_what_the_requirement_is_about_says_its_consequence(cause: Cause) -> None:
    assert consequence_of(failed(cause), KNOWN) == ONE.consequence


@pytest.mark.parametrize(
    ("requirement", "difference", "is_its_own"),
    [
        ("OVL-META-MODES", TreeDifference.MODE, True),
        ("OVL-META-MODES", TreeDifference.MISSING, False),
        ("OVL-NAMES-255", TreeDifference.MISSING, True),
        ("OVL-NAMES-255", TreeDifference.OWNER, False),
        ("OVL-SIZE-DIFF", TreeDifference.MISSING, False),
        ("OVL-QUOTA-FULL", TreeDifference.OWNER, False),
    ],
)
def test_a_tree_that_differs_in_something_else_says_what_that_brings(
    requirement: str, difference: TreeDifference, is_its_own: bool
) -> None:
    own = KNOWN[requirement].consequence
    expected = own if is_its_own else OF_CAUSES[difference.value]
    assert consequence_of(failed(of_tree(difference), requirement=requirement), KNOWN) == expected


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("Unlink b: expected success, got: Is a directory", "_ERROR"),
        ("Unlink b: expected ENOENT or EISDIR, got: Operation not permitted", "_ERROR"),
        ("Unlink b: expected ENOENT, but it was done", "_DONE"),
        ("the driver refused an archive that it must apply: OSError: no", "apply"),
    ],
)
def test_an_operation_with_another_outcome_says_what_that_brings(reason: str, name: str) -> None:
    assert consequence_of(failed(reason=reason), KNOWN) == OF_CAUSES[name]


@pytest.mark.parametrize(
    "reason", ["the size of x: expected 5, found 7", "the files: expected it to be there, and got ENOENT"]
)
def test_another_reason_is_not_taken_for_an_operation(reason: str) -> None:
    assert consequence_of(failed(reason=reason), KNOWN) == ONE.consequence


def test_families_that_are_told_apart_are_there() -> None:
    families = {one.family for one in KNOWN.values()}
    assert {*consequences._FAMILIES_OF_METADATA, *consequences._FAMILIES_WITHOUT_TREES} <= families


def run_with(*outcomes: TestOutcome) -> Part:
    selected = tuple(dict.fromkeys(one for outcome in outcomes for one in outcome.requirements))
    run = replace(RUN, backings=("host",), selected=selected)
    return Part(run, outcomes)


def test_reports_show_it() -> None:
    matrix = matrix_of([run_with(failed())], KNOWN)
    assert f"{ONE.sentence}\n{LABEL}: {ONE.consequence}\n\ntest_x[host]" in junit(matrix)
    assert f"\nA user would see: {ONE.consequence}\n" in markdown(matrix)


def test_reports_of_what_is_no_failure_of_the_driver_do_not() -> None:
    matrix = matrix_of([run_with(replace(failed(), verdict=Verdict.ERROR))], KNOWN)
    assert LABEL not in junit(matrix).lower() + markdown(matrix).lower()


def test_every_evidence_folder_shows_it(tmp_path: Path) -> None:
    about = About("d", "1", "1", "6.1", 1, 10, "standard")
    case = Case("test_x", (ONE.id,), "host", "d", "wrong", (), (), InWords(), "/nowhere")
    folders = [
        write_folder(tmp_path, replace(failed(), case=case.as_json()), KNOWN, about, None, tmp_path),
        write_plain_folder(tmp_path, replace(failed(), test="plain"), KNOWN, about),
    ]
    for folder in folders:
        assert folder is not None
        assert f"\nA user would see: {ONE.consequence}\n" in (folder / "failure.md").read_text()
    kernel = write_kernel_folder(tmp_path, failed(requirement=health.REQUIREMENT), KNOWN, about)
    said = KNOWN[health.REQUIREMENT].consequence
    assert f"\nA user would see: {said}\n" in (kernel / "failure.md").read_text()
    error = write_plain_folder(tmp_path, replace(failed(), verdict=Verdict.ERROR), KNOWN, about)
    assert LABEL not in (error / "failure.md").read_text().lower()
