"""How long each step of each cell took, in ``timings.json`` of the output: format 1, all in seconds.

``up`` is the start of a machine, for the first cell in it, and ``destroy`` its end, for the last; ``reset`` is the
history that a reset ends and the start after it, which is a test's (OVL-CRASH-RESET); ``prepare`` is what is set
before the suite, ``suite`` the suite's own time by its result file, ``around`` what its command took besides
(Python's start, evidence), and ``fetch`` bringing results home. ``overhead`` is all but ``suite`` and ``reset``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FORMAT: Final = 1
STEPS: Final = ("up", "reset", "prepare", "suite", "around", "fetch", "destroy")


class Timings:
    """Takes seconds as they become known, and keeps the file; that of an earlier run is added to."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        found = read(file)
        self._cells: dict[str, dict[str, float]] = {name: dict(steps) for name, steps in found.items()}

    def begin(self, cell: str) -> None:
        """Forget what an earlier run of a cell took."""
        with self._lock:
            self._cells[cell] = {}

    def add(self, cell: str, step: str, seconds: float) -> None:
        """One more step of a cell; several of one name are summed."""
        with self._lock:
            steps = self._cells.setdefault(cell, {})
            steps[step] = steps.get(step, 0.0) + seconds
            self._write()

    def of(self, cell: str) -> dict[str, float]:
        """What is known of a cell."""
        with self._lock:
            return dict(self._cells.get(cell, {}))

    def _write(self) -> None:
        cells = [
            {"cell": name, **{step: round(steps.get(step, 0.0), 1) for step in STEPS}, "overhead": overhead(steps)}
            for name, steps in sorted(self._cells.items())
        ]
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps({"format": FORMAT, "cells": cells}, indent=1) + "\n")
        partial.replace(self._file)


def overhead(steps: Mapping[str, float]) -> float:
    """All that a cell took besides what it judges."""
    return round(sum(steps.get(step, 0.0) for step in STEPS if step not in ("suite", "reset")), 1)


def read(file: Path) -> dict[str, dict[str, float]]:
    """Steps of cells by their names; none if there is no such file."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {one["cell"]: {step: one.get(step, 0.0) for step in STEPS} for one in found["cells"]}
