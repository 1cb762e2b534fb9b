"""A driver that is a Python class, called in this process.

The class is opened with a home and has create, create_read_write, remove, get, put, exists, status, metadata,
diff (a binary stream to read and close), apply_diff (takes one), diff_size, changes (entries with ``path`` as
bytes and a ``kind`` named ADD, MODIFY or DELETE), cleanup and, if it holds anything open, close. What a test
asks for is added by name, and only then: ``options`` (``overlay.KEY=VALUE`` words), ``uid_maps`` and
``gid_maps`` (triples: first id inside, first id outside, how many), a label for get. What the class lacks it
names in ``declined_capabilities``, a mapping of a capability's name to the reason.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from conformance.dialects.python import PythonClass
from conformance.driver import Answer, Change, DriverInfo, DriverRefused, DriverSource, OpenRequest

_T = TypeVar("_T")
_KEPT = ("CONFORMANCE_FAULTY_BASIS",)  # what a driver may need of the environment (conformance.faulty)


def source(arguments: str) -> DriverSource:
    """``MODULE:CLASS``; raises ImportError, AttributeError or ValueError."""
    module_name, _, class_name = arguments.partition(":")
    if not module_name or not class_name:
        raise ValueError("write python:MODULE:CLASS")
    factory = getattr(importlib.import_module(module_name), class_name)
    declined = getattr(factory, "declined_capabilities", {})
    info = DriverInfo(f"python:{arguments}", _version_of(module_name), dict(declined))

    def attempt(request: OpenRequest, prefix: Sequence[str]) -> Answer:
        return _attempt(module_name, class_name, request, prefix)

    dialect = _dialect(module_name, class_name)
    return DriverSource(info, lambda request: _InProcess(factory, request), attempt=attempt, dialect=dialect)


def _dialect(module_name: str, class_name: str) -> PythonClass:
    """How a script reaches the class: this interpreter, and the directories that its modules were found in."""
    package = importlib.util.find_spec(module_name.partition(".")[0])
    above = list(package.submodule_search_locations or ()) if package else []
    files = [package.origin] if package and package.origin else [f"{one}/-" for one in above]
    is_package = package is not None and package.submodule_search_locations is not None
    inside = [os.path.dirname(os.path.abspath(one)) for one in files]
    found = [os.path.dirname(one) if is_package else one for one in inside]
    named = [os.path.abspath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    kept = tuple((name, os.environ[name]) for name in _KEPT if name in os.environ)
    return PythonClass(module_name, class_name, sys.executable, tuple(dict.fromkeys([*found, *named])), kept)


def _home_of(request: OpenRequest) -> str:
    """``overlay`` in the request's directory, so that the directory is an image store."""
    return str(request.directory / "overlay")


def words_of(request: OpenRequest) -> dict[str, Any]:
    """What a class is opened with beside the home."""
    asked: dict[str, Any] = {}
    words = [f"overlay.{word}" for word in request.options]
    if request.image_stores:
        words.append("overlay.imagestore=" + ",".join(map(str, request.image_stores)))
    if words:
        asked["options"] = words
    if request.id_map:
        asked["uid_maps"] = asked["gid_maps"] = [(one.container, one.host, one.size) for one in request.id_map]
    return asked


def _attempt(module_name: str, class_name: str, request: OpenRequest, prefix: Sequence[str]) -> Answer:
    task = {"module": module_name, "class": class_name, "home": _home_of(request), "words": words_of(request)}
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "conformance.opening"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode == 0, done.stdout + done.stderr)


def _version_of(module_name: str) -> str:
    package = module_name.partition(".")[0]
    # What is installed in place (pip install --editable) is in no distribution's list of packages.
    own = getattr(importlib.import_module(package), "__version__", None)
    distributions = importlib.metadata.packages_distributions().get(package, [])
    return str(own) if own else importlib.metadata.version(distributions[0]) if distributions else "unknown"


class _InProcess:
    def __init__(
        self, factory: Callable[..., Any], request: OpenRequest, asked: dict[str, Any] | None = None
    ) -> None:
        self._factory = factory
        self._request = request
        self._home = _home_of(request)
        # The same objects for every opening, as a caller has them who keeps its options.
        self._asked = words_of(request) if asked is None else asked
        self._driver: Any = self._ask(lambda: factory(self._home, **self._asked))

    def _ask(self, call: Callable[[], _T]) -> _T:
        # Whatever a driver raises is its answer, even if it is a defect of its code.
        try:
            return call()
        except Exception as error:
            raise DriverRefused(f"{type(error).__name__}: {error}") from error

    @property
    def home(self) -> str:
        return self._home

    @property
    def image_store(self) -> str:
        return str(self._request.directory)

    def create(self, layer_id: str, parent: str, options: Mapping[str, str] | None = None) -> None:
        if options is None:
            self._ask(lambda: self._driver.create(layer_id, parent))
        else:
            self._ask(lambda: self._driver.create_read_write(layer_id, parent, dict(options)))

    def remove(self, layer_id: str) -> None:
        self._ask(lambda: self._driver.remove(layer_id))

    def get(self, layer_id: str, label: str = "") -> str:
        words = (layer_id, label) if label else (layer_id,)
        answer: str = self._ask(lambda: self._driver.get(*words))
        return answer  # of whatever type: conformance.contained judges it

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
        self.leave()
        return _InProcess(self._factory, self._request, self._asked)

    def close(self) -> None:
        self._ask(lambda: self._driver.cleanup())
        self.leave()

    def leave(self) -> None:
        close = getattr(self._driver, "close", None)
        if close is not None:
            self._ask(close)
