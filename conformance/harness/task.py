"""What the controller asks the worker for; apart from the worker, which imports pytest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Task:
    """What the controller asks for. ``budget`` is in seconds, 0 for one round however long it takes.

    ``replay`` has what was drawn for tests of stored cases (see session.Replay): they are run first,
    and those that fail again are not run anew. With ``replay_only`` nothing else is run. Failures of ``unshrunk``
    requirements are known, and not shrunk. Without ``preflight`` the tests are run on any driver.
    ``expression`` selects tests as pytest's ``-k`` does, "" for all. A round stops after ``max_failures`` failed
    tests, 0 for never. No failure is shrunk unless ``shrinks``. A ``survey`` skips every test: those that would
    run are UNTESTED. With ``preflight_only`` there is no test.
    """

    driver: str
    scratch: str
    parent: int
    selected: tuple[str, ...]
    profile: str
    examples: int
    seed: int
    backings: tuple[str, ...] = ()
    jobs: int = 1
    budget: float = 0.0
    replay: Mapping[str, Any] = field(default_factory=dict)
    unshrunk: tuple[str, ...] = ()
    replay_only: bool = False
    call_timeout: float = 60.0
    preflight: bool = True
    expression: str = ""
    max_failures: int = 0
    shrinks: bool = True
    survey: bool = False
    preflight_only: bool = False
