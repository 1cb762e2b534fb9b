"""The processes of a run, by who started whom: ids begin again behind the highest, their order tells nothing."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """The ids of all processes below one, a generation behind the other, its children first."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                parent = int(Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry))
    found = list(parents.get(pid, ()))
    for one in found:
        found += parents.get(one, [])
    return found


def workers(pid: int) -> list[int]:
    """The ids of a run's workers: who waits, the init of the PID namespace, the worker, and what it started."""
    found = []
    for one in descendants(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"conformance.harness.worker" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found
