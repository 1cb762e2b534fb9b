"""Calls to a containerd, over gRPC on its unix socket."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from conformance.adapters.containerd.wire import decode, encode
from conformance.driver import DriverRefused

_T = TypeVar("_T")
_LIMIT: Final = 300  # seconds; a call that takes longer hangs
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
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


class Client:
    """One connection, in one namespace of containerd (which its API keeps apart from all others)."""

    def __init__(self, address: str, namespace: str) -> None:
        self._grpc = load_grpc()
        self._metadata = (("containerd-namespace", namespace),)
        self._channel = self._grpc.insecure_channel(f"unix:{address}", options=_OPTIONS)

    def call(self, method: str, request: object, answer: type[_T]) -> _T:
        """One request, one answer; ``method`` is SERVICE/METHOD, such as ``snapshots/Stat``."""
        ask = self._channel.unary_unary(_full(method), encode, lambda data: decode(answer, data))
        with self._refusals():
            result: _T = ask(request, timeout=_LIMIT, metadata=self._metadata)
        return result

    def stream(self, method: str, request: object, answer: type[_T]) -> Iterator[_T]:
        """One request, many answers."""
        ask = self._channel.unary_stream(_full(method), encode, lambda data: decode(answer, data))
        with self._refusals():
            yield from ask(request, timeout=_LIMIT, metadata=self._metadata)

    def send(self, method: str, requests: Iterable[object], answer: type[_T]) -> list[_T]:
        """Many requests, and all the answers."""
        ask = self._channel.stream_stream(_full(method), encode, lambda data: decode(answer, data))
        with self._refusals():
            return list(ask(iter(requests), timeout=_LIMIT, metadata=self._metadata))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except self._grpc.RpcError as error:
            raise Refused(error.code().name, error.details()) from error

    def close(self) -> None:
        """End the connection."""
        self._channel.close()


def _full(method: str) -> str:
    service, _, name = method.partition("/")
    return f"/containerd.services.{service}.v1.{service.capitalize()}/{name}"
