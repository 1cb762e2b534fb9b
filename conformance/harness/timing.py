"""Where the time goes: to the driver, to the kernel, or to the harness.

The time of a driver is that of its calls, by the wall clock. The kernel's is what this thread spends in system
calls outside of them, while operations are done and trees are looked at (getrusage(2), RUSAGE_THREAD).

How many examples it took until one failed is counted here too: what is tried after it only makes it smaller.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the seconds inside a driver or the kernel, of one test. Concurrent calls count once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Count from now."""
        self._calls = 0
        self._entered = 0.0
        self._in_calls = 0.0
        self._system_in_calls = 0.0
        self._began = time.perf_counter()
        self._system_began = _system_time()

    @contextmanager
    def in_driver(self) -> Iterator[None]:
        """A call of the driver."""
        system = _system_time()
        with self._lock:
            self._calls += 1
            if self._calls == 1:
                self._entered = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if self._calls == 0:
                    self._in_calls += time.perf_counter() - self._entered
                if threading.current_thread() is threading.main_thread():
                    self._system_in_calls += _system_time() - system

    def seconds(self) -> tuple[float, float]:
        """All seconds since the start, and those inside the driver or the kernel."""
        kernel = _system_time() - self._system_began - self._system_in_calls
        return time.perf_counter() - self._began, self._in_calls + max(0.0, kernel)


class Tries:
    """Counts the examples of one test up to the first that fails, and says when that was, and with which error.

    ``on_failure`` may be set to hear of it at once.
    """

    def __init__(self) -> None:
        self.on_failure: Callable[[Exception], None] = lambda _: None
        self.restart()

    def restart(self) -> None:
        """Count from now. ``failed_at`` is of time.monotonic(), None as long as no example failed."""
        self.examples = 0
        self.failed_at: float | None = None
        self.error: Exception | None = None

    def begin(self) -> None:
        """One example more."""
        if self.failed_at is None:
            self.examples += 1

    def failed(self, error: Exception) -> None:
        """The example failed."""
        if self.failed_at is None:
            self.failed_at = time.monotonic()
            self.error = error
            self.on_failure(error)


def _system_time() -> float:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_stime
