"""A Docker graph-driver plugin: JSON over HTTP on a unix socket, started here or running already.

``graphdriver:/run/docker/plugins/NAME.sock`` is one that runs; its home is made below each store's directory.
``graphdriver:?command=COMMAND`` starts one for each store; COMMAND has the word ``{socket}``, the path to listen
on. The plugin must see this process's mounts, and this process its: both are in one mount namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from conformance.dialects.graphdriver import Plugin
from conformance.driver import Answer, Change, DriverInfo, DriverRefused, DriverSource, OpenRequest

_KINDS: Final = {0: "modify", 1: "add", 2: "delete"}
_START_LIMIT: Final = 60.0  # seconds for a plugin to listen
_CALL_LIMIT: Final = 300.0  # seconds; a call that takes longer hangs
_SOCKET_LIMIT: Final = 107  # bytes of the path of a socket (unix(7))
_BLOCK: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


def source(arguments: str) -> DriverSource:
    """``SOCKET`` or ``?command=COMMAND[&decline=CAPABILITY:REASON]``; raises OSError or ValueError."""
    path, _, query = arguments.partition("?")
    words = parse_qsl(query, strict_parsing=bool(query))
    command = shlex.split(dict(words).get("command", ""))
    if bool(path) == bool(command):
        raise ValueError("name a socket (graphdriver:/path.sock) or a command (graphdriver:?command=... {socket})")
    if command and ("{socket}" not in " ".join(command) or shutil.which(command[0]) is None):
        raise ValueError(f"{command[0]!r} should be a command, and one of its words hold {{socket}}")
    declined = dict(one.partition(":")[::2] for key, one in words if key == "decline")
    info = DriverInfo(f"graphdriver:{arguments}", "unknown", declined)
    if path:
        return DriverSource(info, lambda request: _Plugin(_Running(path), request), dialect=Plugin(path))
    return DriverSource(
        info,
        lambda request: _Plugin(_Started(command), request),
        attempt=lambda request, prefix: _attempt([*prefix, *command], request),
        dialect=Plugin(command=tuple(command)),
    )


def _attempt(command: Sequence[str], request: OpenRequest) -> Answer:
    try:
        server = _Started(command)
        plugin = _Plugin(server, request)
    except DriverRefused as refused:
        return Answer(False, str(refused))
    said = server.said()
    plugin.close()
    return Answer(True, said)


class _Running:
    """A plugin that somebody else started."""

    def __init__(self, path: str) -> None:
        self.socket = path

    def said(self) -> str:
        """Nothing that we could hear."""
        return ""

    def end(self) -> None:
        """It goes on."""

    def again(self) -> _Running:
        """The same."""
        return self


class _Started:
    """A plugin of ours: a process that ends with us."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        parent = os.getpid()
        self._directory = tempfile.mkdtemp(prefix="plugin-")
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.socket = f"{self._directory}/sock"
        if len(os.fsencode(self.socket)) > _SOCKET_LIMIT:
            self.socket = f"/proc/{parent}/fd/{self._fd}/sock"
        self._log = open(f"{self._directory}/log", "w+b")  # noqa: SIM115 - it is closed when the plugin ends

        def die_with_us() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)

        words = [word.replace("{socket}", self.socket) for word in command]
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, preexec_fn=die_with_us
        )
        try:
            self._wait()
        except BaseException:
            self.end()
            raise

    def _wait(self) -> None:
        """Until somebody answers on the socket; raises DriverRefused if nobody will."""
        ended = select.poll()
        ended.register(pidfd := os.pidfd_open(self._process.pid), select.POLLIN)
        deadline = time.monotonic() + _START_LIMIT
        try:
            while True:
                with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), _connected(self.socket, 1.0):
                    return
                # The end of the process is waited for, so that its birth is looked for a hundred times a second.
                if ended.poll(10) or time.monotonic() > deadline:
                    raise DriverRefused(
                        f"the plugin does not listen on its socket: {self.said() or 'it said nothing'}"
                    )
        finally:
            os.close(pidfd)

    def said(self) -> str:
        """What the plugin wrote to its standard output and error."""
        return Path(self._log.name).read_text(errors="replace").strip()

    def end(self) -> None:
        """Ask it to end, and see to it that it does."""
        self._process.terminate()
        try:
            self._process.wait(_START_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        os.close(self._fd)
        shutil.rmtree(self._directory, ignore_errors=True)

    def again(self) -> _Started:
        """A new process, which knows nothing but what is on disk."""
        self.end()
        return _Started(self._command)


def _connected(path: str, limit: float) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(limit)
    try:
        found.connect(path)
    except BaseException:
        found.close()
        raise
    return found


class _Connection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_CALL_LIMIT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a host."""
        self.sock = _connected(self._path, _CALL_LIMIT)


class _Plugin:
    def __init__(self, server: _Running | _Started, request: OpenRequest) -> None:
        self._server = server
        self._request = request
        self._home = str(request.directory / "overlay")
        options = [f"overlay.{word}" for word in request.options]
        if request.image_stores:
            options.append("overlay.imagestore=" + ",".join(map(str, request.image_stores)))
        maps = [{"container_id": one.container, "host_id": one.host, "size": one.size} for one in request.id_map]
        try:
            self._post("/Plugin.Activate", {})
            self._call("Init", Home=self._home, Opts=options, UIDMaps=maps, GIDMaps=maps)
        except BaseException:
            server.end()
            raise

    def _post(self, path: str, fields: Mapping[str, Any]) -> Any:
        content = json.dumps(fields).encode("ascii")
        with contextlib.closing(_Connection(self._server.socket)) as connection:
            try:
                connection.request("POST", path, content, {"Content-Type": "application/json"})
                return _json(connection.getresponse().read(), path)
            except (OSError, http.client.HTTPException) as error:
                raise DriverRefused(f"{path}: {type(error).__name__}: {error}") from error

    def _call(self, call: str, **fields: Any) -> Any:
        return self._post(f"/GraphDriver.{call}", fields)

    @property
    def home(self) -> str:
        return self._home

    @property
    def image_store(self) -> str:
        return str(self._request.directory)

    def create(self, layer_id: str, parent: str, options: Mapping[str, str] | None = None) -> None:
        if options is None:
            self._call("Create", ID=layer_id, Parent=parent)
        else:
            self._call("CreateReadWrite", ID=layer_id, Parent=parent, StorageOpt=dict(options))

    def remove(self, layer_id: str) -> None:
        self._call("Remove", ID=layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        answer: str = self._call("Get", ID=layer_id, MountLabel=label).get("Dir", "")
        return answer  # of whatever type: conformance.contained judges it

    def put(self, layer_id: str) -> None:
        self._call("Put", ID=layer_id)

    def exists(self, layer_id: str) -> bool:
        return bool(self._call("Exists", ID=layer_id).get("Exists"))

    def status(self) -> Mapping[str, str]:
        return dict(self._call("Status").get("Status") or [])

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        return dict(self._call("GetMetadata", ID=layer_id).get("Metadata") or {})

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        content = json.dumps({"ID": layer_id, "Parent": parent}).encode("ascii")
        with contextlib.closing(_Connection(self._server.socket)) as connection:
            try:
                connection.request("POST", "/GraphDriver.Diff", content, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                if answer.status != 200:
                    _json(answer.read(), "Diff")
                    raise DriverRefused(f"Diff answered with status {answer.status}")
                with archive.open("wb") as file:
                    # Not read(): an answer that was cut would come as a shorter one there.
                    while block := answer.read(_BLOCK):
                        file.write(block)
            except (OSError, http.client.HTTPException) as error:
                raise DriverRefused(f"Diff: {type(error).__name__}: {error}") from error

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        query = urlencode({"id": layer_id, "parent": parent})
        with contextlib.closing(_Connection(self._server.socket)) as connection, archive.open("rb") as file:
            blocks = iter(lambda: file.read(_BLOCK), b"")
            try:
                # Refused before it was read whole: then the answer says why.
                with contextlib.suppress(BrokenPipeError):
                    connection.request(
                        "POST",
                        f"/GraphDriver.ApplyDiff?{query}",
                        blocks,
                        encode_chunked=True,
                        headers={"Transfer-Encoding": "chunked"},
                    )
                fields = _json(connection.getresponse().read(), "ApplyDiff")
            except (OSError, http.client.HTTPException) as error:
                raise DriverRefused(f"ApplyDiff: {type(error).__name__}: {error}") from error
        size = fields.get("Size")
        return int(size) if size is not None else None

    def diff_size(self, layer_id: str, parent: str) -> int:
        return int(self._call("DiffSize", ID=layer_id, Parent=parent).get("Size", 0))

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        found = self._call("Changes", ID=layer_id, Parent=parent).get("Changes") or []
        return [Change(os.fsencode(one["Path"]), _KINDS[one.get("Kind", 0)]) for one in found]

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


def _json(content: bytes, what: str) -> Any:
    """The answer of a call; raises DriverRefused for an ``Err``."""
    try:
        fields = json.loads(content) if content.strip() else {}
    except ValueError as error:
        raise DriverRefused(f"{what} answered with no JSON: {content[:200]!r}") from error
    if not isinstance(fields, dict):
        raise DriverRefused(f"{what} answered with no JSON object: {content[:200]!r}")
    if fields.get("Err"):
        raise DriverRefused(str(fields["Err"]))
    return fields
