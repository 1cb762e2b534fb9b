"""Failures that are not published yet, as they concern security (SECURITY.md): only that they are there."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from conformance.spec.verdicts import TestOutcome, Verdict


def undisclosed(outcome: TestOutcome, hidden: Set[str]) -> TestOutcome:
    """An outcome without its reason, its steps and its evidence, if it is a failure of a hidden requirement."""
    if outcome.verdict is not Verdict.FAIL or not hidden & set(outcome.requirements):
        return outcome
    return replace(outcome, reason="not published yet (SECURITY.md)", steps=(), facts=(), evidence="")
