"""What a run tells while it is under way: JSON lines for a program that waits for it (docs/results.md)."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, Protocol

from conformance.spec.verdicts import TestOutcome

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).parents[1] / "report" / "events.schema.json"


class Listener(Protocol):
    """Who hears of a run as it goes."""

    def expect(self, total: int) -> None:
        """How many tests there are."""

    def testing(self, name: str) -> None:
        """A test begins."""

    def ended(self, outcome: TestOutcome) -> None:
        """One test more."""


class Events:
    """Writes what it hears to a descriptor by its number, or to a file by its path; raises OSError."""

    def __init__(self, where: str) -> None:
        if where.isdecimal():
            self._out: IO[str] = os.fdopen(int(where), "w", encoding="utf-8", buffering=1, closefd=False)
        else:
            self._out = open(where, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 # it is open until the end
        self._number = 0
        self.lost = ""  # why nothing more is written, "" while it is

    def begin(self, driver: str, profile: str, requirements: int) -> None:
        """The first line, with the version of this format."""
        self._tell("run", format=FORMAT, driver=driver, profile=profile, requirements=requirements)

    def expect(self, total: int) -> None:
        """How many tests there are in the first round; more time makes more rounds."""
        self._tell("collected", tests=total)

    def testing(self, name: str) -> None:
        """A test begins, the ``number``-th from 1."""
        self._number += 1
        self._tell("test", number=self._number, test=name)

    def ended(self, outcome: TestOutcome) -> None:
        """What came of a test; the whole of it is in the result file."""
        self._tell("outcome", test=outcome.test, verdict=outcome.verdict.value, seconds=outcome.seconds)

    def end(self, exit_code: int) -> None:
        """The last line; without it, the run was ended."""
        self._tell("end", exit_code=exit_code)
        with suppress(OSError):
            self._out.close()

    def _tell(self, event: str, **fields: Any) -> None:
        if self.lost:
            return
        try:
            self._out.write(json.dumps({"event": event, **fields}) + "\n")
        except OSError as error:  # whoever reads went away, which is no reason to end the run
            self.lost = f"events could not be written: {error.strerror}"


class Together:
    """Several listeners as one."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def expect(self, total: int) -> None:
        """How many tests there are."""
        for one in self._listeners:
            one.expect(total)

    def testing(self, name: str) -> None:
        """A test begins."""
        for one in self._listeners:
            one.testing(name)

    def ended(self, outcome: TestOutcome) -> None:
        """One test more."""
        for one in self._listeners:
            one.ended(outcome)
