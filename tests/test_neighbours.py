"""The measurement of other suites: what their output says, what counts, and that one of them can be run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.neighbours.suites import SOURCES, SUITES, Ran, build, run, told
from benchmarks.neighbours.table import Findings, as_markdown
from conformance.harness.events import Kill
from conformance.selftest.kills import Fate, KillMatrix, Specimen, Trial

ROUND_TRIP, OTHER = "OVL-APPLY-ROUND-TRIP", "OVL-LIFE-CREATE"
MUTANTS = (
    Specimen("Both", (ROUND_TRIP,), "Both see it.", "moby/moby#23863"),
    Specimen("Ours", (ROUND_TRIP,), "We see it.", "moby/moby#23863"),
    Specimen("Theirs", (OTHER,), "They see it.", "moby/moby#23863"),
    Specimen("Elsewhere", (OTHER,), "Nobody can see it here.", "moby/moby#23863", needs="xfs-quota"),
)
MOBY, STORAGE = SUITES[:2]


def dead(mutant: str, requirement: str) -> Trial:
    kill = Kill((requirement,), "test_it", 1.0, 1.0, 1, 1, False, 1, "it was")
    return Trial(mutant, 1, Fate.KILLED, (kill,))


MATRIX = KillMatrix(
    MUTANTS,
    (
        dead("Both", ROUND_TRIP),
        dead("Ours", ROUND_TRIP),
        Trial("Theirs", 1, Fate.SURVIVED),
        Trial("Elsewhere", 1, Fate.NOT_APPLICABLE),
    ),
    "standard",
)


def ran(suite: str, mutant: str, *failed: str, defect: bool = False) -> Ran:
    tests = ("TestOne", "TestTwo", "TestBad")
    return Ran(suite, mutant, tuple(one for one in tests if one not in failed), failed, defect, 1.0)


def findings(*runs: Ran) -> Findings:
    control = {one.key: ran(one.key, "Faithful", "TestBad") for one in (MOBY, STORAGE)}
    nothing = [ran(suite.key, mutant.name) for suite in (MOBY, STORAGE) for mutant in MUTANTS[:3]]
    given = {(one.suite, one.mutant) for one in runs}
    others = [one for one in nothing if (one.suite, one.mutant) not in given]
    return Findings(
        MATRIX,
        {ROUND_TRIP: "round trip", OTHER: "life cycle"},
        (MOBY, STORAGE),
        control,
        (*runs, *others),
        {"golang-go": "2:1.19"},
        "2026-11-25",
        "6.1.0",
    )


def test_what_a_suite_says_is_read() -> None:
    said = """=== RUN   TestOne
--- PASS: TestOne (0.00s)
=== RUN   TestTwo
    two_test.go:7: no --- PASS: TestTwo here
--- FAIL: TestTwo (0.10s)
=== RUN   TestGroup
=== RUN   TestGroup/a
=== PAUSE TestGroup/a
=== RUN   TestGroup/b
    --- PASS: TestGroup/a (0.00s)
    --- SKIP: TestGroup/b (0.00s)
--- PASS: TestGroup (0.00s)
=== RUN   TestLast
panic: test timed out after 3m0s
"""
    assert told(said) == (("TestOne", "TestGroup/a"), ("TestTwo", "TestLast"))
    assert told("exec format error") == ((), ())


def test_a_kill_is_a_test_that_fails_each_time_and_passes_on_the_correct_driver() -> None:
    found = findings(
        ran("moby", "Both", "TestOne", "TestTwo"),
        ran("moby", "Both", "TestOne"),
        ran("moby", "Ours", "TestBad"),
        ran("moby", "Theirs", "TestTwo"),
        ran("moby", "Theirs"),
        ran("storage", "Both", "TestOne", defect=True),
    )
    assert found.killers(MOBY, "Both") == ("TestOne",)
    assert found.killers(MOBY, "Ours") == ()
    assert found.killers(MOBY, "Theirs") == ()
    assert found.killers(STORAGE, "Both") == ()


def test_the_page_counts_by_family_and_says_what_is_left_out() -> None:
    text = as_markdown(findings(ran("moby", "Both", "TestOne"), ran("storage", "Theirs", "TestTwo")))
    assert "| round trip | 2 | 2 | 1 | 0 |" in text
    assert "| life cycle | 1 | 0 | 0 | 1 |" in text
    assert "| **all** | 3 | 2 | 1 | 1 |" in text
    assert "| graphtest of moby | 2 | Bad |" in text
    assert "| `Both`: Both see it. | OVL-APPLY-ROUND-TRIP | One |  |" in text
    assert "Killed by one of them and not by this suite: Theirs." in text
    assert "Of 4 mutants, 1 " in text
    assert "xfs-quota" in text
    assert "golang-go 2:1.19" in text


def test_a_mutant_that_not_all_have_tried_is_not_counted() -> None:
    whole = findings()
    part = Findings(
        MATRIX,
        whole.families,
        whole.suites,
        whole.control,
        [one for one in whole.ran if (one.suite, one.mutant) != ("storage", "Ours")],
        whole.versions,
        whole.when,
        whole.kernel,
    )
    assert [one.name for one in part.reached] == ["Both", "Theirs"]
    assert "1 was not tried: Ours" in as_markdown(part)


@pytest.mark.mounts
def test_the_graphtest_of_moby_runs_on_a_driver_and_kills_one(scratch: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("go is not installed (apt-get install golang-go)")
    if not (SOURCES / "src/github.com/docker/docker/daemon/graphdriver").is_dir():
        pytest.skip(f"the source of moby is not installed (apt-get install {MOBY.package})")
    program = build(MOBY, scratch / "go")
    basis = "refdriver:Driver"
    control = run(MOBY, program, "Faithful", "conformance.selftest.mutants.basis:Faithful", basis, scratch)
    assert len(control.passed) >= 8
    assert control.failed == ()
    mutant = "conformance.selftest.mutants.archives:ApplyOmitsDeletions"
    assert "TestDiffApply" in run(MOBY, program, "ApplyOmitsDeletions", mutant, basis, scratch).failed
