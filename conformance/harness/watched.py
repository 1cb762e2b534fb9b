"""A driver under test whose calls are timed and put on tape; in all else the driver itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from conformance.drivers.protocol import Change, DriverFailed, DriverRefused, DriverUnderTest, ProcessOfDriver
from conformance.harness.timing import Stopwatch
from conformance.history.tape import Beyond, Called, Tape

_T = TypeVar("_T")
_SHORT = (bool, int, str)


class WatchedDriver:
    """Calls of another thread than the first go on tape as beyond a script: their order is chance."""

    def __init__(
        self,
        driver: DriverUnderTest,
        watch: Stopwatch,
        tape: Tape,
        store: str,
        after_get: Callable[[], None] = lambda: None,
    ) -> None:
        self._driver = driver
        self._after_get = after_get
        self._watch = watch
        self._tape = tape
        self._store = store

    def _watched(self, verb: str, call: Callable[[], _T], **words: Any) -> _T:
        refused: str | None = None
        answer: Any = None
        try:
            with self._watch.in_driver():
                result = call()
            answer = _answer(result)
            return result
        except (DriverRefused, DriverFailed) as error:
            refused = str(error)
            raise
        finally:
            if threading.current_thread() is threading.main_thread():
                self._tape.add(Called(self._store, verb, refused=refused, answer=answer, **words))
            else:
                self._tape.add(Beyond(f"{verb} {words.get('layer', '')}, by one of several concurrent callers"))

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

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        self._watched(
            "create",
            lambda: self._driver.create(layer_id, parent, options, read_write=read_write),
            layer=layer_id,
            parent=parent,
            options=options,
            read_write=read_write,
        )

    def remove(self, layer_id: str) -> None:
        self._watched("remove", lambda: self._driver.remove(layer_id), layer=layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        root = self._watched("get", lambda: self._driver.get(layer_id, label), layer=layer_id, label=label)
        self._after_get()
        return root

    def put(self, layer_id: str) -> None:
        self._watched("put", lambda: self._driver.put(layer_id), layer=layer_id)

    def exists(self, layer_id: str) -> bool:
        return self._watched("exists", lambda: self._driver.exists(layer_id), layer=layer_id)

    def status(self) -> Mapping[str, str]:
        return self._watched("status", self._driver.status)

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        return self._watched("metadata", lambda: self._driver.metadata(layer_id), layer=layer_id)

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        label = self._tape.label(str(archive), self._store)
        self._watched(
            "diff",
            lambda: self._driver.diff(layer_id, parent, archive),
            layer=layer_id,
            parent=parent,
            archive=label,
        )

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        label = self._tape.label(str(archive), self._store)
        return self._watched(
            "apply",
            lambda: self._driver.apply_diff(layer_id, parent, archive),
            layer=layer_id,
            parent=parent,
            archive=label,
        )

    def diff_size(self, layer_id: str, parent: str) -> int:
        return self._watched(
            "diff-size", lambda: self._driver.diff_size(layer_id, parent), layer=layer_id, parent=parent
        )

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        return self._watched(
            "changes", lambda: self._driver.changes(layer_id, parent), layer=layer_id, parent=parent
        )

    def reopen(self) -> WatchedDriver:
        again = self._watched("reopen", self._driver.reopen)
        return WatchedDriver(again, self._watch, self._tape, self._store, self._after_get)

    def leave(self) -> None:
        with self._watch.in_driver():
            self._driver.leave()

    def close(self) -> None:
        self._watched("close", self._driver.close)


def _answer(result: object) -> Any:
    """What is short enough to be told again: a list of changes, a number, a word; a path is another each time."""
    if isinstance(result, list):
        return [(change.kind, change.path) for change in result if isinstance(change, Change)]
    return result if isinstance(result, _SHORT) else None
