"""Calls to a containerd, over gRPC on its unix socket."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from conformance.drivers.containerd import messages
from conformance.drivers.containerd.wire import decode, encode
from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused

_T = TypeVar("_T")
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 << 20),  # bytes; archives come in pieces
    ("grpc.default_authority", "localhost"),  # a socket's path makes no host name, which the server asks for
    ("grpc.use_local_subchannel_pool", 1),  # a socket at the same path may be another daemon's next time
)


class Refused(DriverRefused):
    """What containerd answered, with the name of the gRPC status."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code


def load_grpc() -> Any:
    """The module grpc; raises ImportError with what to do."""
    try:
        return importlib.import_module("grpc")
    except ImportError as error:
        raise ImportError(
            f"containerd is reached by gRPC ({error}); pip install 'overlay-conformance[containerd]'"
        ) from error


class Exchange(Generic[_T]):
    """A call with many requests and many answers; ``next`` raises what other calls raise."""

    def __init__(self, client: Client, method: str, call: Any) -> None:
        self._client, self._method, self._call = client, method, call

    def next(self) -> _T:
        """The next answer."""
        with self._client.answered(self._method):
            answer: _T = next(self._call)
        return answer

    def next_or_none(self) -> _T | None:
        """The next answer, None after the end of the call."""
        try:
            return self.next()
        except (DriverRefused, DriverFailed, StopIteration):
            return None

    def cancel(self) -> None:
        """End the call, whoever waits for an answer."""
        self._call.cancel()


class Client:
    """One connection, in one namespace of containerd (which its API keeps apart from all others).

    ``ended`` says how the daemon ended, if it is known; "". ``stack`` says where it stands.
    """

    def __init__(
        self,
        address: str,
        namespace: str,
        limit: CallLimit | None = None,
        ended: Callable[[], str] = lambda: "",
        stack: Callable[[], str] = lambda: "",
    ) -> None:
        self._limit = limit or CallLimit()
        self._ended = ended
        self._stack = stack
        self._grpc = load_grpc()
        self._closed = False
        self._metadata: tuple[tuple[str, str], ...] = (("containerd-namespace", namespace),)
        self._channel = self._grpc.insecure_channel(f"unix:{address}", options=_OPTIONS)

    def call(self, method: str, request: object, answer: type[_T]) -> _T:
        """One request, one answer; ``method`` is SERVICE/METHOD, such as ``snapshots/Stat``."""
        ask = self._channel.unary_unary(_full(method), encode, lambda data: decode(answer, data))
        with self.answered(method) as seconds:
            result: _T = ask(request, timeout=seconds, metadata=self._metadata)
        return result

    def stream(self, method: str, request: object, answer: type[_T]) -> Iterator[_T]:
        """One request, many answers."""
        ask = self._channel.unary_stream(_full(method), encode, lambda data: decode(answer, data))
        with self.answered(method) as seconds:
            yield from ask(request, timeout=seconds, metadata=self._metadata)

    def send(self, method: str, requests: Iterable[object], answer: type[_T]) -> list[_T]:
        """Many requests, and all the answers."""
        ask = self._channel.stream_stream(_full(method), encode, lambda data: decode(answer, data))
        with self.answered(method) as seconds:
            return list(ask(iter(requests), timeout=seconds, metadata=self._metadata))

    def exchange(self, method: str, requests: Iterable[object], answer: type[_T]) -> Exchange[_T]:
        """Many requests and many answers, each when it comes."""
        ask = self._channel.stream_stream(_full(method), encode, lambda data: decode(answer, data))
        with self.answered(method) as seconds:
            return Exchange(self, method, ask(iter(requests), timeout=seconds, metadata=self._metadata))

    @contextmanager
    def lease(self) -> Iterator[None]:
        """What calls in this context make is not garbage before its end, which collects garbage (leases.proto)."""
        name = f"lease-{uuid.uuid4().hex}"
        self.call("leases/Create", messages.NewLease(name), messages.Empty)
        before, self._metadata = self._metadata, (*self._metadata, ("containerd-lease", name))
        try:
            yield
        finally:
            self._metadata = before
            self.call("leases/Delete", messages.DeleteLease(name, sync=1), messages.Empty)

    @contextmanager
    def answered(self, method: str) -> Iterator[float]:
        """The seconds that a call may take; what it raises otherwise becomes what a driver may say."""
        if self._closed:
            raise Refused("UNAVAILABLE", f"{method}: the store was closed")
        seconds = self._limit.left()
        began = time.monotonic()
        try:
            yield seconds
        except self._grpc.RpcError as error:
            code = error.code().name
            # The deadline of the call, and none of containerd's own.
            if code == "DEADLINE_EXCEEDED" and time.monotonic() >= began + seconds:
                raise self._limit.exceeded(method, self._stack()) from error
            if code in ("UNAVAILABLE", "CANCELLED") and (how := self._ended()):
                raise DriverFailed(f"containerd {how} in {method}", self._stack()) from error
            if code == "RESOURCE_EXHAUSTED" and "larger than max" in (error.details() or ""):
                raise DriverFailed(f"{method} answered with too long a message: {error.details()}") from error
            raise Refused(code, error.details()) from error

    def close(self) -> None:
        """End the connection; calls that come later are refused."""
        self._closed = True
        self._channel.close()


def _full(method: str) -> str:
    service, _, name = method.partition("/")
    return f"/containerd.services.{service}.v1.{service.capitalize()}/{name}"
