"""A driver that is a Python class, called in this process.

The class is opened with a home and has create, remove, get, put, exists, status, metadata, diff (a binary
stream to read and close), apply_diff (takes one), diff_size, changes (entries with ``path`` as bytes and a
``kind`` named ADD, MODIFY or DELETE), cleanup and, if it holds anything open, close.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from conformance.driver import Change, DriverInfo, DriverRefused, DriverSource

_T = TypeVar("_T")


def source(arguments: str) -> DriverSource:
    """``MODULE:CLASS``; raises ImportError, AttributeError or ValueError."""
    module_name, _, class_name = arguments.partition(":")
    if not module_name or not class_name:
        raise ValueError("write python:MODULE:CLASS")
    factory = getattr(importlib.import_module(module_name), class_name)
    declined = getattr(factory, "declined_capabilities", {})
    info = DriverInfo(f"python:{arguments}", _version_of(module_name), dict(declined))
    return DriverSource(info, lambda directory: _InProcess(factory, directory / "home"))


def _version_of(module_name: str) -> str:
    package = module_name.partition(".")[0]
    # What is installed in place (pip install --editable) is in no distribution's list of packages.
    own = getattr(importlib.import_module(package), "__version__", None)
    distributions = importlib.metadata.packages_distributions().get(package, [])
    return str(own) if own else importlib.metadata.version(distributions[0]) if distributions else "unknown"


class _InProcess:
    def __init__(self, factory: Callable[[str], Any], home: Path) -> None:
        self._factory = factory
        self._home = home
        self._driver: Any = self._ask(lambda: factory(str(home)))

    def _ask(self, call: Callable[[], _T]) -> _T:
        # Whatever a driver raises is its answer, even if it is a defect of its code.
        try:
            return call()
        except Exception as error:
            raise DriverRefused(f"{type(error).__name__}: {error}") from error

    @property
    def home(self) -> str:
        return str(self._home)

    def create(self, layer_id: str, parent: str) -> None:
        self._ask(lambda: self._driver.create(layer_id, parent))

    def remove(self, layer_id: str) -> None:
        self._ask(lambda: self._driver.remove(layer_id))

    def get(self, layer_id: str) -> str:
        return str(self._ask(lambda: self._driver.get(layer_id)))

    def put(self, layer_id: str) -> None:
        self._ask(lambda: self._driver.put(layer_id))

    def exists(self, layer_id: str) -> bool:
        return bool(self._ask(lambda: self._driver.exists(layer_id)))

    def status(self) -> Mapping[str, str]:
        return dict(self._ask(lambda: self._driver.status()))

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        return dict(self._ask(lambda: self._driver.metadata(layer_id)))

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        def read_all() -> None:
            with self._driver.diff(layer_id, parent) as stream, archive.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)

        self._ask(read_all)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        with archive.open("rb", buffering=0) as file:
            size: int | None = self._ask(lambda: self._driver.apply_diff(layer_id, parent, file))
            return size

    def diff_size(self, layer_id: str, parent: str) -> int:
        return int(self._ask(lambda: self._driver.diff_size(layer_id, parent)))

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        found = self._ask(lambda: self._driver.changes(layer_id, parent))
        return [Change(change.path, change.kind.name.lower()) for change in found]

    def reopen(self) -> _InProcess:
        self._let_go()
        return _InProcess(self._factory, self._home)

    def close(self) -> None:
        self._ask(lambda: self._driver.cleanup())
        self._let_go()

    def _let_go(self) -> None:
        close = getattr(self._driver, "close", None)
        if close is not None:
            self._ask(close)
