"""What is left of a selftest in a file and on a page, and selftests of several machines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from commanding import command
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import ABOUT, CHOICE, LAST, MUTANT, NAMED, OTHER, SECOND, dead, kill

from conformance.harness.events import Kill
from conformance.report import killfile
from conformance.report.killfile import BadKills, KillReport, Selftest
from conformance.report.killtable import kill_table
from conformance.report.matrix import Matrix
from conformance.report.page import page
from conformance.selftest.alarms import Alarm, Choice, Hearing, Standing, summed_up
from conformance.selftest.kills import (
    Fate,
    KillMatrix,
    Seen,
    Specimen,
    Trial,
    judged,
)

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


VALIDATOR = jsonschema.Draft202012Validator(json.loads(killfile.SCHEMA.read_text()))


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(report=REPORTS)
def test_what_is_written_is_as_the_schema_says_and_is_read(
    report: KillReport, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("kills") / "kills.jsonl"
    killfile.write(path, report)
    for line in path.read_text().splitlines():
        VALIDATOR.validate(json.loads(line))
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


def test_the_table_shows_survivors_and_requirements_without_mutants() -> None:
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


def test_a_mutant_untried_on_one_machine_is_tried_on_another() -> None:
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
    # The fate of what the first could try is the one in its file, also if another machine saw it die.
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


@pytest.mark.slow
def test_the_verb_merge_joins_selftests(tmp_path: Path) -> None:
    lacking = Trial("Wrong", 1, Fate.NOT_APPLICABLE, reason="no xfs")
    for name, trial in {"host": lacking, "machine": dead("Wrong", NAMED)}.items():
        killfile.write(tmp_path / name, KillReport(ABOUT, KillMatrix((MUTANT,), (trial,), "standard")))
    assert command("merge", "host", "machine", "-o", "joined", cwd=tmp_path).returncode == 0
    assert killfile.read(tmp_path / "joined").matrix.fate(MUTANT) is Fate.KILLED
