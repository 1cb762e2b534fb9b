"""The ``overlay-conformance`` command. Exit codes are in docs/exit-codes.md."""

from __future__ import annotations

from conformance.cli import completion, doctor, expect, replay, report, run, verbs
from conformance.cli.base import main

__all__ = ["completion", "doctor", "expect", "main", "replay", "report", "run", "verbs"]
