"""A mutant, a variant and a selftest, with what came of them."""

from __future__ import annotations

from conformance.harness.events import Kill
from conformance.report.killfile import Selftest
from conformance.selftest.alarms import Choice
from conformance.selftest.kills import (
    Fate,
    Specimen,
    Trial,
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


def dead(mutant: str, *requirements: str) -> Trial:
    return Trial(mutant, 1, Fate.KILLED, (kill(*requirements),))
