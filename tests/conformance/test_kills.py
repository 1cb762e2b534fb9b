"""What counts as a kill, and what is a gap."""

from __future__ import annotations

from dataclasses import replace

import pytest
from specimens import ABOUT, CHOICE, LAST, MUTANT, NAMED, OTHER, SECOND, kill, outcome

from conformance.report.killfile import KillReport
from conformance.selftest.alarms import Alarm, Hearing, Standing, heard, summed_up
from conformance.selftest.kills import (
    Fate,
    KillMatrix,
    Seen,
    is_own_defect,
    judged,
    uncovered,
)
from conformance.spec.verdicts import TestOutcome, Verdict

# ---- What counts as a kill.


def test_a_mutant_is_killed_by_what_it_is_named_for() -> None:
    trial = judged(MUTANT, 1, Seen(kills=(kill(NAMED), kill(SECOND))))
    assert (trial.fate, trial.missed, trial.reason) == (Fate.KILLED, (), "")


def test_a_requirement_that_should_fail_and_passes_is_reported() -> None:
    trial = judged(MUTANT, 1, Seen((outcome(Verdict.PASS, SECOND),), (kill(NAMED),)))
    assert (trial.fate, trial.missed) == (Fate.KILLED, (SECOND,))
    assert "test_it[host]: PASS" in trial.reason


@pytest.mark.parametrize("requirement", [SECOND, OTHER])
def test_a_mutant_that_another_requirement_kills_survives(requirement: str) -> None:
    trial = judged(MUTANT, 1, Seen((outcome(Verdict.PASS, NAMED),), (kill(requirement),)))
    assert trial.fate is Fate.BY_OTHERS
    assert KillMatrix((MUTANT,), (trial,), "standard").alive == (MUTANT,)
    assert KillMatrix((MUTANT,), (trial,), "quick").alive == (MUTANT,)


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.ERROR, Verdict.DECLINED, Verdict.UNTESTED])
def test_a_mutant_that_nothing_fails_on_survives(verdict: Verdict) -> None:
    trial = judged(MUTANT, 1, Seen((outcome(verdict, NAMED),)))
    assert trial.fate is Fate.SURVIVED
    assert verdict.value in trial.reason


def test_a_mutant_of_which_no_test_ran_survives() -> None:
    assert judged(MUTANT, 1, Seen()).fate is Fate.SURVIVED


def test_a_trial_that_was_cut_says_so() -> None:
    assert "60 s" in judged(MUTANT, 1, Seen(failure="it was ended after 60 s")).reason


def test_what_this_host_cannot_show_is_not_applicable() -> None:
    lacking = judged(MUTANT, 1, Seen(lacking="no xfs with project quota"))
    skipped = judged(MUTANT, 1, Seen((outcome(Verdict.NOT_APPLICABLE, NAMED, SECOND),)))
    assert [one.fate for one in (lacking, skipped)] == [Fate.NOT_APPLICABLE] * 2
    assert lacking.reason == "no xfs with project quota"
    matrix = KillMatrix((MUTANT,), (lacking,), "standard")
    assert (matrix.alive, matrix.share) == ((), 1.0)


def test_a_mutant_that_survives_one_seed_survives() -> None:
    trials = (judged(MUTANT, 1, Seen(kills=(kill(NAMED),))), judged(MUTANT, 2, Seen()))
    assert KillMatrix((MUTANT,), trials, "standard").fate(MUTANT) is Fate.SURVIVED


@pytest.mark.parametrize("said", ["KeyError: 'x'", "TypeError: f() takes 1", "AttributeError: no", "NameError: x"])
def test_code_that_does_not_work_is_no_mutant(said: str) -> None:
    assert is_own_defect(f"the driver refused a step that it must do: {said}")


@pytest.mark.parametrize("said", ["OSError: [Errno 22]", "ValueError: bad", "LayerNotFound: x", "MyTypeError: x"])
def test_a_refusal_is_one(said: str) -> None:
    assert not is_own_defect(f"the driver refused a step that it must do: {said}")


# ---- Gaps.


def test_a_requirement_that_nothing_breaks_is_a_gap() -> None:
    matrix = KillMatrix((MUTANT,), (judged(MUTANT, 1, Seen(kills=(kill(NAMED, SECOND),))),), "standard")
    assert uncovered(matrix, (NAMED, SECOND), {}) == {}
    assert list(uncovered(matrix, (NAMED, SECOND, LAST), {})) == [LAST]
    assert uncovered(matrix, (NAMED, SECOND, LAST), {LAST: "a kernel with SELinux"}) == {}


def test_a_requirement_that_should_be_broken_and_was_not_is_a_gap() -> None:
    matrix = KillMatrix((MUTANT,), (judged(MUTANT, 1, Seen(kills=(kill(NAMED),))),), "standard")
    assert list(uncovered(matrix, (NAMED, SECOND), {})) == [SECOND]


def test_an_exception_that_is_broken_is_a_gap() -> None:
    matrix = KillMatrix((MUTANT,), (judged(MUTANT, 1, Seen(kills=(kill(NAMED, SECOND),))),), "standard")
    assert list(uncovered(matrix, (NAMED, SECOND), {SECOND: "nobody can"})) == [SECOND]


