"""The process of a validation, in mounts of its own, as the worker of a run is.

It reads its task from standard input and reports each check, and then the times.
"""

from __future__ import annotations

from dataclasses import dataclass

from conformance.harness.channel import Teller
from conformance.harness.ending import end_on_sigterm
from conformance.harness.serving import serve
from conformance.harness.session import Session
from conformance.harness.validating.checks import checks
from conformance.harness.validating.examining import examine
from conformance.harness.validating.subject import Subject


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
    serve(Validating, lambda task, events: examine(task, events, _validate))


def _validate(subject: Subject, session: Session, events: Teller) -> bool:
    del session
    for check in checks(subject):
        events.tell(check)
    for timing in subject.watch.timings():
        events.tell(timing)
    return True


if __name__ == "__main__":
    main()
