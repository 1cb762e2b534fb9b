"""Calls of an adapter under observation: how each one ended, how long it took, and what it read of a request."""

from __future__ import annotations

import resource
import signal
import statistics
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import FrameType
from typing import Any, Final

from conformance.drivers.protocol import DriverFailed, DriverRefused, OpenRequest
from conformance.harness.contained import Escaped
from conformance.harness.validating.values import Timing

_GRACE: Final = 5.0  # seconds beyond the limit of a call, in which an adapter ends it


@dataclass(frozen=True, slots=True)
class Answered:
    """The call returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """The adapter raised DriverRefused."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The adapter raised DriverFailed."""

    text: str


@dataclass(frozen=True, slots=True)
class Misplaced:
    """The answer is a path that nothing may use: of a wrong type, not there, or not in the store's directory."""

    text: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """The adapter raised something that is not of the protocol; ``where`` is the line of its code."""

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Endless:
    """The adapter did not end the call, and has no limit for it."""

    seconds: float


Outcome = Answered | Refused | Failed | Misplaced | Foreign | Endless


class _TooLong(BaseException):
    """Apart from what an adapter catches."""


@dataclass(frozen=True, slots=True)
class _Measured:
    seconds: float
    adapter: float
    commands: float | None


class Watch:
    """Makes calls and keeps the times of those that were answered. ``limit`` is in seconds, for one call."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._measured: dict[str, list[_Measured]] = defaultdict(list)

    def call(self, name: str, do: Callable[[], object]) -> Outcome:
        """How the call ended, whatever the adapter did. Its time is kept, unless the name is ""."""
        began, own, before = time.perf_counter(), time.thread_time(), _ended_processes()
        try:
            with self._alarm():
                value = do()
        except DriverRefused as error:
            return Refused(str(error))
        except DriverFailed as error:
            return Failed(str(error))
        except Escaped as error:
            return Misplaced(str(error))
        except _TooLong:
            return Endless(self._limit)
        except Exception as error:
            return Foreign(f"{type(error).__name__}: {error}", _where(error))
        seconds, own, after = time.perf_counter() - began, time.thread_time() - own, _ended_processes()
        commands = after[1] - before[1] if after != before else None
        if name:
            self._measured[name].append(_Measured(seconds, own, commands))
        return Answered(value)

    def started_a_process(self, name: str) -> bool | None:
        """Whether each answered call of this name started a process and waited for it; None if there was none."""
        found = self._measured.get(name)
        return all(one.commands is not None for one in found) if found else None

    def timings(self) -> Iterator[Timing]:
        """The medians, by call, in the order of the first calls."""
        for name, found in self._measured.items():
            commands = [one.commands for one in found if one.commands is not None]
            yield Timing(
                name,
                len(found),
                round(statistics.median(one.seconds for one in found), 6),
                round(statistics.median(one.adapter for one in found), 6),
                round(statistics.median(commands), 6) if len(commands) == len(found) else None,
            )

    @contextmanager
    def _alarm(self) -> Iterator[None]:
        def expire(number: int, frame: FrameType | None) -> None:
            del number, frame
            raise _TooLong

        former = signal.signal(signal.SIGALRM, expire)
        signal.setitimer(signal.ITIMER_REAL, self._limit + _GRACE)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)


def _ended_processes() -> tuple[int, float]:
    """A count that changes when a child process was waited for, and the CPU time of all of them in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_minflt + used.ru_majflt, used.ru_utime + used.ru_stime


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


class WatchedRequest(OpenRequest):
    """A request that knows which of its fields were read: an adapter passes on nothing that it does not read."""

    def __getattribute__(self, name: str) -> Any:
        if name in _FIELDS:
            object.__getattribute__(self, "__dict__").setdefault(name, True)
        return object.__getattribute__(self, name)


_FIELDS: Final = frozenset(one.name for one in fields(OpenRequest))


def watched(request: OpenRequest) -> WatchedRequest:
    """The same request, of which nothing was read yet."""
    found = WatchedRequest(**{name: getattr(request, name) for name in _FIELDS})
    object.__getattribute__(found, "__dict__").clear()
    return found


def was_read(request: WatchedRequest) -> frozenset[str]:
    """The fields that were read."""
    return frozenset(object.__getattribute__(request, "__dict__"))


class WatchedOptions(dict[str, str]):
    """Options of a layer that know whether anybody looked at what they are, and not only whether there are any."""

    looked = False

    def __iter__(self) -> Iterator[str]:
        self.looked = True
        return super().__iter__()

    def keys(self) -> Any:
        """The names of all options."""
        self.looked = True
        return super().keys()

    def values(self) -> Any:
        """Their values."""
        self.looked = True
        return super().values()

    def items(self) -> Any:
        """Names and values."""
        self.looked = True
        return super().items()

    def __getitem__(self, name: str) -> str:
        self.looked = True
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """One value."""
        self.looked = True
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.looked = True
        return super().__contains__(name)

    def __repr__(self) -> str:
        self.looked = True
        return super().__repr__()
