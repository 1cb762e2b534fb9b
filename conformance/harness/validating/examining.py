"""A driver that is opened, but not judged: what the workers of ``validate-adapter`` and ``observe`` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from conformance.drivers.protocol import CallLimit
from conformance.drivers.registry import KINDS, connect, writable_of
from conformance.harness.channel import Teller
from conformance.harness.events import Failed, Finished, Opened
from conformance.harness.host import prepare
from conformance.harness.serving import Parented, isolated, logged
from conformance.harness.session import Session, Wish
from conformance.harness.validating.subject import Subject
from conformance.harness.validating.watch import Watch
from conformance.lab import mountinfo


class Examining(Parented, Protocol):
    """A task that names a driver, the scratch directory, and the time limit of a call in seconds."""

    @property
    def driver(self) -> str:
        """The connection string."""

    @property
    def scratch(self) -> str:
        """The directory of everything that the examination writes."""

    @property
    def call_timeout(self) -> float:
        """Seconds."""


def examine(task: Examining, events: Teller, look: Callable[[Subject, Session, Teller], bool]) -> None:
    """Isolate this process, report what was opened, and look at it; ``look`` says whether it came to its end.

    Otherwise it has reported why.
    """
    scratch = Path(task.scratch)
    isolated(task.driver, scratch, task.parent)
    source = connect(task.driver)
    with logged(scratch):
        writable = (scratch, *writable_of(task.driver))
        session = prepare(Wish(task.driver, "smoke", 1, (), (), writable=writable), scratch)
        usable = [place for place in session.places if not place.missing and not place.unfit]
        backings = tuple(_filesystem(place.directory) for place in usable[:1])
        info = source.info
        events.tell(
            Opened(info.name, info.version, session.lane, backings, info.declined, session.lacking, (), info.absent)
        )
        if not usable:
            events.tell(Failed("no directory here can hold layers; name another one by --scratch"))
            return
        directory = Path(usable[0].directory) / "examined"
        directory.mkdir()
        own = task.driver.partition(":")[0] in KINDS
        watch = Watch(task.call_timeout)
        subject = Subject(source, own, directory, session.lacking, CallLimit(task.call_timeout), watch)
        if not look(subject, session, events):
            return
    events.tell(Finished())


def _filesystem(directory: str) -> str:
    over = mountinfo.covering(mountinfo.mounts(), os.path.realpath(directory))
    return over.fstype if over else "unknown"
