"""A driver that makes another choice: what it chooses, why it may, and what the choice can be seen in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


def _nothing() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Different:
    """A correct driver that does one thing differently.

    ``driver`` is its class; the name, the choice in words and the connection string follow from it. ``source``
    says who chooses so, or which text leaves the choice. ``touches`` are ids of requirements, or beginnings of
    them, that the choice can be seen in: these are judged by default. ``forgoes`` are requirements of level SHOULD
    that it does not meet, by choice: they have to fail on it. ``backing`` is the filesystem that it is judged on;
    ``why_not`` says what keeps it from working on this host, "" if nothing does.
    """

    driver: type[Any]
    source: str
    touches: tuple[str, ...]
    forgoes: tuple[str, ...] = ()
    backing: str = "host"
    why_not: Callable[[], str] = _nothing

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.driver.__name__

    @property
    def connection(self) -> str:
        """How ``overlay-conformance run`` reaches it."""
        return f"python:{self.driver.__module__}:{self.name}"

    @property
    def chooses(self) -> str:
        """What it does differently, in words: the docstring of the class."""
        return (self.driver.__doc__ or "").strip().splitlines()[0]

    def judged_by(self, requirements: Iterable[str]) -> tuple[str, ...]:
        """Those of the ids that it touches, in their order."""
        return tuple(one for one in requirements if one.startswith(self.touches))
