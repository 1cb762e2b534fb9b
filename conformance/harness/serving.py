"""What all worker processes share: a task from standard input, events to the channel, and no life after the parent.

A worker is started by ``python -m MODULE`` (conformance.harness.following), and its main function is one call of
:func:`serve`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

from conformance.drivers.registry import UnknownDriver
from conformance.harness.channel import Channel, opened
from conformance.harness.events import Failed
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
    channel, said = opened()
    try:
        task = from_plain(kind, said)
        namespace.die_with_parent(task.parent)
        run(task, channel)
    except (UnknownDriver, Unusable) as error:
        channel.tell(Failed(str(error), of_driver=True))
    except BaseException:
        channel.tell(Failed(traceback.format_exc()))
