"""A mutant of the catalogue: one deliberate error, what it breaks and where it was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """A driver that is wrong in one way.

    ``driver`` is its class; the name and the connection string of the mutant follow from it. ``breaks`` are ids of
    requirements that must each fail on it; the first is the one that it is named for, by which alone it counts
    as killed. ``source`` says where the error was seen, in parts with "; " between them: references (see
    :mod:`conformance.spec.references`), "boundary: ..." for one step beside a limit, or "derived: ...". ``backing``
    is the filesystem that it shows on; ``hard`` marks those that only a rare combination shows. ``needs`` is what
    the host must have for it to show, by the name under which a run says that it is lacking, such as xfs-quota; ""
    if nothing.
    """

    driver: type[Any]
    breaks: tuple[str, ...]
    source: str
    backing: str = "host"
    hard: bool = False
    needs: str = ""

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.driver.__name__

    @property
    def connection(self) -> str:
        """How ``overlay-conformance run`` reaches it."""
        return f"python:{self.driver.__module__}:{self.name}"

    @property
    def sentence(self) -> str:
        """What is wrong with it, in words: the docstring of the class."""
        return (self.driver.__doc__ or "").strip().splitlines()[0]
