"""What this host can test, found out by trying it: a process in mounts of its own, for one privilege level.

It reads its task from standard input and reports one event, like the worker of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conformance.harness.channel import Teller
from conformance.harness.events import Examined, Finished
from conformance.harness.host import prepare
from conformance.harness.serving import serve
from conformance.harness.session import Session, Wish
from conformance.lab.backing import BACKINGS
from conformance.spec import load_requirements


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the controller asks for."""

    scratch: str
    parent: int


def main() -> None:
    """Diagnose one privilege level; exits with 0 when the event is reported."""
    serve(Diagnosis, _diagnose)


def _diagnose(task: Diagnosis, events: Teller) -> None:
    # The filesystem of the directory is "host"; the others are made in it, where that can be done.
    names = ("host", *(one.name for one in BACKINGS))
    session = prepare(Wish("", "smoke", 1, tuple(load_requirements()), names), Path(task.scratch))
    events.tell(_found(session))
    events.tell(Finished())


def _found(session: Session) -> Examined:
    made = {place.backing: place.unfit for place in session.places}
    missing = {one.name: _why(one.name, session) for one in BACKINGS if one.name not in made}
    return Examined(session.lane, session.lacking, made, missing)


def _why(name: str, session: Session) -> str:
    """Why a filesystem was not made: the note that begins with its name."""
    notes = [note.removeprefix(f"{name}: ") for note in session.notes if note.startswith(f"{name}: ")]
    return notes[0] if notes else session.lacking.get("mounts", "not tried")


if __name__ == "__main__":
    main()
