"""All checks of one adapter, in order."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from conformance.harness.validating.known_good import TREE, known_good, lacking_methods
from conformance.harness.validating.passing import (
    layer_options_arrive,
    left_and_opened,
    maps_arrive,
    options_arrive,
    request_read,
    two_stores,
)
from conformance.harness.validating.refusing import after_close, refusals, repeated
from conformance.harness.validating.subject import Opening, Subject
from conformance.harness.validating.values import Check, Result, Whose
from conformance.harness.validating.watch import Answered
from conformance.history.calls import (
    ApplyDiff,
    Call,
    Changes,
    Create,
    Diff,
    DiffSize,
    Exists,
    Get,
    Metadata,
    Put,
    Remove,
    Status,
)
from conformance.lab import descendants, mountinfo
from conformance.spec.naming import counted

_OPEN: Final = "opening"
_LEFT: Final = "nothing left behind"
_ROUNDS: Final = 5  # of timed calls, besides the known-good run
_LONG: Final = 5.0  # seconds after which no further round is begun
_PATIENCE: Final = 3.0  # seconds for processes to end that were asked to


def checks(subject: Subject) -> Iterator[Check]:
    """Check by check, as they are made; closes the source in the end."""
    before = descendants.children()
    try:
        yield from _checks(subject)
    finally:
        closed = subject.watch.call("", subject.source.close)
    if not isinstance(closed, Answered):
        yield subject.not_answered(_LEFT, "close of the DriverSource", closed)
        return
    yield _left_behind(subject, before)


def _checks(subject: Subject) -> Iterator[Check]:
    if "mounts" in subject.lacking and "overlay" not in subject.info.declined:
        said = f"nothing can be tried: {subject.lacking['mounts']}"
        yield Check(_OPEN, Result.UNCLEAR, Whose.NOBODY, said, "run it as root (sudo)")
        return
    first, outcome, request = subject.open("first")
    if first is None:
        yield subject.not_answered(_OPEN, "open an empty home", outcome)
        yield from request_read(subject, request)
        return
    wrong = list(_opened(subject, first))
    yield from wrong or [
        Check(_OPEN, Result.OK, Whose.NOBODY, "an empty home opens; its paths are below its directory")
    ]
    found, whole = known_good(subject, first)
    yield from found
    if whole:
        yield from refusals(subject, first)
        yield from repeated(subject, first)
        _time(subject, first)
        yield from two_stores(subject, first)
        yield from left_and_opened(subject)
    else:
        said = "refusals, repeated calls, two stores and times need the calls above"
        yield Check("other checks", Result.UNCLEAR, Whose.NOBODY, f"not made: {said}", "repair that first")
        list(after_close(subject, first))
    yield from request_read(subject, request)
    if whole:
        yield from options_arrive(subject)
        yield from layer_options_arrive(subject)
        if not any(one.name == TREE and one.result is Result.WRONG for one in found):
            yield from maps_arrive(subject)  # which looks at a tree


def _opened(subject: Subject, first: Opening) -> Iterator[Check]:
    missing = lacking_methods(first.bare)
    if missing:
        following = "add them: conformance.drivers.protocol.DriverUnderTest describes each"
        said = f"the opened driver has no {', '.join(missing)}"
        yield Check(_OPEN, Result.WRONG, Whose.ADAPTER, said, following)
        return
    if absent := subject.info.absent:
        said = "; ".join(absent.values())
        yield Check(_OPEN, Result.WRONG, Whose.DRIVER, said, f"add it, or decline {', '.join(absent)}")
    properties: tuple[tuple[str, Callable[[], object]], ...] = (
        ("home", lambda: first.driver.home),
        ("image_store", lambda: first.driver.image_store),
    )
    for name, look in properties:
        outcome = subject.watch.call("", look)
        if not isinstance(outcome, Answered):
            yield subject.not_answered(_OPEN, f"the property {name}", outcome)
        elif not isinstance(outcome.value, str):
            said = f"{name}: expected str, got {type(outcome.value).__name__}"
            yield subject.wrong(_OPEN, said, "answer a path as str", certain=True)


def _time(subject: Subject, store: Opening) -> None:
    """Make each call several times, for its time; the first exists is of a layer that is not there."""
    began = time.monotonic()
    for _ in range(_ROUNDS):
        if time.monotonic() - began > _LONG:
            return
        calls: list[Call] = [Exists("never-created"), Create("timed"), Get("timed"), Put("timed")]
        calls += [Create("timed-child", "timed"), Get("timed-child"), Put("timed-child")]
        asked: tuple[tuple[str, Call], ...] = (
            ("status", Status()),
            ("metadata", Metadata("timed-child")),
            ("diff", Diff("timed-child", "timed", "timed.tar")),
            ("apply", ApplyDiff("timed-child", "timed", "timed.tar")),
            ("diff-size", DiffSize("timed-child", "timed")),
            ("changes", Changes("timed-child", "timed")),
        )
        for capability, call in asked:
            needs = (capability, "diff") if capability == "apply" else (capability,)
            if not subject.lacks(*needs):
                calls.append(call)
        for call in (*calls, Remove("timed-child"), Remove("timed")):
            store.do(call, timed=True)


def _left_behind(subject: Subject, before: set[int]) -> Check:
    mounts = mountinfo.below(os.path.realpath(subject.directory))
    deadline = time.monotonic() + _PATIENCE
    while (left := descendants.children() - before) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ChildProcessError):  # waited for since
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    time.sleep(0.02)
    said = [f"{counted(len(mounts), 'mount')}, such as {mounts[0].point}"] if mounts else []
    said += [f"processes that still run: {len(left)}"] if left else []
    if not said:
        return Check(_LEFT, Result.OK, Whose.NOBODY, "all stores are closed: no mount, and no process")
    following = "end in close() what open began: mounts of the store, and processes"
    return subject.wrong(_LEFT, " and ".join(said), following, certain=bool(left) and not mounts)
