"""What counts as a kill, what is a gap, and what is left of a selftest in a file and on a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from commanding import command
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.harness.events import Kill
from conformance.report import killfile
from conformance.report.killfile import BadKills, KillReport, Selftest
from conformance.report.killtable import kill_table
from conformance.report.matrix import Matrix
from conformance.report.page import page
from conformance.selftest.alarms import Alarm, Choice, Hearing, Standing, heard, summed_up
from conformance.selftest.kills import (
    Fate,
    KillMatrix,
    Seen,
    Specimen,
    Trial,
    is_own_defect,
    judged,
    uncovered,
)
from conformance.spec.verdicts import TestOutcome, Verdict

NAMED, SECOND, OTHER, LAST = "OVL-A-ONE", "OVL-A-TWO", "OVL-B-OTHER", "OVL-C-LAST"
MUTANT = Specimen("Wrong", (NAMED, SECOND), "It is wrong.", "boundary: one more")
CHOICE = Choice("Other", "It is other.", "who | writes so", ("OVL-A",), (SECOND,))
ABOUT = Selftest(
    *("0.3.0", "0123456789ab", "refdriver:Driver", "0.3.0", "6.1.0", "x86_64", "standard"),
    examples=10,
    seeds=(1, 2),
    jobs=2,
    budget=60.0,
    whole=False,
    complete=True,
    started="2026-11-25T00:00:00+00:00",
    seconds=12.5,
)


def kill(*requirements: str, seconds: float = 1.0, size: int | None = 3) -> Kill:
    return Kill(requirements, "test_it[host]", seconds, seconds + 1, 4, size, True, 12, "it was", quick=True)


def outcome(verdict: Verdict, *requirements: str) -> TestOutcome:
    return TestOutcome("test_it[host]", requirements, verdict, f"because of {verdict.value}")


# ---- What counts as a kill.


def test_a_mutant_is_killed_by_what_it_is_named_for() -> None:
    trial = judged(MUTANT, 1, Seen(kills=(kill(NAMED), kill(SECOND))))
    assert (trial.fate, trial.missed, trial.reason) == (Fate.KILLED, (), "")


def test_what_should_fail_and_does_not_is_told() -> None:
    trial = judged(MUTANT, 1, Seen((outcome(Verdict.PASS, SECOND),), (kill(NAMED),)))
    assert (trial.fate, trial.missed) == (Fate.KILLED, (SECOND,))
    assert "test_it[host]: PASS" in trial.reason


@pytest.mark.parametrize("requirement", [SECOND, OTHER])
def test_a_mutant_that_dies_of_something_else_is_alive(requirement: str) -> None:
    trial = judged(MUTANT, 1, Seen((outcome(Verdict.PASS, NAMED),), (kill(requirement),)))
    assert trial.fate is Fate.BY_OTHERS
    assert KillMatrix((MUTANT,), (trial,), "standard").alive == (MUTANT,)
    assert KillMatrix((MUTANT,), (trial,), "quick").alive == (MUTANT,)


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.ERROR, Verdict.DECLINED, Verdict.UNTESTED])
def test_a_mutant_that_nothing_fails_on_lives(verdict: Verdict) -> None:
    trial = judged(MUTANT, 1, Seen((outcome(verdict, NAMED),)))
    assert trial.fate is Fate.SURVIVED
    assert verdict.value in trial.reason


def test_a_mutant_of_which_no_test_was_run_lives() -> None:
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


def test_a_mutant_that_lives_with_one_seed_is_alive() -> None:
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


def test_a_failure_that_was_still_made_smaller_is_an_alarm() -> None:
    hearing = heard(CHOICE, 1, Seen((outcome(Verdict.PASS, OTHER),), (kill(NAMED),), failure="it was ended"))
    assert (hearing.standing, hearing.reason) == (Standing.FALSE_ALARM, "it was ended")


def test_what_is_forgone_is_no_alarm() -> None:
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


# ---- The file, the table and the page.

REQUIREMENTS = st.lists(st.sampled_from((NAMED, SECOND, OTHER)), min_size=1, unique=True).map(tuple)
SECONDS = st.floats(0, 1000)
KILLS = st.builds(
    Kill,
    *(REQUIREMENTS, st.text(), SECONDS, SECONDS, st.integers(1, 99), st.none() | st.integers(0, 99)),
    *(st.booleans(), st.integers(0, 99), st.text(), st.booleans()),
)
TRIALS = st.builds(
    Trial,
    st.just("Wrong"),
    st.integers(1, 9),
    st.sampled_from(Fate),
    st.lists(KILLS, max_size=3).map(tuple),
    st.lists(st.just(SECOND), max_size=1).map(tuple),
    st.text(),
    SECONDS,
)
HEARINGS = st.builds(
    Hearing,
    st.just("Other"),
    st.integers(1, 9),
    st.sampled_from(Standing),
    st.integers(0, 99),
    st.lists(st.builds(Alarm, REQUIREMENTS, st.text(), st.text()), max_size=3).map(tuple),
    st.lists(st.just(SECOND), max_size=1).map(tuple),
    st.text(),
    SECONDS,
)
REPORTS = st.builds(
    lambda trials, hearings: KillReport(
        ABOUT,
        KillMatrix((MUTANT,), tuple(trials), "standard"),
        {LAST: "nothing"},
        {OTHER: "a reason"},
        (CHOICE,),
        tuple(hearings),
    ),
    st.lists(TRIALS, max_size=4),
    st.lists(HEARINGS, max_size=4),
)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(report=REPORTS)
def test_what_is_written_is_as_the_schema_says_and_is_read(
    report: KillReport, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("kills") / "kills.jsonl"
    killfile.write(path, report)
    schema = json.loads(killfile.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for line in path.read_text().splitlines():
        jsonschema.Draft202012Validator(schema).validate(json.loads(line))
    assert killfile.read(path) == report


def test_a_file_of_version_0_3_0_is_read(tmp_path: Path) -> None:
    """The lines are literal: whatever becomes of the types, a file that exists must stay readable."""
    kill = {
        "requirements": [NAMED],
        "test": "test_it",
        "seconds": 14.54,
        "shrunk_seconds": 47.8,
        "examples": 4,
        "size": None,
        "drawn": True,
        "steps": 23,
        "reason": "it differs",
    }
    counts = {"KILLED": 1, "KILLED-BY-OTHERS": 0, "SURVIVED": 0, "NOT-APPLICABLE": 0}
    standings = {"CONFORMS": 1, "FALSE-ALARM": 0, "UNDECIDED": 0, "NOT-APPLICABLE": 0}
    written = [
        {
            "record": "selftest",
            "format": 1,
            "suite": "0.3.0",
            "specification": "b5d26360bca1",
            "basis": "refdriver:Driver",
            "version": "0.3.0",
            "kernel": "6.18.44",
            "machine": "x86_64",
            "profile": "standard",
            "examples": 10,
            "seeds": [1],
            "jobs": 1,
            "budget": 60.0,
            "whole": False,
            "complete": False,
            "started": "2026-11-26T06:21:23+00:00",
            "seconds": 92.297,
        },
        {
            "record": "fault",
            "name": "Wrong",
            "breaks": [NAMED],
            "sentence": "It is wrong.",
            "hard": False,
            "source": "moby/moby@bd13c53f8d: on the way in",
            "backing": "host",
            "needs": "",
        },
        {
            "record": "trial",
            "fault": "Wrong",
            "seed": 1,
            "fate": "KILLED",
            "kills": [kill],
            "missed": [SECOND],
            "reason": "",
            "seconds": 48.795,
        },
        {"record": "gap", "requirement": LAST, "reason": "nothing"},
        {"record": "exception", "requirement": OTHER, "reason": "a reason"},
        {
            "record": "different",
            "forgoes": [SECOND],
            "name": "Other",
            "chooses": "It is other.",
            "source": "some driver",
            "touches": ["OVL-A"],
            "backing": "host",
        },
        {
            "record": "hearing",
            "different": "Other",
            "forgone": [SECOND],
            "seed": 1,
            "standing": "CONFORMS",
            "passed": 7,
            "reason": "",
            "seconds": 7.123,
            "alarms": [{"requirements": [NAMED], "test": "test_it", "reason": "no"}],
        },
        {
            "record": "end",
            "trials": 1,
            "counts": counts,
            "hearings": 1,
            "standings": standings,
            "exit_code": 1,
        },
    ]
    path = tmp_path / "kills.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in written))
    kill["quick"] = False  # it did not say of which profile its tests are
    assert [json.loads(line) for line in killfile.lines_of(killfile.read(path))] == written


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    trials = (judged(MUTANT, 1, Seen()), judged(MUTANT, 2, Seen()))
    hearings = (Hearing("Other", 1, Standing.CONFORMS),)
    matrix = KillMatrix((MUTANT,), trials, "standard")
    lines = killfile.lines_of(KillReport(ABOUT, matrix, choices=(CHOICE,), hearings=hearings))
    without_hearing = [line for line in lines if '"hearing"' not in line]
    for number, kept in enumerate((lines[:-1], lines[:2] + lines[3:], without_hearing, ["{}"], ["no JSON"])):
        path = tmp_path / f"{number}.jsonl"
        path.write_text("\n".join(kept))
        with pytest.raises(BadKills, match=path.name):
            killfile.read(path)


def test_the_table_says_what_lives_and_what_nothing_breaks() -> None:
    other = Specimen("Other", (OTHER,), "A | B.", "moby/moby#1", hard=True)
    trials = (judged(MUTANT, 1, Seen(kills=(kill(NAMED, SECOND),))), judged(other, 1, Seen(failure="it hung")))
    hearings = (
        Hearing("Other", 1, Standing.FALSE_ALARM, 7, (Alarm((NAMED,), "test_it", "it | failed"),), (SECOND,)),
    )
    matrix = KillMatrix((MUTANT, other), trials, "standard")
    report = KillReport(ABOUT, matrix, {LAST: "no mutant breaks it"}, {}, (CHOICE,), hearings)
    text = kill_table(report)
    said = f"FALSE-ALARM: {NAMED}; waives {SECOND}"
    assert rf"| `Other`: It is other. | {said} | 7 | who \| writes so |" in text
    assert "0 of 1 conform" in text
    assert "1 of 2 mutants are killed" in text
    assert (
        "| `Wrong`: It is wrong. | OVL-A-ONE | KILLED, and by 1 more | 1.0 s | 4 | 3 | boundary: one more |" in text
    )
    assert r"| `Other` (hard): A \| B. | OVL-B-OTHER | SURVIVED |" in text
    assert "- `Other`: it hung" in text
    assert f"- `{LAST}`: no mutant breaks it" in text
    assert report.exit_code == 1


def test_in_quick_half_is_enough() -> None:
    about = Selftest(**{**{name: getattr(ABOUT, name) for name in ABOUT.__slots__}, "profile": "quick"})
    others = [Specimen(f"Wrong{number}", (NAMED,), "Wrong.", "boundary: x") for number in range(3)]
    killed = [judged(one, 1, Seen(kills=(kill(NAMED),))) for one in others]
    alive = [judged(one, 1, Seen()) for one in others]
    for trials, code in ((killed[:2] + alive[2:], 0), (killed[:1] + alive[1:], 1)):
        assert KillReport(about, KillMatrix(tuple(others), tuple(trials), "quick")).exit_code == code


def test_the_page_holds_the_matrix_if_there_is_one() -> None:
    trial = judged(MUTANT, 1, Seen(kills=(kill(NAMED, SECOND),)))
    hearings = (Hearing("Other", 1, Standing.CONFORMS, 7),)
    matrix = KillMatrix((MUTANT,), (trial,), "standard")
    report = KillReport(ABOUT, matrix, {LAST: "no mutant breaks it"}, {}, (CHOICE,), hearings)
    nothing = Matrix((), (), {}, ())
    with_it, without = page(nothing, {}, kills=report), page(nothing, {})
    assert '"kills":null' in without
    assert '"name":"Wrong"' in with_it
    assert '"fate":"KILLED"' in with_it
    assert '"standing":"CONFORMS"' in with_it


# ---- Several machines.


def test_what_one_machine_could_not_try_is_told_by_another() -> None:
    other = replace(MUTANT, name="Other", breaks=(OTHER,))
    lacking = Trial("Wrong", 1, Fate.NOT_APPLICABLE, reason="no xfs")
    host = KillReport(ABOUT, KillMatrix((MUTANT, other), (lacking, dead("Other", OTHER)), "standard"))
    machine_about = replace(ABOUT, kernel="7.3.4", complete=False, seconds=100.0)
    machine = KillReport(machine_about, KillMatrix((MUTANT,), (dead("Wrong", NAMED, SECOND),), "standard"))
    both = killfile.joined([("host", host), ("machine", machine)])
    assert [both.matrix.fate(one) for one in both.matrix.mutants] == [Fate.KILLED, Fate.KILLED]
    assert (both.about.kernel, both.about.complete, both.about.seconds) == ("7.3.4 and 6.1.0", True, 112.5)
    assert killfile.joined([("host", host)]).matrix == host.matrix
    chosen = Choice("Odd", "it is odd", "derived: nothing", ())
    heard = replace(host, choices=(chosen,), hearings=(Hearing("Odd", 1, Standing.CONFORMS, 5),))
    both = killfile.joined([("machine", machine), ("host", heard)])
    assert (both.choices, both.hearings) == (heard.choices, heard.hearings)
    # What the first could try is told by it, also if another machine saw it die.
    survived = KillReport(ABOUT, KillMatrix((MUTANT,), (Trial("Wrong", 1, Fate.SURVIVED),), "standard"))
    assert killfile.joined([("a", survived), ("b", machine)]).matrix.alive == (MUTANT,)
    for what, value in {"seeds": (1,), "profile": "quick", "specification": "ba9876543210"}.items():
        unlike = replace(machine, about=replace(machine_about, **{what: value}))  # type: ignore[arg-type]
        with pytest.raises(BadKills, match=f"host and machine differ in their {what}"):
            killfile.joined([("host", host), ("machine", unlike)])


def test_a_false_alarm_on_any_machine_is_one() -> None:
    hearings = (Hearing("Other", 1, Standing.NOT_APPLICABLE), Hearing("Other", 1, Standing.CONFORMS, 7))
    matrix = KillMatrix((MUTANT,), (dead("Wrong", NAMED),), "standard")
    reports = [KillReport(ABOUT, matrix, choices=(CHOICE,), hearings=(one,)) for one in hearings]
    both = killfile.joined([("host", reports[0]), ("machine", reports[1])])
    found = summed_up(CHOICE, both.hearings)
    assert (both.choices, found.standing, found.passed) == ((CHOICE,), Standing.CONFORMS, 7)
    bad = replace(reports[1], hearings=(Hearing("Other", 1, Standing.FALSE_ALARM),))
    assert killfile.joined([("host", reports[0]), ("machine", bad)]).false_alarms == list(bad.hearings)


def dead(mutant: str, *requirements: str) -> Trial:
    return Trial(mutant, 1, Fate.KILLED, (kill(*requirements),))


@pytest.mark.slow
def test_the_verb_merge_joins_selftests(tmp_path: Path) -> None:
    lacking = Trial("Wrong", 1, Fate.NOT_APPLICABLE, reason="no xfs")
    for name, trial in {"host": lacking, "machine": dead("Wrong", NAMED)}.items():
        killfile.write(tmp_path / name, KillReport(ABOUT, KillMatrix((MUTANT,), (trial,), "standard")))
    assert command("merge", "host", "machine", "-o", "joined", cwd=tmp_path).returncode == 0
    assert killfile.read(tmp_path / "joined").matrix.fate(MUTANT) is Fate.KILLED
