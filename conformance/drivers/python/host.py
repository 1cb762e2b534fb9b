"""The process of a driver that is a Python class: calls it for the harness, which is on the other side of a socket.

A driver is not trusted: it runs below a supervisor (conformance.lab.supervisor), and what goes back is JSON, which
the harness checks (hosting.py beside this file). Frames are four bytes of length (little-endian) and an object.

A request has a ``number``, ``do``, the opening that it is about as ``on``, and the arguments. The answer has the
same number, and one of ``done``, the answer of the call; ``refused``, the driver's own words; ``failed``, what is
no answer of a driver, with ``detail``; ``broken``, an error that is not the driver's.

The harness's main thread is served by this process's main thread, for drivers that care (signal(2) handlers). Any
other connection comes as a descriptor over the control socket and has a thread of its own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import io
import json
import os
import re
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from conformance.drivers.python.defects import is_refusal
from conformance.drivers.python.loading import class_of
from conformance.lab.supervisor import Options, supervise

MOST: Final = 64 << 20  # bytes of an answer
STACK: Final = signal.SIGUSR2  # prints the stacks of all threads, also while C code holds the interpreter's lock
LOST: Final = 121  # exit status: the driver closed the descriptors through which it is called
_BLOCK: Final = 1 << 20
_OF_OTHERS: Final = re.compile(r"/conformance/|/lib/python3|site-packages|^<")  # files that are not the driver's
_TEXT: Final = 64 << 10  # characters of an error that are kept


_METHODS: Final = {
    "metadata": "metadata",
    "status": "status",
    "diff": "diff",
    "apply": "apply_diff",
    "changes": "changes",
    "diff-size": "diff_size",
}
_ARGUMENTS: Final = {"options": "options", "image-stores": "options", "id-maps": "uid_maps"}  # of the class
_POSITIONS: Final = {  # the method, and how many arguments it is called with, self included
    "create-options": ("create", 4),
    "layer-options": ("create_read_write", 4),
    "labels": ("get", 3),
}
_NUMERALS: Final = ("", "first", "second", "third")
_VARIABLE, _KEYWORDS = 4, 8  # CO_VARARGS and CO_VARKEYWORDS of inspect, which takes long to import


class WrongType(Exception):
    """An answer of a driver has a type that its call does not have; the text says which, and what was expected."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(f"expected {expected}, got {_name_of(value)}")


class _Closed(Exception):
    """The call is about an opening that was closed."""


class _Broken(Exception):
    """What the harness asked cannot be done, and the driver has no part in it."""


def _name_of(value: object) -> str:
    return str(type.__dict__["__name__"].__get__(type(value)))  # not what a metaclass says


class _Opening:
    """One driver object, and what it was opened with."""

    def __init__(self, factory: Callable[..., Any], home: str, asked: dict[str, Any], umask: int | None) -> None:
        self.home = home
        self.asked = asked
        self.umask = umask
        self._before = os.umask(umask) if umask is not None else None
        try:
            self.driver = factory(home, **asked)
        except BaseException:
            self._restore()
            raise

    def _restore(self) -> None:
        if self._before is not None:
            os.umask(self._before)

    def leave(self) -> None:
        """Let go of what the driver holds open."""
        try:
            close = getattr(self.driver, "close", None)
            if close is not None:
                close()
        finally:
            self._restore()


def _create_read_write(driver: Any, layer: str, parent: str, options: dict[str, str]) -> None:
    """Without options, a driver that has one kind of layer needs no call of its own."""
    if options:
        driver.create_read_write(layer, parent, options)
    else:
        getattr(driver, "create_read_write", driver.create)(layer, parent)


