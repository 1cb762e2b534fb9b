"""Verdicts of requirements, from the outcomes of their tests, and the exit status of a run."""

from __future__ import annotations

import pytest

from conformance.spec.verdicts import TestOutcome, Verdict, exit_code, judge, with_cut_short


def outcome(verdict: Verdict) -> TestOutcome:
    return TestOutcome("test", ("A",), verdict)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([Verdict.PASS], 0),
        ([Verdict.PASS, Verdict.DECLINED], 0),
        ([Verdict.PASS, Verdict.FAIL], 1),
        ([Verdict.FAIL, Verdict.ERROR], 2),
        ([Verdict.PASS, Verdict.XFAIL], 0),
        ([Verdict.PASS, Verdict.XPASS], 1),
        ([Verdict.UNTESTED], 3),
        ([Verdict.DECLINED, Verdict.NOT_APPLICABLE], 3),
        ([], 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst(verdicts: list[Verdict], code: int) -> None:
    assert exit_code(judge(["A"], [outcome(verdict) for verdict in verdicts])) == code


def test_a_skip_never_hides_a_failure() -> None:
    results = judge(["A", "B"], [outcome(Verdict.PASS), outcome(Verdict.FAIL), outcome(Verdict.DECLINED)])
    assert [result.verdict for result in results] == [Verdict.FAIL, Verdict.UNTESTED]


def test_a_test_that_did_not_run_leaves_its_requirement_untested() -> None:
    some = [TestOutcome(name, ("A",), verdict) for name, verdict in (("1", Verdict.PASS), ("2", Verdict.UNTESTED))]
    assert judge(["A"], some)[0].verdict is Verdict.UNTESTED
    later = [*some, TestOutcome("2", ("A",), Verdict.PASS)]
    assert judge(["A"], later)[0].verdict is Verdict.PASS
    assert judge(["A"], [*some, TestOutcome("3", ("A",), Verdict.FAIL)])[0].verdict is Verdict.FAIL


def test_a_test_that_went_on_after_a_failure_judges_its_own_requirement() -> None:
    """Unless another test of it says something else; one that stopped leaves it untested."""
    went_on = TestOutcome("test", ("A",), Verdict.FAIL, held=("B",))
    stopped = TestOutcome("other", ("A",), Verdict.FAIL, cut=("B", "C"))
    failed = TestOutcome("third", ("B",), Verdict.FAIL)

    def verdicts(*outcomes: TestOutcome) -> list[Verdict]:
        found = with_cut_short(outcomes, ["A", "B", "C"])
        return [result.verdict for result in judge(["A", "B", "C"], found)]

    assert verdicts(went_on) == [Verdict.FAIL, Verdict.PASS, Verdict.UNTESTED]
    assert verdicts(stopped) == [Verdict.FAIL, Verdict.UNTESTED, Verdict.UNTESTED]
    assert verdicts(went_on, stopped) == [Verdict.FAIL, Verdict.PASS, Verdict.UNTESTED]
    assert verdicts(went_on, failed) == [Verdict.FAIL, Verdict.FAIL, Verdict.UNTESTED]
