"""The process of a validation, in mounts of its own, as the worker of a run is.

It reads its task from standard input and reports each check, and then the times.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conformance.drivers.protocol import CallLimit
from conformance.drivers.registry import KINDS, connect, writable_of
from conformance.harness.channel import Teller
from conformance.harness.ending import end_on_sigterm
from conformance.harness.events import Failed, Finished, Opened
from conformance.harness.host import prepare
from conformance.harness.serving import isolated, logged, serve
from conformance.harness.session import Wish
from conformance.harness.validating.checks import checks
from conformance.harness.validating.subject import Subject
from conformance.harness.validating.watch import Watch


@dataclass(frozen=True, slots=True)
class Validating:
    """What the controller asks for; ``call_timeout`` is in seconds."""

    driver: str
    scratch: str
    parent: int
    call_timeout: float


def main() -> None:
    """Validate one adapter; exits with 0 when all events are reported, whatever they say."""
    end_on_sigterm()
    serve(Validating, _confined)


def _confined(task: Validating, events: Teller) -> None:
    scratch = Path(task.scratch)
    isolated(task.driver, scratch, task.parent)
    source = connect(task.driver)
    with logged(scratch):
        writable = (scratch, *writable_of(task.driver))
        session = prepare(Wish(task.driver, "smoke", 1, (), (), writable=writable), scratch)
        info = source.info
        events.tell(
            Opened(info.name, info.version, session.lane, (), info.declined, session.lacking, (), info.absent)
        )
        usable = [place for place in session.places if not place.missing and not place.unfit]
        if not usable:
            events.tell(Failed("no directory here can hold layers; name another one by --scratch"))
            return
        directory = Path(usable[0].directory) / "validated"
        directory.mkdir()
        own = task.driver.partition(":")[0] in KINDS
        watch = Watch(task.call_timeout)
        subject = Subject(source, own, directory, session.lacking, CallLimit(task.call_timeout), watch)
        for check in checks(subject):
            events.tell(check)
        for timing in watch.timings():
            events.tell(timing)
    events.tell(Finished())


if __name__ == "__main__":
    main()
