"""The driver behind the Docker graph-driver plugin protocol: JSON over HTTP on a unix socket.

Docker Engine up to 27 (with --experimental) and anything else that speaks it call ``POST /GraphDriver.X``. An
answer's ``Err`` is empty, or the driver's refusal; a body that is no such call is answered with 400. Diff answers
with the archive itself; when the driver fails in the middle of it the answer ends without its last chunk, so that
nobody takes it for whole. Names that are no UTF-8 are written with surrogate escapes (PEP 383), as JSON allows.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

from refdriver.changes import ChangeKind
from refdriver.driver import Driver
from refdriver.errors import BadOption, DriverError
from refdriver.httpmessage import BadMessage, Body
from refdriver.idmap import IdMap
from refdriver.unixhttp import Handler, Server

_LOG = logging.getLogger("refdriver")
_T = TypeVar("_T")
_CONTENT_TYPE: Final = "application/vnd.docker.plugins.v1.1+json"
_REQUEST_MAX: Final = 1 << 22  # bytes of a JSON request; id maps and options are far smaller
_QUERY_MAX: Final = 16  # fields; the protocol has two
_KINDS: Final = {ChangeKind.MODIFY: 0, ChangeKind.ADD: 1, ChangeKind.DELETE: 2}
_LARGE: Final = 1 << 20  # bytes of an archive that are read at once
_MAP_FIELDS: Final = (("container_id", "ContainerID"), ("host_id", "HostID"), ("size", "Size"))
Fields = Mapping[str, Any]


class _BadRequest(Exception):
    """The request is none of the protocol; the text says what is wrong with it."""


class PluginServer:
    """Serves one home, which :meth:`open_home` or Init names. The socket is there when this is made.

    ``driver`` is the class that is served; whatever one other than Driver raises is its refusal. Raises BadOption
    for a path that is taken, OSError for one that cannot be made.
    """

    def __init__(self, path: str, driver: Callable[..., Driver] = Driver) -> None:
        self._open = driver
        self._refusals = (DriverError, OSError) if driver is Driver else (Exception,)
        self._driver: Driver | None = None
        self._opened_with: tuple[Any, ...] = ()
        self._opening = threading.Lock()
        self._server = Server(path, self._answer, _is_transfer)
        self._calls: dict[str, Callable[[Fields], dict[str, Any]]] = {
            "Init": self._init,
            "Create": self._create,
            "CreateReadWrite": self._create_read_write,
            "Remove": self._remove,
            "Get": self._get,
            "Put": self._put,
            "Exists": self._exists,
            "Status": self._status,
            "GetMetadata": self._metadata,
            "Cleanup": self._cleanup,
            "Changes": self._changes,
            "DiffSize": self._diff_size,
            "Capabilities": lambda _: {"Capabilities": {"ReproducesExactDiffs": False}},
        }

    def open_home(
        self, home: str, options: Sequence[str] = (), uid_maps: Sequence[IdMap] = (), gid_maps: Sequence[IdMap] = ()
    ) -> None:
        """Open the home, as Init does. An engine sends Init once, when it starts, and not to a later server.

        Raises what the driver raises, and BadOption if another home is open, or this one with other arguments.
        """
        wanted = (home, tuple(options), tuple(uid_maps), tuple(gid_maps))
        with self._opening:
            if self._driver is not None and wanted != self._opened_with:
                # Its mounts would be nobody's: whoever wants another home starts another server.
                raise BadOption(f"{self._opened_with[0]!r} is open already; serve {home!r} on a socket of its own")
            if self._driver is None:
                names = ("options", "uid_maps", "gid_maps")
                asked = {name: value for name, value in zip(names, wanted[1:], strict=True) if value}
                self._driver = self._open(home, **asked)
                self._opened_with = wanted

    def run(self) -> None:
        """Answer until :meth:`stop`. Layers that are mounted then stay mounted."""
        self._server.run()
        if self._driver is not None:
            self._driver.close()

    @property
    def waker(self) -> int:
        """For signal.set_wakeup_fd(), where :meth:`stop` is called by a signal handler."""
        return self._server.waker

    def stop(self) -> None:
        """Make :meth:`run` return, once the calls in progress have ended."""
        self._server.stop()

    def _answer(self, handler: Handler, path: str, body: Body) -> None:
        # Not urlsplit, which takes "//[" for the beginning of an address and raises.
        place, _, query = path.partition("?")
        service, _, call = place.lstrip("/").partition(".")
        try:
            if (service, call) == ("Plugin", "Activate"):
                body.drain()
                self._reply(handler, 200, {"Implements": ["GraphDriver"]})
            elif service == "GraphDriver" and call == "Diff":
                self._diff(handler, _fields(body))
            elif service == "GraphDriver" and call == "ApplyDiff":
                self._reply(handler, 200, self._apply_diff(_query(query), body))
            elif service == "GraphDriver" and call in self._calls:
                fields = _fields(body)
                self._reply(handler, 200, {"Err": "", **self._calls[call](fields)})
            else:
                body.drain()
                self._reply(handler, 404, {"Err": f"there is no call {place!r} in this protocol"})
        except BadMessage:
            raise  # what came is no request; the server says so
        except _BadRequest as error:
            handler.close_connection = True
            self._reply(handler, 400, {"Err": str(error)})
        except self._refusals as error:
            if isinstance(error, ConnectionError):
                raise
            handler.close_connection = handler.close_connection or not body.ended
            self._reply(handler, 200, {"Err": self._said(error)})
        except Exception as error:
            # A defect of the driver. The caller gets an answer, the log has the reason, and the server goes on.
            handler.close_connection = True
            _LOG.warning("%s failed: %s: %s", place, type(error).__name__, error)
            if not handler.headers_sent:
                self._reply(handler, 500, {"Err": f"the driver failed: {type(error).__name__}: {error}"})

    def _said(self, error: Exception) -> str:
        # What another class raises may have no words of its own, such as a KeyError.
        return str(error) if isinstance(error, (DriverError, OSError)) else f"{type(error).__name__}: {error}"

    def _reply(self, handler: Handler, status: int, answer: Mapping[str, Any]) -> None:
        handler.reply(status, json.dumps(answer).encode("ascii"), _CONTENT_TYPE)

    @property
    def _opened(self) -> Driver:
        if self._driver is None:
            raise BadOption("no home is open: call /GraphDriver.Init first")
        return self._driver

    def _init(self, fields: Fields) -> dict[str, Any]:
        home = _text(fields, "Home")
        if not home:
            raise _BadRequest("Init names no Home")
        options = [_name(_checked(option, str, "Opts"), "Opts") for option in _list(fields, "Opts")]
        self.open_home(home, options, _maps(fields, "UIDMaps"), _maps(fields, "GIDMaps"))
        return {}

    def _create(self, fields: Fields) -> dict[str, Any]:
        options = _options(fields)
        self._opened.create(_text(fields, "ID"), _text(fields, "Parent"), *((options,) if options else ()))
        return {}

    def _create_read_write(self, fields: Fields) -> dict[str, Any]:
        self._opened.create_read_write(_text(fields, "ID"), _text(fields, "Parent"), _options(fields))
        return {}

    def _remove(self, fields: Fields) -> dict[str, Any]:
        self._opened.remove(_text(fields, "ID"))
        return {}

    def _get(self, fields: Fields) -> dict[str, Any]:
        label = _text(fields, "MountLabel")
        return {"Dir": self._opened.get(_text(fields, "ID"), *((label,) if label else ()))}

    def _put(self, fields: Fields) -> dict[str, Any]:
        self._opened.put(_text(fields, "ID"))
        return {}

    def _exists(self, fields: Fields) -> dict[str, Any]:
        return {"Exists": self._opened.exists(_text(fields, "ID"))}

    def _status(self, _: Fields) -> dict[str, Any]:
        return {"Status": [list(pair) for pair in self._opened.status()]}

    def _metadata(self, fields: Fields) -> dict[str, Any]:
        return {"Metadata": self._opened.metadata(_text(fields, "ID"))}

    def _cleanup(self, _: Fields) -> dict[str, Any]:
        self._opened.cleanup()
        return {}

    def _changes(self, fields: Fields) -> dict[str, Any]:
        found = self._opened.changes(_text(fields, "ID"), _text(fields, "Parent"))
        return {"Changes": [{"Path": os.fsdecode(one.path), "Kind": _KINDS[one.kind]} for one in found]}

    def _diff_size(self, fields: Fields) -> dict[str, Any]:
        return {"Size": self._opened.diff_size(_text(fields, "ID"), _text(fields, "Parent"))}

    def _diff(self, handler: Handler, fields: Fields) -> None:
        try:
            with self._opened.diff(_text(fields, "ID"), _text(fields, "Parent")) as stream:
                block = stream.read(_LARGE)  # what fails at once can still be told
                handler.begin_stream("application/x-tar")
                while block:
                    handler.send_chunk(block)
                    block = stream.read(_LARGE)
            # Only now: who has read the end may clean up, and the diff has unmounted what it had mounted.
            handler.end_stream()
        except self._refusals as error:
            if isinstance(error, (ConnectionError, BadMessage)):
                raise
            if handler.headers_sent:
                handler.close_connection = True
                return
            self._reply(handler, 500, {"Err": self._said(error)})

    def _apply_diff(self, query: Mapping[str, str], body: Body) -> dict[str, Any]:
        layer_id, parent = query.get("id", ""), query.get("parent", "")
        return {"Size": self._opened.apply_diff(layer_id, parent, body), "Err": ""}


def _fields(body: Body) -> Fields:
    """The JSON object of a request; raises _BadRequest."""
    parts, size = [], 0
    while block := body.read(1 << 16):
        parts.append(block)
        size += len(block)
        if size > _REQUEST_MAX:
            raise _BadRequest(f"the request is longer than {_REQUEST_MAX} bytes")
    text = b"".join(parts).strip()
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise _BadRequest(f"the request is no JSON that can be read: {error}") from error
    if found is None:
        return {}
    return _checked(found, dict, "the request")


def _checked(value: Any, kind: type[_T], name: str) -> _T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _BadRequest(f"{name} should be of type {kind.__name__}, and is {type(value).__name__}")
    return value


def _text(fields: Fields, name: str) -> str:
    return _name(_checked(fields.get(name) or "", str, name), name)


def _name(text: str, what: str) -> str:
    """A text that can be a name for the kernel; raises BadOption, as any driver refuses such a name."""
    try:
        if b"\0" not in os.fsencode(text):
            return text
    except UnicodeEncodeError:
        raise BadOption(f"{what} is {text!r}, which has a surrogate that stands for no byte (PEP 383)") from None
    raise BadOption(f"{what} is {text!r}, which has a NUL byte")


def _query(text: str) -> Mapping[str, str]:
    """The fields of a query, each once; raises _BadRequest."""
    try:
        found = parse_qs(text, keep_blank_values=True, errors="surrogateescape", max_num_fields=_QUERY_MAX)
    except ValueError as error:
        raise _BadRequest(f"the query cannot be read: {error}") from error
    for name, values in found.items():
        if len(values) > 1:
            raise _BadRequest(f"the query has {name!r} more than once")
    return {name: _name(values[0], name) for name, values in found.items()}


def _is_transfer(path: str) -> bool:
    return path.partition("?")[0] in ("/GraphDriver.Diff", "/GraphDriver.ApplyDiff")


def _list(fields: Fields, name: str) -> Iterable[Any]:
    return _checked(fields.get(name) or [], list, name)


def _options(fields: Fields) -> dict[str, str]:
    given = _checked(fields.get("StorageOpt") or {}, dict, "StorageOpt")
    return {
        _name(key, "a key of StorageOpt"): _name(_checked(value, str, f"StorageOpt {key!r}"), f"StorageOpt {key!r}")
        for key, value in given.items()
    }


def _maps(fields: Fields, name: str) -> tuple[IdMap, ...]:
    return tuple(_map(_checked(one, dict, name), name) for one in _list(fields, name))


def _map(one: Fields, name: str) -> IdMap:
    numbers = []
    for lower, upper in _MAP_FIELDS:
        number = _checked(one.get(lower, one.get(upper, 0)), int, f"{name} {lower}")
        if not 0 <= number < 2**32:
            raise _BadRequest(f"{name} {lower} is {number}; it must be from 0 to {2**32 - 1}")
        numbers.append(number)
    return IdMap(*numbers)
