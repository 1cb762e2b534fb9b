"""The pipe on which a worker tells the controller what happens, kept from everything that the worker runs.

A driver, or a command that it starts, writes to descriptor 1 whatever it likes. The worker therefore moves the pipe
away from descriptor 1 before it runs anything, closes it in whatever it executes, and begins each line with a token
that only the two ends know. A line without it is not an event.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import secrets
import sys
from typing import Any, Final, Protocol

from conformance.harness.events import CHANNEL, Event

_HIGHEST: Final = 1000  # below the usual limit of 1024 descriptors
_LENGTH: Final = 32  # hexadecimal digits


class Teller(Protocol):
    """Where events go."""

    def tell(self, event: Event, /) -> None:
        """Write one event."""


class Channel:
    """The worker's end."""

    def __init__(self, descriptor: int, token: str) -> None:
        self._descriptor = descriptor
        self._token = token

    def tell(self, event: Event) -> None:
        """Write one event as a line, whole."""
        left = memoryview(f"{self._token} {json.dumps(CHANNEL.plain(event))}\n".encode())
        while left:
            left = left[os.write(self._descriptor, left) :]

    def close(self) -> None:
        """For a child that is not to write."""
        os.close(self._descriptor)


def opened() -> tuple[Channel, Any]:
    """The channel, and the task from standard input; descriptors 0 and 1 are /dev/null afterwards."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    place = min(_HIGHEST, limit - 2) if limit > 8 else 3
    channel = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, place)
    token, _, task = sys.stdin.read().partition("\n")
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return Channel(channel, token), json.loads(task)


def new_token() -> str:
    """A token for one worker."""
    return secrets.token_hex(_LENGTH // 2)


def event_of(line: bytes, token: str) -> Event | None:
    """The event of a line, None for one that this version does not know.

    Raises ValueError for a line that the worker did not write, and BadValue for an event that is malformed.
    """
    begun, _, said = line.partition(b" ")
    if not secrets.compare_digest(begun, token.encode()):
        raise ValueError("the line does not begin with the token of this run")
    event = json.loads(said)
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError("not an object with the key 'event'")
    return CHANNEL.value(event)
