"""A driver that is a Python class, called in a process of its own (conformance.drivers.python.host).

The class is opened with a home and has create, create_read_write, remove, get, put, exists, status, metadata,
diff (a binary stream to read and close), apply_diff (takes one), diff_size, changes (entries with ``path`` as
bytes and a ``kind`` named ADD, MODIFY or DELETE), cleanup and, if it holds anything open, close. What a test
asks for is added by name, and only then: ``options`` (``overlay.KEY=VALUE`` words), ``uid_maps`` and
``gid_maps`` (triples: first id inside, first id outside, how many), a label for get. What the class lacks it
names in ``declined_capabilities``, a mapping of a capability's name to the reason.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from conformance.drivers.connection import Connection, Key, Kind, checked_declined, declined_in, parse_arguments
from conformance.drivers.protocol import (
    Answer,
    CallLimit,
    Change,
    DriverFailed,
    DriverInfo,
    DriverRefused,
    OpenRequest,
    ProcessOfDriver,
)
from conformance.drivers.python.hosting import Host, Hosts
from conformance.drivers.python.script import PythonClass
from conformance.drivers.source import DriverSource
from conformance.lab.supervised import NotStarted, Supervised, how_it_ended
from conformance.lab.supervisor import Options

KEYS: Final[tuple[Key, ...]] = ()  # those of every kind only
_KINDS: Final = ("add", "modify", "delete")
_KEPT: Final = (
    "CONFORMANCE_MUTANT_BASIS",
)  # what a driver may need of the environment (conformance.selftest.mutants)


def source(arguments: str) -> DriverSource:
    """``MODULE:CLASS``; raises ImportError or ValueError."""
    connection = parse_arguments("python", arguments)
    module_name, class_name = _named(connection)
    hosts = Hosts(lambda: Host(module_name, class_name))
    numbers = itertools.count(1)
    try:
        described = hosts.current().ask(CallLimit(), "describe")
        where = f"{module_name}.{class_name}.declined_capabilities"
        version, declined = _text(described["version"], "describe"), _words(described["declined"], "describe")
        declined = checked_declined(declined, where) | declined_in(connection)
        absent = {
            name: f"{class_name} has no {lacks}"
            for name, lacks in _words(described["absent"], "describe").items()
            if name not in declined
        }
    except (DriverRefused, DriverFailed) as error:
        hosts.close()
        detail = error.detail if isinstance(error, DriverFailed) else ""
        raise ImportError(f"{error}\n{detail}".rstrip()) from error
    except BaseException:
        hosts.close()
        raise
    info = DriverInfo(f"python:{arguments}", version, declined, absent)

    def attempt(request: OpenRequest, prefix: Sequence[str]) -> Answer:
        return _attempt(module_name, class_name, request, prefix)

    def opened(request: OpenRequest) -> _Hosted:
        if not request.prefix:
            return _Hosted(hosts, numbers, request)
        own = Hosts(lambda: Host(module_name, class_name, request.prefix))
        try:
            return _Hosted(own, numbers, request)
        except BaseException:
            own.close()
            raise

    return DriverSource(
        info,
        opened,
        close=hosts.close,
        attempt=attempt,
        dialect=_dialect(module_name, class_name),
        sets_umask=True,
        next_step=(
            f"open it by hand: {sys.executable} -c"
            f" 'import {module_name}; {module_name}.{class_name}(\"/tmp/by-hand\")';"
            " docs/adapters.md lists the methods that the class needs"
        ),
    )


def dialect_of(arguments: str) -> PythonClass:
    """How a script reaches the class; nothing of the driver is imported. Raises ValueError."""
    return _dialect(*_named(parse_arguments("python", arguments)))


def _named(connection: Connection) -> tuple[str, str]:
    module_name, _, class_name = connection.name.partition(":")
    if not module_name or not class_name:
        raise ValueError("write python:MODULE:CLASS")
    return module_name, class_name


def _dialect(module_name: str, class_name: str) -> PythonClass:
    """How a script reaches the class: by this interpreter, and the directories that its modules are in."""
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
    if request.id_map or request.gid_map:
        users, groups = request.id_map, request.gid_map or request.id_map
        asked["uid_maps"] = [(one.container, one.host, one.size) for one in users]
        asked["gid_maps"] = [(one.container, one.host, one.size) for one in groups]
    return asked


def _attempt(module_name: str, class_name: str, request: OpenRequest, prefix: Sequence[str]) -> Answer:
    task = {"module": module_name, "class": class_name, "home": _home_of(request), "words": words_of(request)}
    command = (sys.executable, "-m", "conformance.drivers.python.opening", json.dumps(task))
    seconds = request.limit.left()
    try:
        process = Supervised(Options(0, command), prefix=prefix)
    except NotStarted as error:
        raise DriverFailed(f"no process for the driver: {error}") from error
    try:
        status = process.wait(seconds)
        if status is None:
            raise request.limit.exceeded("open", process.stack())
        if status < 0:
            raise DriverFailed(f"the driver's process {how_it_ended(status)} in open", process.output())
        if status not in (0, 1):
            raise DriverFailed(_last_line(process.output()) or f"open {how_it_ended(status)}", process.output())
        return Answer(status == 0, process.output())
    finally:
        process.kill()


def _last_line(text: str) -> str:
    return (text.splitlines() or [""])[-1]


class _Hosted:
    """One opening in the driver's process."""

    def __init__(
        self, hosts: Hosts, numbers: Iterator[int], request: OpenRequest, reopens: tuple[Host, int] | None = None
    ) -> None:
        self._hosts = hosts
        self._numbers = numbers
        self._request = request
        self._home = _home_of(request)
        self._number = next(numbers)
        if reopens:
            self._host, opening = reopens
            self._ask("reopen", opening=opening)
        else:
            self._host = hosts.current()
            self._ask("open", home=self._home, asked=words_of(request), umask=request.umask)

    def _ask(self, do: str, **arguments: Any) -> Any:
        return self._host.ask(self._request.limit, do, on=self._number, **arguments)

    @property
    def home(self) -> str:
        return self._home

    @property
    def image_store(self) -> str:
        return str(self._request.directory)

    @property
    def process(self) -> ProcessOfDriver:
        return self._host

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        if options is None:
            self._ask("create", layer=layer_id, parent=parent)
        elif not read_write:
            self._ask("create_with_options", layer=layer_id, parent=parent, options=dict(options))
        else:
            self._ask("create_read_write", layer=layer_id, parent=parent, options=dict(options))

    def remove(self, layer_id: str) -> None:
        self._ask("remove", layer=layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        answer: str = self._ask("get", layer=layer_id, label=label)
        return answer  # of whatever type: conformance.harness.contained judges it

    def put(self, layer_id: str) -> None:
        self._ask("put", layer=layer_id)

    def exists(self, layer_id: str) -> bool:
        found = self._ask("exists", layer=layer_id)
        if not isinstance(found, bool):
            raise _wrong("exists", "bool", found)
        return found

    def status(self) -> Mapping[str, str]:
        return _words(self._ask("status"), "status")

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        return _words(self._ask("metadata", layer=layer_id), "metadata")

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        self._ask("diff", layer=layer_id, parent=parent, archive=str(archive))

    @property
    def gives_up(self) -> bool:
        return True

    def diff_in_pieces(self, layer_id: str, parent: str, archive: Path, piece: int, most: int) -> None:
        self._ask("diff", layer=layer_id, parent=parent, archive=str(archive), piece=piece, most=most)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        size = self._ask("apply_diff", layer=layer_id, parent=parent, archive=str(archive))
        return None if size is None else _size(size, "apply_diff")

    def apply_in_pieces(self, layer_id: str, parent: str, archive: Path, piece: int) -> int | None:
        size = self._ask("apply_diff", layer=layer_id, parent=parent, archive=str(archive), piece=piece)
        return None if size is None else _size(size, "apply_diff")

    def diff_size(self, layer_id: str, parent: str) -> int:
        return _size(self._ask("diff_size", layer=layer_id, parent=parent), "diff_size")

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        found = self._ask("changes", layer=layer_id, parent=parent)
        if not isinstance(found, list):
            raise _wrong("changes", "a list", found)
        return [_change(one) for one in found]

    def reopen(self) -> _Hosted:
        return _Hosted(self._hosts, self._numbers, self._request, (self._host, self._number))

    def close(self) -> None:
        self._ask("cleanup")
        self.leave()

    def leave(self) -> None:
        try:
            self._ask("close")
        finally:
            if self._request.prefix:  # a process that no other opening uses
                self._hosts.close()


def _wrong(do: str, expected: str, value: object) -> DriverFailed:
    return DriverFailed(f"{do} answered with a wrong type: expected {expected}, got {type(value).__name__}")


def _text(value: object, do: str) -> str:
    if not isinstance(value, str):
        raise _wrong(do, "str", value)
    return value


def _size(value: object, do: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(do, "int", value)
    return value


def _words(value: object, do: str) -> dict[str, str]:
    expected = "pairs of str"
    if not isinstance(value, list):
        raise _wrong(do, expected, value)
    found = {}
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise _wrong(do, expected, pair)
        found[_text(pair[0], do)] = _text(pair[1], do)
    return found


def _change(value: object) -> Change:
    match value:
        case [str(path), str(kind)] if kind in _KINDS:
            return Change(path.encode("latin-1", "replace"), kind)
    raise DriverFailed(f"changes answered with an entry of no known kind: {str(value)[:200]}")


KIND: Final = Kind("python", (("MODULE:CLASS", "refdriver:Driver"),), source, KEYS, dialect_of=dialect_of)
