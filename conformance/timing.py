"""Where the time goes: to the driver, to the kernel, or to the harness.

The time of a driver is that of its calls, by the wall clock. The kernel's is what this thread spends in system
calls outside of them, while operations are done and trees are looked at (getrusage(2), RUSAGE_THREAD).
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from conformance.driver import Change, DriverUnderTest


class Stopwatch:
    """Adds up the seconds inside a driver or the kernel, of one test. Calls at a time count once."""

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


def _system_time() -> float:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_stime


class TimedDriver:
    """A driver under test whose calls are timed; in all else the driver itself."""

    def __init__(self, driver: DriverUnderTest, watch: Stopwatch) -> None:
        self._driver = driver
        self._watch = watch

    @property
    def home(self) -> str:
        return self._driver.home

    @property
    def image_store(self) -> str:
        return self._driver.image_store

    def create(self, layer_id: str, parent: str, options: Mapping[str, str] | None = None) -> None:
        with self._watch.in_driver():
            self._driver.create(layer_id, parent, options)

    def remove(self, layer_id: str) -> None:
        with self._watch.in_driver():
            self._driver.remove(layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        with self._watch.in_driver():
            return self._driver.get(layer_id, label)

    def put(self, layer_id: str) -> None:
        with self._watch.in_driver():
            self._driver.put(layer_id)

    def exists(self, layer_id: str) -> bool:
        with self._watch.in_driver():
            return self._driver.exists(layer_id)

    def status(self) -> Mapping[str, str]:
        with self._watch.in_driver():
            return self._driver.status()

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        with self._watch.in_driver():
            return self._driver.metadata(layer_id)

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        with self._watch.in_driver():
            self._driver.diff(layer_id, parent, archive)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        with self._watch.in_driver():
            return self._driver.apply_diff(layer_id, parent, archive)

    def diff_size(self, layer_id: str, parent: str) -> int:
        with self._watch.in_driver():
            return self._driver.diff_size(layer_id, parent)

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        with self._watch.in_driver():
            return self._driver.changes(layer_id, parent)

    def reopen(self) -> TimedDriver:
        with self._watch.in_driver():
            return TimedDriver(self._driver.reopen(), self._watch)

    def leave(self) -> None:
        with self._watch.in_driver():
            self._driver.leave()

    def close(self) -> None:
        with self._watch.in_driver():
            self._driver.close()
