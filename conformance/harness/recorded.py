"""A driver under test whose calls are timed and recorded in the history; in all else the driver itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from conformance.drivers.performing import in_pieces, perform
from conformance.drivers.protocol import (
    Change,
    DriverFailed,
    DriverRefused,
    DriverUnderTest,
    ProcessOfDriver,
    ReaderInPieces,
)
from conformance.harness.invariants import NoWatch, Watch
from conformance.harness.timing import Stopwatch
from conformance.history.calls import (
    ApplyDiff,
    Call,
    Changes,
    Close,
    Create,
    Diff,
    DiffSize,
    Exists,
    Get,
    Metadata,
    Put,
    Remove,
    Reopen,
    Status,
)
from conformance.history.steps import Beyond, Called, History
from conformance.history.trace import describe

_SHORT = (bool, int, str)


class RecordedDriver:
    """Calls of other threads than the first are recorded as beyond a script: their order is chance."""

    def __init__(
        self,
        driver: DriverUnderTest,
        watch: Stopwatch,
        history: History,
        store: str,
        after_get: Callable[[], None] = lambda: None,
        invariants: Watch | None = None,
    ) -> None:
        self._driver = driver
        self._after_get = after_get
        self.invariants = invariants or NoWatch()
        self._watch = watch
        self._history = history
        self._store = store

    def do(self, call: Call) -> Any:
        """Perform a call and record it with its outcome; raises DriverRefused and DriverFailed."""
        refused: str | None = None
        failed = False
        answer: Any = None
        if threading.current_thread() is not threading.main_thread():
            self.invariants.stop()
        self.invariants.before()
        try:
            with self._watch.in_driver():
                result = perform(self._driver, call, self._history.file_of)
            answer = _short(result)
        except (DriverRefused, DriverFailed) as error:
            refused = str(error)
            failed = isinstance(error, DriverFailed)
            if failed:
                self.invariants.stop()
            raise
        finally:
            if threading.current_thread() is threading.main_thread():
                self._history.add(Called(self._store, call, refused, answer, failed=failed))
                self.invariants.after(call, refused=refused is not None)
            else:
                self._history.add(Beyond(f"{describe(call)}, by one of several concurrent callers"))
        if isinstance(call, Get):
            self._after_get()
        elif isinstance(call, Reopen):
            again = cast(DriverUnderTest, result)
            self.invariants.reopened(getattr(again, "process", None))
            return RecordedDriver(again, self._watch, self._history, self._store, self._after_get, self.invariants)
        return result

    @property
    def home(self) -> str:
        return self._driver.home

    @property
    def image_store(self) -> str:
        return self._driver.image_store

    @property
    def process(self) -> ProcessOfDriver | None:
        """The process that calls are done in, where it can be looked at."""
        found: ProcessOfDriver | None = getattr(self._driver, "process", None)
        return found

    @property
    def in_pieces(self) -> ReaderInPieces | None:
        """The driver, if its diffs can be read in pieces; calls are done by ``do`` all the same."""
        return in_pieces(self._driver)

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        self.do(Create(layer_id, parent, options, read_write))

    def remove(self, layer_id: str) -> None:
        self.do(Remove(layer_id))

    def get(self, layer_id: str, label: str = "") -> str:
        return cast(str, self.do(Get(layer_id, label)))

    def put(self, layer_id: str) -> None:
        self.do(Put(layer_id))

    def exists(self, layer_id: str) -> bool:
        return cast(bool, self.do(Exists(layer_id)))

    def status(self) -> Mapping[str, str]:
        return cast(Mapping[str, str], self.do(Status()))

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        return cast(Mapping[str, str], self.do(Metadata(layer_id)))

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        self.do(Diff(layer_id, parent, self._history.label(archive, self._store)))

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        call = ApplyDiff(layer_id, parent, self._history.label(archive, self._store))
        return cast("int | None", self.do(call))

    def diff_size(self, layer_id: str, parent: str) -> int:
        return cast(int, self.do(DiffSize(layer_id, parent)))

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        return cast("list[Change]", self.do(Changes(layer_id, parent)))

    def reopen(self) -> RecordedDriver:
        return cast(RecordedDriver, self.do(Reopen()))

    def leave(self) -> None:
        with self._watch.in_driver():
            self._driver.leave()

    def close(self) -> None:
        self.do(Close())


def _short(result: object) -> Any:
    """An answer that is short enough to be recorded: changes, a number, a word; a path is another each time."""
    if isinstance(result, list):
        return [(change.kind, change.path) for change in result if isinstance(change, Change)]
    return result if isinstance(result, _SHORT) else None