class _Host:
    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name
        self._environment = dict(os.environ)
        self._openings: dict[int, _Opening] = {}
        self._calls: dict[str, Callable[..., Any]] = {
            "create": lambda driver, layer, parent: driver.create(layer, parent),
            "create_with_options": lambda driver, layer, parent, options: driver.create(layer, parent, options),
            "create_read_write": _create_read_write,
            "remove": lambda driver, layer: driver.remove(layer),
            "get": lambda driver, layer, label: _path_or_other(driver.get(layer, *([label] if label else []))),
            "put": lambda driver, layer: driver.put(layer),
            "exists": lambda driver, layer: _of(bool, "bool", driver.exists(layer)),
            "status": lambda driver: _words(driver.status()),
            "metadata": lambda driver, layer: _words(driver.metadata(layer)),
            "diff": _diff,
            "apply_diff": _apply_diff,
            "diff_size": lambda driver, layer, parent: _size(driver.diff_size(layer, parent), "int"),
            "changes": lambda driver, layer, parent: _changes(driver.changes(layer, parent)),
            "cleanup": lambda driver: driver.cleanup(),
        }
        self._without_answer = frozenset(
            ("create", "create_with_options", "create_read_write", "remove", "put", "cleanup")
        )

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; whatever the driver raises is in it."""
        do, on = request.pop("do"), request.pop("on", 0)
        try:
            return {"done": self._done(do, on, request)}
        except _Broken as error:
            return {"broken": str(error)}
        except _Closed:
            return {"refused": f"{do}: the store was closed"}
        except WrongType as error:
            return {"failed": f"{do} answered with a wrong type: {error}"}
        except BaseException as error:
            said = f"{_name_of(error)}: {_text_of(error)}"
            if is_refusal(error) or (do == "describe" and isinstance(error, Exception)):
                # A module that cannot be imported is not judged.
                return {"refused": said, "kind": _name_of(error), "error": _system_error(error)}
            said = f"{do} raised {said} (which is no refusal)"
            return {"failed": said, "detail": _traceback(), "defect": _place_of(error)}

    def changed_variables(self) -> list[str]:
        """The variables of the environment that are not as they were when the process began."""
        now = dict(os.environ)
        if now == self._environment:
            return []
        return sorted({name for name, _ in now.items() ^ self._environment.items()})

    def _done(self, do: str, on: int, arguments: dict[str, Any]) -> Any:
        match do:
            case "describe":
                return self._described()
            case "open":
                self._openings[on] = _Opening(self._factory(), **arguments)
                return None
            case "reopen":
                old = self._openings.pop(arguments["opening"])
                old.leave()
                # The same objects for every opening, as a caller has them who keeps its options.
                self._openings[on] = _Opening(self._factory(), old.home, old.asked, old.umask)
                return None
            case "close":
                opening = self._openings.pop(on, None)
                if opening:
                    opening.leave()
                return None
        if on not in self._openings:
            raise _Closed
        answer = self._calls[do](self._openings[on].driver, **arguments)
        return None if do in self._without_answer else answer

    def _factory(self) -> Callable[..., Any]:
        """The class; raises _Broken, with what to do next, if there is none."""
        try:
            return class_of(self._module, self._name)
        except ImportError as error:
            raise _Broken(str(error)) from error

    def _described(self) -> dict[str, Any]:
        declined = getattr(self._factory(), "declined_capabilities", {})
        where = f"{self._module}.{self._name}.declined_capabilities"
        if not isinstance(declined, Mapping):
            raise _Broken(f"{where} is a mapping of capabilities to reasons, not {_name_of(declined)}")
        try:
            said = _words(declined)
        except WrongType as error:
            raise _Broken(f"{where}: {error}") from error
        absent = _words(_absent(self._factory()))
        return {"version": _version_of(self._module), "declined": said, "absent": absent}


def _absent(factory: Any) -> dict[str, str]:
    """What a capability needs, by the capability, where the class certainly has no such method or argument."""
    if not isinstance(factory, type) or hasattr(factory, "__getattr__"):
        return {}
    methods = {one: f"method {name!r}" for one, name in _METHODS.items() if not hasattr(factory, name)}
    arguments = {
        one: f"argument {name!r} of __init__"
        for one, name in _ARGUMENTS.items()
        if not _takes(factory, "__init__", keyword=name)
    }
    positions = {
        one: f"{_NUMERALS[count - 1]} argument of {name!r}"
        for one, (name, count) in _POSITIONS.items()
        if not _takes(factory, name, count=count)
    }
    return methods | arguments | positions


def _takes(factory: type, method: str, *, keyword: str = "", count: int = 0) -> bool:
    """Whether a method takes this argument; what is no function of Python is taken to take it."""
    code = getattr(getattr(factory, method, None), "__code__", None)
    if code is None:
        return True
    if keyword:
        named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return keyword in named or bool(code.co_flags & _KEYWORDS)
    return bool(code.co_argcount >= count or code.co_flags & _VARIABLE)


def _version_of(module_name: str) -> str:
    package = module_name.partition(".")[0]
    # What is installed in place (pip install --editable) is in no distribution's list of packages.
    own = getattr(importlib.import_module(package), "__version__", None)
    if own is not None:
        return str(own) or "unknown"
    from importlib import metadata  # half of the time that this process takes to start

    distributions = metadata.packages_distributions().get(package, [])
    return metadata.version(distributions[0]) if distributions else "unknown"


def _of(kind: type, expected: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise WrongType(expected, value)
    return value


def _path_or_other(value: object) -> object:
    """The path, or what came instead: a value of JSON as it is, any other by its type."""
    # OVL-MOUNT-CONTAINED judges it: no path of a wrong type is an answer like others.
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(path, str):
        return str.__str__(path)
    if type(path) is int and not _fits(path):
        return {"type": "int"}
    return path if path is None or type(path) in (bool, int, float) else {"type": _name_of(path)}


def _fits(number: int) -> bool:
    """Whether 64 bits hold it; longer numbers have no words, of which JSON consists."""
    return -(1 << 63) <= number < 1 << 63


def _size(value: object, expected: str) -> int:
    if isinstance(value, bool):
        raise WrongType(expected, value)
    number = int.__int__(_of(int, expected, value))
    if not _fits(number):
        raise WrongType(f"{expected} of 64 bits", value)
    return number


def _words(value: Any) -> list[tuple[str, str]]:
    """Names and values of a mapping, or of pairs."""
    expected = "a mapping of str to str"
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise WrongType(expected, value)
    found = list(value.items() if isinstance(value, Mapping) else value)
    for pair in found:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise WrongType(f"{expected}, with pairs", pair)
        for one in pair:
            _of(str, expected, one)
    return [(name, text) for name, text in found]


def _changes(value: Any) -> list[tuple[str, str]]:
    """Paths, a character for each byte, and names of kinds."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise WrongType("a list of changes", value)
    found, size = [], 0
    for change in value:
        if not hasattr(change, "path") or not hasattr(change, "kind"):
            raise WrongType("a list of changes, with path and kind", change)
        path = _of(bytes, "a list of changes with path as bytes", change.path)
        kind = getattr(change.kind, "name", None)
        found.append((path.decode("latin-1"), _of(str, "a list of changes with kind.name as str", kind).lower()))
        size += len(path)
        if size > MOST:
            raise WrongType(f"a list of changes below {MOST} bytes", value)
    return found


