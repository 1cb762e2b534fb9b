"""What ``observe`` asks its worker for; apart from the worker, which imports the harness."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """What the controller asks for; ``call_timeout`` is in seconds. ``only`` names cases, none for all."""

    driver: str
    scratch: str
    parent: int
    call_timeout: float
    only: tuple[str, ...] = ()
