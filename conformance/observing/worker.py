"""The process that observes: in mounts of its own, as the worker of a run is. It reports each observation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from conformance.harness.channel import Teller
from conformance.harness.ending import end_on_sigterm
from conformance.harness.events import Failed
from conformance.harness.observation import Observation
from conformance.harness.serving import serve
from conformance.harness.session import Session
from conformance.harness.validating.examining import examine
from conformance.harness.validating.subject import Opening, Subject
from conformance.harness.validating.watch import Answered, Endless, Foreign, Misplaced, Outcome, Refused
from conformance.harness.validating.watch import Failed as CallFailed
from conformance.history.calls import ApplyDiff, Close, Create, Get, Put
from conformance.history.printable import one_line
from conformance.observing import seeing
from conformance.observing.question import REFUSED, Case, Question
from conformance.observing.questions import cases
from conformance.observing.seeing import Seen
from conformance.observing.task import Task
from conformance.operations import archives
from conformance.operations.archives import directory, file
from conformance.operations.observe import observe
from conformance.operations.trees import Node

FAILED: Final = "call fails"
_SHOWN: Final = 200  # characters of a refusal


def main() -> None:
    """Observe one driver; exits with 0 when all events are reported, whatever they say."""
    end_on_sigterm()
    serve(Task, lambda task, events: examine(task, events, partial(_observe, task.only)))


def _observe(only: Sequence[str], subject: Subject, session: Session, events: Teller) -> bool:
    """Report the observations of some cases, or of all; or why nothing can be observed."""
    if reason := subject.lacks("apply"):
        events.tell(Failed(f"the driver applies no archives: {reason}", of_driver=True))
        return False
    privileged = session.privileged and not subject.source.unprivileged
    try:
        if reason := useless(subject):
            events.tell(Failed(reason, of_driver=True))
            return False
        for case in cases():
            if (not only or case.name in only) and (privileged or not case.root):
                for observation in observations(subject, case):
                    events.tell(observation)
    finally:
        subject.watch.call("", subject.source.close)
    return True


def useless(subject: Subject) -> str:
    """Why nothing can be learned of a driver that does not show two plain layers, else ""."""
    shown = (directory("d"), file("d/f"), file("a")), (directory("d"), file("d/g"), file("b"))
    question = Question("plain", "two plain layers", seeing.names({seeing.KEPT: ("a", "b", "d", "d/f", "d/g")}))
    (found,) = observations(subject, Case("plain", shown, (question,)))
    if found.value == seeing.KEPT:
        return ""
    said = found.detail or f"shows {found.value}"
    return f"the driver does not show two plain layers, so no answer would tell anything: {said}"


def observations(subject: Subject, case: Case) -> Iterator[Observation]:
    """The answers to the questions of one case, in a store of its own."""
    found = _seen(subject, case)
    for question in case.questions:
        if isinstance(found, Seen):
            yield Observation(case.name, question.name, question.read(found))
        else:
            value, detail = found
            yield Observation(case.name, question.name, value, _end(detail.replace(str(subject.directory), "...")))


def _seen(subject: Subject, case: Case) -> Seen | tuple[str, str]:
    """The tree of the last layer, or how it was refused, with the words."""
    opening, outcome, _ = subject.open(case.name)
    if opening is None:
        return _said(outcome)
    parent = ""
    try:
        for number, layer in enumerate(case.layers):
            name = f"layer-{number}"
            data = layer if isinstance(layer, bytes) else archives.archive(layer)
            opening.archive(f"{name}.tar").write_bytes(data)
            for call in (Create(name, parent), ApplyDiff(name, parent, f"{name}.tar")):
                outcome = opening.do(call)
                if not isinstance(outcome, Answered):
                    return _said(outcome)
            parent = name
        return _shown(opening, parent)
    finally:
        opening.do(Close())


def _shown(opening: Opening, layer: str) -> Seen | tuple[str, str]:
    outcome = opening.do(Get(layer))
    if not isinstance(outcome, Answered):
        return _said(outcome)
    try:
        return seen_at(outcome.value)
    finally:
        opening.do(Put(layer))


def seen_at(root: str) -> Seen:
    """What is below a directory that is a layer's tree."""
    tree = observe(root)
    status = os.stat(root)
    node = Node(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
    paths = [path for path, one in tree.nodes.items() if one.is_regular or one.is_directory]
    return Seen(tree, node, {path: _xattrs(os.path.join(os.fsencode(root), path)) for path in paths})


def _xattrs(path: bytes) -> Mapping[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _end(text: str) -> str:
    """The end of a complaint on one line: programs say the reason last."""
    said = one_line(text)
    return said if len(said) <= _SHOWN else f"... {said[-_SHOWN:]}"


def _said(outcome: Outcome) -> tuple[str, str]:
    match outcome:
        case Refused(text):
            return REFUSED, text
        case CallFailed(text) | Misplaced(text) | Foreign(text, _):
            return FAILED, text
        case Endless(seconds):
            return FAILED, f"no answer within {seconds:g} s"
        case Answered():
            raise AssertionError("an answer is no refusal")


if __name__ == "__main__":
    main()