def _diff(driver: Any, layer: str, parent: str, archive: str, piece: int = _BLOCK, most: int = -1) -> None:
    stream = driver.diff(layer, parent)
    if not hasattr(stream, "read") or not (hasattr(stream, "close") or hasattr(type(stream), "__enter__")):
        raise WrongType("a binary stream", stream)
    closing = stream if hasattr(type(stream), "__enter__") else contextlib.closing(stream)
    with closing, _opened(archive, "wb") as file:
        left = most
        while left and (block := stream.read(min(piece, left) if left > 0 else piece)):
            if not isinstance(block, (bytes, bytearray, memoryview)):
                raise WrongType("a binary stream of bytes", block)
            file.write(block)
            left = max(0, left - len(block)) if left > 0 else left


def _apply_diff(driver: Any, layer: str, parent: str, archive: str, piece: int = 0) -> int | None:
    with _opened(archive, "rb") as file:
        size = driver.apply_diff(layer, parent, _reader(file, piece) if piece else file)
        return None if size is None else _size(size, "int or None")


def _reader(file: Any, piece: int) -> Any:
    """What has nothing but read, as an archive from a network or a decompressor may."""

    def read(size: int | None = -1) -> Any:
        return file.read(size if size is None or size < 0 else min(size, piece))

    return types.SimpleNamespace(read=read)


