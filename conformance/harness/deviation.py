"""What a test raises: a driver does something else than a requirement says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.history.findings import Finding, InWords


class Deviation(AssertionError):
    """The driver does something else than a requirement says; the text is expected against actual.

    ``finding`` is the same as a value, from which a script is made; without one there is no script.
    ``requirements`` are those that say so, where a test looks at more; () for all that it looks at.
    """

    requirements: tuple[str, ...] = ()

    def __init__(self, text: str, finding: Finding | None = None, requirements: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.finding: Finding = finding or InWords()
        self.requirements = requirements or self.requirements


@contextmanager
def charged_to(*requirements: str) -> Iterator[None]:
    """A deviation in this block violates these requirements, unless it names others itself.

    For tests of several requirements: a failure is charged to what it violates, and to nothing else.
    """
    try:
        yield
    except Deviation as deviation:
        deviation.requirements = deviation.requirements or requirements
        raise


class Leak(Deviation):
    """The driver left something behind; this is judged by a requirement of its own, whatever the test was about."""

    requirements = ("OVL-LIFE-NO-LEAKS",)


class SharedUpper(Deviation):
    """Two mounts had one upper directory; this is judged by a requirement of its own, as a leak is."""

    requirements = ("OVL-MOUNT-UPPER-ONCE",)
