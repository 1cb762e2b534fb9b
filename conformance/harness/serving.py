"""What all worker processes share: a task from standard input, events to the channel, and no life after the parent.

A worker is started by conformance.harness.following, as ``python -m MODULE``, and its main function is one call of
:func:`serve`.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from conformance.drivers.registry import UnknownDriver, writable_of
from conformance.harness.channel import Channel, opened
from conformance.harness.events import Failed
from conformance.harness.host import confine
from conformance.harness.preflight import Unusable
from conformance.lab import namespace
from conformance.spec.values import from_plain


class Parented(Protocol):
    """A task that names the process which asks for it."""

    @property
    def parent(self) -> int:
        """The process id of the controller."""


T = TypeVar("T", bound=Parented)


def serve(kind: type[T], run: Callable[[T, Channel], None]) -> None:
    """Do one task of a type; returns when all events are written, whatever they say.

    Whatever ``run`` raises is the event :class:`Failed`: of the driver, if it cannot be reached or used.
    """
    gc.freeze()
    gc.enable()
    channel, said = opened()
    try:
        task = from_plain(kind, said)
        namespace.die_with_parent(task.parent)
        run(task, channel)
    except (UnknownDriver, Unusable) as error:
        channel.tell(Failed(str(error), of_driver=True))
    except BaseException:
        channel.tell(Failed(traceback.format_exc()))


def isolated(driver: str, scratch: Path, parent: int) -> None:
    """Go on in a PID namespace and in mounts of this process's own, where only a driver's directories are writable.

    Nothing that is started from here on outlives this process. Raises UnknownDriver.
    """
    outside = namespace.enter_pid_namespace()
    with suppress(namespace.NoNamespace):  # the run says so when it is prepared
        confine([scratch, *writable_of(driver)])
    if outside:
        namespace.die_with_parent(parent)  # a change of user namespace made the kernel forget it


@contextmanager
def logged(scratch: Path) -> Iterator[None]:
    """What is printed, by this process and by what it starts, goes to a file."""
    with (scratch / "log").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        with redirect_stdout(file), redirect_stderr(file):
            yield