def _opened(archive: str, mode: str) -> Any:
    try:
        return open(archive, mode, buffering=0 if mode == "rb" else -1)
    except OSError as error:
        raise _Broken(str(error)) from error


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT]
    except BaseException as other:
        return f"(its text cannot be had: {_name_of(other)})"


def _system_error(error: BaseException) -> str:
    """The text of the error of a system call; "" for any other exception."""
    try:
        return os.strerror(error.errno) if isinstance(error, OSError) and type(error.errno) is int else ""
    except BaseException:  # an attribute of a class of the driver's own
        return ""


def _place_of(error: BaseException) -> str:
    """The last function of the driver that an exception came through, and its file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not _OF_OTHERS.search(one.filename)]
    return f"{own[-1].name} of {os.path.basename(own[-1].filename)}"[:_TEXT] if own else ""


def _traceback() -> str:
    try:
        return traceback.format_exc()[-_TEXT:]
    except BaseException as other:
        return f"(its traceback cannot be had: {_name_of(other)})"


def _serve(host: _Host, connection: socket.socket) -> None:
    """Answer requests until the other side closes its end."""
    own = os.getpid()
    try:
        while True:
            content = _request(connection)
            if not content:
                return
            request = json.loads(content)
            number = request.pop("number")
            answer = {**host.answer(request), "environment": host.changed_variables()}
            if os.getpid() != own:
                os._exit(0)  # a child that the driver forked, and that came back from the call too
            content = json.dumps({"number": number, **answer}).encode("ascii")
            if len(content) > MOST:
                answer = {"failed": f"the driver answered with more than {MOST} bytes"}
                content = json.dumps({"number": number, **answer}).encode("ascii")
            connection.sendall(len(content).to_bytes(4, "little") + content)
    except BaseException:
        os._exit(LOST)


def _request(connection: socket.socket) -> bytes:
    """The whole of a request, which the other side sends one after the other; nothing at the end."""
    found = connection.recv(_BLOCK)
    while found and (len(found) < 4 or len(found) < 4 + int.from_bytes(found[:4], "little")):
        found += connection.recv(_BLOCK)
    return found[4:]


def _let_in(host: _Host, control: socket.socket) -> None:
    """Serve each connection that comes, in a thread of its own."""
    try:
        while True:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not descriptors:
                return
            connection = socket.socket(fileno=descriptors[0])
            threading.Thread(target=_serve, args=(host, connection), daemon=True).start()
    except OSError:
        os._exit(LOST)


def _become(host: _Host, connection: socket.socket, control: socket.socket) -> None:
    # Anew, as the descriptors are pipes now; and line by line, so that nothing is lost when the process dies.
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(one, "w", closefd=False), errors="backslashreplace", write_through=True)
        for one in (1, 2)
    )
    faulthandler.enable()
    faulthandler.register(STACK, all_threads=True)
    # Threads take turns as often as they can, or each call would mostly be done in one turn.
    sys.setswitchinterval(1e-6)
    threading.Thread(target=_let_in, args=(host, control), daemon=True).start()
    _serve(host, connection)
    os._exit(0)


def main() -> None:
    """Arguments: options of the supervisor, the descriptors of the two sockets, and MODULE and CLASS."""
    options, descriptors, (module, name) = Options.from_json(sys.argv[1]), sys.argv[2:4], sys.argv[4:]
    sys.argv = [sys.argv[0]]
    connection, control = (socket.socket(fileno=int(one)) for one in descriptors)
    for one in (connection, control):
        one.set_inheritable(False)
    host = _Host(module, name)
    own = (connection.fileno(), control.fileno())
    supervise(options, lambda: _become(host, connection, control), own)
