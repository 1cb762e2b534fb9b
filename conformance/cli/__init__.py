"""The ``overlay-conformance`` command. Exit codes are in docs/exit-codes.md."""

from __future__ import annotations

import importlib.metadata

from conformance.cli import completion, doctor, expect, replay, report, run, selftest, verbs
from conformance.cli.base import main

__all__ = ["completion", "doctor", "expect", "main", "replay", "report", "run", "selftest", "verbs"]

# Verbs of packages that the suite knows nothing of, such as vm.
for _found in importlib.metadata.entry_points(group="overlay_conformance.verbs"):
    main.add_command(_found.load(), _found.name)