def test_a_mutant_that_cannot_be_tried_here_leaves_no_gap() -> None:
    matrix = KillMatrix((MUTANT,), (judged(MUTANT, 1, Seen(lacking="no quota")),), "standard")
    assert uncovered(matrix, (NAMED, SECOND), {}) == {}


# ---- Drivers that are correct.


def test_whatever_fails_on_a_correct_driver_is_an_alarm() -> None:
    hearing = heard(CHOICE, 1, Seen((outcome(Verdict.PASS, OTHER), outcome(Verdict.FAIL, NAMED, SECOND))))
    assert hearing.standing is Standing.FALSE_ALARM
    assert hearing.alarms == (Alarm((NAMED, SECOND), "test_it[host]", "because of FAIL"),)


def test_a_failure_that_was_still_shrunk_is_an_alarm() -> None:
    hearing = heard(CHOICE, 1, Seen((outcome(Verdict.PASS, OTHER),), (kill(NAMED),), failure="it was ended"))
    assert (hearing.standing, hearing.reason) == (Standing.FALSE_ALARM, "it was ended")


def test_a_waived_requirement_is_no_alarm() -> None:
    hearing = heard(CHOICE, 1, Seen((outcome(Verdict.PASS, OTHER), outcome(Verdict.FAIL, SECOND))))
    assert (hearing.standing, hearing.alarms, hearing.waived) == (Standing.CONFORMS, (), (SECOND,))


@pytest.mark.parametrize(
    "outcomes",
    [
        (),
        (outcome(Verdict.DECLINED, NAMED),),
        (outcome(Verdict.PASS, OTHER), outcome(Verdict.ERROR, NAMED)),
        (outcome(Verdict.PASS, SECOND),),
    ],
    ids=["nothing", "declined", "error", "not waived"],
)
def test_what_is_not_known_to_conform_does_not(outcomes: tuple[TestOutcome, ...]) -> None:
    hearing = heard(CHOICE, 1, Seen(outcomes))
    assert hearing.standing is Standing.UNDECIDED
    assert hearing.reason
    assert not hearing.is_good


def test_a_driver_is_as_good_as_the_worst_of_its_hearings() -> None:
    good, bad = (Hearing("Other", seed, one) for seed, one in enumerate((Standing.CONFORMS, Standing.FALSE_ALARM)))
    elsewhere = Hearing("Another", 1, Standing.UNDECIDED)
    assert summed_up(CHOICE, (good, elsewhere)).standing is Standing.CONFORMS
    assert summed_up(CHOICE, (good, bad, elsewhere)).standing is Standing.FALSE_ALARM
    assert summed_up(CHOICE, (elsewhere,)).standing is Standing.NOT_APPLICABLE


@pytest.mark.parametrize("standing", Standing)
def test_a_false_alarm_fails_the_selftest(standing: Standing) -> None:
    trial = judged(MUTANT, 1, Seen(kills=(kill(NAMED, SECOND),)))
    matrix = KillMatrix((MUTANT,), (trial,), "standard")
    report = KillReport(ABOUT, matrix, choices=(CHOICE,), hearings=(Hearing("Other", 1, standing),))
    assert report.exit_code == (standing in (Standing.FALSE_ALARM, Standing.UNDECIDED))


@pytest.mark.parametrize(("of", "complete", "code"), [(1, True, 1), (2, True, 0), (1, False, 0)])
def test_tests_of_quick_have_to_kill_half(of: int, complete: bool, code: int) -> None:
    """Of four mutants that are all killed. A fifth cannot be tried, and few hosts have what a sixth needs."""
    mutants = [replace(MUTANT, name=name) for name in ("A", "B", "C", "D", "E")]
    mutants.append(replace(MUTANT, name="F", needs="xfs-quota"))
    kills = [replace(kill(NAMED, SECOND), quick=number < of) for number in range(4)]
    trials = [judged(one, 1, Seen(kills=(said,))) for one, said in zip(mutants, kills, strict=False)]
    trials += [judged(mutants[4], 1, Seen(lacking="no kernel log"))]
    trials += [judged(mutants[5], 1, Seen(kills=(replace(kill(NAMED, SECOND), quick=False),)))]
    matrix = KillMatrix(tuple(mutants), tuple(trials), "standard")
    assert matrix.share_of_quick == of / 4
    assert KillReport(replace(ABOUT, complete=complete), matrix).exit_code == code


def test_a_kill_of_quick_is_by_the_requirement_that_it_is_named_for_and_with_each_seed() -> None:
    by_another = (replace(kill(NAMED, SECOND), quick=False), kill(OTHER))
    first = judged(MUTANT, 1, Seen(kills=(kill(NAMED, SECOND),)))
    second = judged(MUTANT, 2, Seen(kills=by_another))
    assert KillMatrix((MUTANT,), (first,), "standard").share_of_quick == 1
    assert KillMatrix((MUTANT,), (second,), "standard").share_of_quick == 0
    assert KillMatrix((MUTANT,), (first, second), "standard").share_of_quick == 0
