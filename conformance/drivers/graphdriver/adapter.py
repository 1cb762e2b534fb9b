"""A Docker graph-driver plugin: JSON over HTTP on a unix socket, started here or running already.

``graphdriver:/run/docker/plugins/NAME.sock`` is one that runs; its home is made below each store's directory.
``graphdriver:?command=COMMAND`` starts one for each store; COMMAND has the word ``{socket}``, the path to listen
on. The plugin must see this process's mounts, and this process its: both are in one mount namespace.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, TypeVar
from urllib.parse import urlencode

from conformance.drivers.connection import Key, Kind, absolute_command, declined_in, parse_arguments
from conformance.drivers.graphdriver.process import Running, Server, Started, calling
from conformance.drivers.graphdriver.script import Plugin
from conformance.drivers.protocol import (
    Answer,
    Change,
    DriverFailed,
    DriverInfo,
    DriverRefused,
    OpenRequest,
    ProcessOfDriver,
)
from conformance.drivers.source import DriverSource

_T = TypeVar("_T")
_KINDS: Final = {0: "modify", 1: "add", 2: "delete"}
KEYS: Final = (Key("command", "the command that starts a plugin, with {socket} where the path of its socket goes"),)
_MOST: Final = 64 << 20  # bytes of an answer, archives apart
_BLOCK: Final = 1 << 20


def source(arguments: str) -> DriverSource:
    """``SOCKET`` or ``?command=COMMAND[&decline=CAPABILITY:REASON]``; raises OSError or ValueError."""
    connection = parse_arguments("graphdriver", arguments)
    path, command = connection.name, shlex.split(connection.value("command"))
    if bool(path) == bool(command):
        raise ValueError("name a socket (graphdriver:/path.sock) or a command (graphdriver:?command=... {socket})")
    if command and "{socket}" not in " ".join(command):
        raise ValueError("the command lacks {socket}; write it where the path of the plugin's socket goes")
    if command and shutil.which(command[0]) is None:
        raise ValueError(f"there is no command {command[0]!r}")
    command[:1] = map(absolute_command, command[:1])
    info = DriverInfo(f"graphdriver:{arguments}", "unknown", declined_in(connection))
    if path:
        return DriverSource(
            info,
            lambda request: _Plugin(Running(path), request),
            dialect=Plugin(path),
            next_step=f"ask it by hand: curl --unix-socket {shlex.quote(path)} -d '{{}}' http://x/Plugin.Activate",
        )
    return DriverSource(
        info,
        lambda request: _Plugin(
            Started(command, request.limit, umask=request.umask, prefix=request.prefix), request
        ),
        attempt=lambda request, prefix: _attempt(command, request, prefix),
        dialect=Plugin(command=tuple(command)),
        sets_umask=True,
        next_step=f"start it by hand, with the path of a socket for {{socket}}: {shlex.join(command)}",
    )


def _attempt(command: Sequence[str], request: OpenRequest, prefix: Sequence[str]) -> Answer:
    try:
        server = Started(command, request.limit, prefix=prefix)
        plugin = _Plugin(server, request)
    except DriverRefused as refused:
        return Answer(False, str(refused))
    said = server.said()
    plugin.close()
    return Answer(True, said)


class _Plugin:
    def __init__(self, server: Server, request: OpenRequest) -> None:
        self._server = server
        self._request = request
        self._home = str(request.directory / "overlay")
        options = [f"overlay.{word}" for word in request.options]
        if request.image_stores:
            options.append("overlay.imagestore=" + ",".join(map(str, request.image_stores)))
        users, groups = (
            [{"container_id": one.container, "host_id": one.host, "size": one.size} for one in ranges]
            for ranges in (request.id_map, request.gid_map or request.id_map)
        )
        try:
            self._post("/Plugin.Activate", {})
            self._call("Init", Home=self._home, Opts=options, UIDMaps=users, GIDMaps=groups)
        except BaseException:
            server.end()
            raise

    def _post(self, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        content = json.dumps(fields).encode("ascii")
        name = path.rpartition(".")[2]
        with calling(self._server, self._request.limit, name) as connection:
            connection.request("POST", path, content, {"Content-Type": "application/json"})
            return _json(connection.getresponse(), name)

    def _call(self, call: str, **fields: Any) -> dict[str, Any]:
        return self._post(f"/GraphDriver.{call}", fields)

    @property
    def home(self) -> str:
        return self._home

    @property
    def image_store(self) -> str:
        return str(self._request.directory)

    @property
    def process(self) -> ProcessOfDriver | None:
        return self._server.process

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        if options is None:
            self._call("Create", ID=layer_id, Parent=parent)
        else:
            verb = "CreateReadWrite" if read_write else "Create"
            self._call(verb, ID=layer_id, Parent=parent, StorageOpt=dict(options))

    def remove(self, layer_id: str) -> None:
        self._call("Remove", ID=layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        answer: str = self._call("Get", ID=layer_id, MountLabel=label).get("Dir", "")
        return answer  # of whatever type: conformance.harness.contained judges it

    def put(self, layer_id: str) -> None:
        self._call("Put", ID=layer_id)

    def exists(self, layer_id: str) -> bool:
        return _typed(bool, self._call("Exists", ID=layer_id).get("Exists", False), "Exists: Exists")

    def status(self) -> Mapping[str, str]:
        found = {}
        for pair in _typed(list, self._call("Status").get("Status") or [], "Status: Status"):
            if not isinstance(pair, list) or len(pair) != 2:
                raise _wrong("Status: Status", "pairs", pair)
            found[_typed(str, pair[0], "Status: a name")] = _typed(str, pair[1], "Status: a value")
        return found

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        found = self._call("GetMetadata", ID=layer_id).get("Metadata") or {}
        return {
            name: _typed(str, value, f"GetMetadata: {name}")
            for name, value in _typed(dict, found, "GetMetadata: Metadata").items()
        }

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        self.diff_in_pieces(layer_id, parent, archive, _BLOCK, -1)

    @property
    def gives_up(self) -> bool:
        """A plugin notices at any later time that nobody reads, and nobody hears when it has done with the call."""
        return False

    def diff_in_pieces(self, layer_id: str, parent: str, archive: Path, piece: int, most: int) -> None:
        assert most < 0, "see gives_up"
        content = json.dumps({"ID": layer_id, "Parent": parent}).encode("ascii")
        with archive.open("wb") as file, calling(self._server, self._request.limit, "Diff") as connection:
            connection.request("POST", "/GraphDriver.Diff", content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                _json(answer, "Diff")
                raise DriverRefused(f"Diff answered with status {answer.status}")
            # Not read(): an answer that was cut would come as a shorter one there.
            while block := answer.read(piece):
                _write(file, block)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        query = urlencode({"id": layer_id, "parent": parent})
        with (
            archive.open("rb", buffering=0) as file,
            calling(self._server, self._request.limit, "ApplyDiff") as connection,
        ):
            blocks = iter(lambda: file.read(_BLOCK), b"")
            # Refused before it was read whole: then the answer says why.
            with contextlib.suppress(BrokenPipeError):
                connection.request(
                    "POST",
                    f"/GraphDriver.ApplyDiff?{query}",
                    blocks,
                    encode_chunked=True,
                    headers={"Transfer-Encoding": "chunked"},
                )
            size = _json(connection.getresponse(), "ApplyDiff").get("Size")
        return None if size is None else _typed(int, size, "ApplyDiff: Size")

    def diff_size(self, layer_id: str, parent: str) -> int:
        return _typed(int, self._call("DiffSize", ID=layer_id, Parent=parent).get("Size", 0), "DiffSize: Size")

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        found = self._call("Changes", ID=layer_id, Parent=parent).get("Changes") or []
        return [_change(one) for one in _typed(list, found, "Changes: Changes")]

    def reopen(self) -> _Plugin:
        return _Plugin(self._server.again(), self._request)

    def leave(self) -> None:
        self._server.end()

    def cleanup(self) -> None:
        """Make the driver let go of its home."""
        self._call("Cleanup")

    def close(self) -> None:
        try:
            self.cleanup()
        finally:
            self._server.end()


def _write(file: IO[bytes], block: bytes) -> None:
    """Apart from errors of the connection, which are OSErrors too."""
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        raise DriverRefused(f"the diff cannot be written: {error}") from error


def _json(answer: http.client.HTTPResponse, what: str) -> dict[str, Any]:
    """The answer of a call; raises DriverRefused for an ``Err``, DriverFailed for what is none."""
    content = answer.read(_MOST + 1)
    if len(content) > _MOST:
        raise DriverFailed(f"{what} answered with more than {_MOST} bytes")
    try:
        fields = json.loads(content) if content.strip() else {}
    except (ValueError, RecursionError) as error:
        raise DriverFailed(f"{what} answered with no JSON: {content[:200]!r}") from error
    if not isinstance(fields, dict):
        raise DriverFailed(f"{what} answered with no JSON object: {content[:200]!r}")
    if fields.get("Err"):
        raise DriverRefused(str(fields["Err"]))
    return fields


def _typed(kind: type[_T], value: object, what: str) -> _T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(what, kind.__name__, value)
    return value


def _wrong(what: str, expected: str, value: object) -> DriverFailed:
    return DriverFailed(f"{what} has a wrong type: expected {expected}, got {type(value).__name__}")


def _change(value: object) -> Change:
    match value:
        case {"Path": str(path), **others}:
            kind = others.get("Kind", 0)
            if isinstance(kind, int) and kind in _KINDS:
                with contextlib.suppress(UnicodeEncodeError):
                    return Change(os.fsencode(path), _KINDS[kind])
    raise DriverFailed(f"Changes answered with an entry without a path or a known kind: {str(value)[:200]}")


KIND: Final = Kind(
    "graphdriver", (("SOCKET", "/run/driver.sock"), ("?command=COMMAND", "?command=driver {socket}")), source, KEYS
)
