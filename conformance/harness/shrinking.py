"""How long the failing examples of a run may be shrunk: a minute, and then no more than a part of the run's time.

hypothesis gives up after five minutes for each test; a driver of which much fails would take hours.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis.errors import HypothesisException

FREE: Final = 60.0  # seconds for the first failures
SHARE: Final = 0.5  # of the time of the run, from then on
LEAST: Final = 2.0  # seconds for each failure all the same
_WATCHED: Final = "conformance_watched"
_LIMIT: Final = "MAX_SHRINKING_SECONDS"


@dataclass(slots=True)
class Shrinking:
    """The time of one process that runs tests, in seconds."""

    free: float = FREE
    share: float = SHARE
    least: float = LEAST
    began: float = field(default_factory=time.monotonic)
    spent: float = 0.0
    failed_at: float | None = None  # of time.monotonic(): when an example of the present test failed first

    def left(self) -> float:
        """For the next failure."""
        return max(self.least, self.free + self.share * (time.monotonic() - self.began) - self.spent)

    def restart(self) -> None:
        """A test begins. Have hypothesis shrink its failure for no longer than that.

        hypothesis has no setting for it; a version without this constant shrinks for as long as it does.
        """
        self.failed_at = None
        with suppress(ImportError):
            engine = importlib.import_module("hypothesis.internal.conjecture.engine")
            if hasattr(engine, _LIMIT):
                setattr(engine, _LIMIT, self.left())

    def failed(self) -> None:
        """An example failed."""
        self.failed_at = self.failed_at or time.monotonic()

    def watch(self, test: Any) -> None:
        """Hear of each example of a property that fails; a function that is no property is left as it is."""
        held = getattr(test, "hypothesis", None)
        if held is None:
            return
        # One function is the test of several items, and of several rounds: it hears for the last round.
        inner: Callable[..., None] = getattr(held.inner_test, _WATCHED, held.inner_test)

        @functools.wraps(inner)
        def watched(*arguments: Any, **words: Any) -> None:
            try:
                inner(*arguments, **words)
            except HypothesisException:
                raise
            except Exception:
                self.failed()
                raise

        setattr(watched, _WATCHED, inner)
        held.inner_test = watched

    def took(self) -> float:
        """Count the time since an example of the present test failed, 0 if none did; these seconds."""
        seconds = 0.0 if self.failed_at is None else time.monotonic() - self.failed_at
        self.spent += seconds
        return seconds
