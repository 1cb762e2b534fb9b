"""What a run tells while it is under way: JSON lines for a program that waits for it (docs/results.md)."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from conformance.harness.events import FORMAT, PUBLISHED, Began, Collected, End, Event, Published, Testing
from conformance.harness.following import Listener
from conformance.spec.verdicts import TestOutcome

SCHEMA: Final = Path(__file__).parents[1] / "report" / "events.schema.json"


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
        self._tell(Began(FORMAT, driver, profile, requirements))

    def hear(self, event: Event) -> None:
        """Write what is published of an event: nothing of most, and of some not all fields."""
        match event:
            case Testing():
                self._number += 1
                self._tell(replace(event, number=self._number))
            case Collected() | TestOutcome():
                self._tell(event)

    def end(self, exit_code: int) -> None:
        """The last line; without it, the run was ended."""
        self._tell(End(exit_code))
        with suppress(OSError):
            self._out.close()

    def _tell(self, event: Published) -> None:
        if self.lost:
            return
        try:
            self._out.write(json.dumps(PUBLISHED.plain(event)) + "\n")
        except OSError as error:  # whoever reads went away, which is no reason to end the run
            self.lost = f"events could not be written: {error.strerror}"


class Together:
    """Several listeners as one."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def hear(self, event: Event) -> None:
        """One event of the worker."""
        for one in self._listeners:
            one.hear(event)
