"""Refusals, repeated calls, and calls after close: whether each arrives as what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from conformance.harness.validating.subject import Opening, Subject, said_of
from conformance.harness.validating.values import Check, Result, Whose
from conformance.harness.validating.watch import Answered, Endless, Failed, Foreign, Misplaced, Outcome, Refused
from conformance.history.calls import (
    ApplyDiff,
    Call,
    Changes,
    Close,
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

_REFUSALS: Final = "refusals"
_REPEATED: Final = "repeated calls"
_CLOSED: Final = "calls after close"
_UNKNOWN: Final = "never-created"
# To remove what is not there is no error for many drivers (moby/moby's graphdriver/driver.go).
_MAY_BE_ANSWERED: Final = (Remove,)
_ORDER: Final = "raise DriverRefused for each error of the driver, with its words"


def refusals(subject: Subject, store: Opening) -> Iterator[Check]:
    """What cannot be done is refused: not answered, and no failure. The layer ``base`` is left in the store."""
    begun = store.do(Create("base"))
    if not isinstance(begun, Answered):
        yield subject.not_answered(_REFUSALS, "create base", begun)
        return
    found = {call: store.do(call) for call in _impossible(subject)}
    kept = {kind: [call for call, one in found.items() if isinstance(one, kind)] for kind in _KINDS}
    for call, outcome in found.items():
        if isinstance(outcome, (Foreign, Endless)):
            yield subject.not_answered(_REFUSALS, said_of(call), outcome)
            return
    answered = [one for one in (*kept[Answered], *kept[Misplaced]) if not isinstance(one, _MAY_BE_ANSWERED)]
    counts = f"of {len(found)} calls that cannot be done"
    if not kept[Refused] and (answered or kept[Failed]):
        said = f"{counts}, none is refused: {len(kept[Failed])} fail, and {len(found) - len(kept[Failed])} succeed"
        following = f"{_ORDER}; if the driver reports none by hand, it is the driver"
        yield subject.wrong(_REFUSALS, said, following, certain=True)
        return
    if kept[Failed]:
        call = kept[Failed][0]
        yield subject.not_answered(_REFUSALS, f"{said_of(call)}, which should be refused,", found[call])
    if answered:
        said = f"{counts}, these succeed: {', '.join(map(said_of, answered))}"
        by_hand = "" if subject.own else "if the driver refuses them by hand, it is the adapter; "
        following = f"{by_hand}a run judges the driver"
        yield Check(_REFUSALS, Result.UNCLEAR, _either(subject), said, following)
    if kept[Refused] and not any(one.text.strip() for one in found.values() if isinstance(one, Refused)):
        yield subject.wrong(_REFUSALS, "refusals have no text", _ORDER, certain=True)
    elif not answered and not kept[Failed]:
        yield Check(_REFUSALS, Result.OK, Whose.NOBODY, f"{len(kept[Refused])} {counts} are refused, with a text")


_KINDS: Final = (Answered, Refused, Failed, Misplaced, Foreign, Endless)


def _either(subject: Subject) -> Whose:
    return Whose.DRIVER if subject.own else Whose.EITHER


def _impossible(subject: Subject) -> Iterator[Call]:
    yield Create("base")
    yield Create("orphan", _UNKNOWN)
    yield Get(_UNKNOWN)
    yield Remove(_UNKNOWN)
    for capability, call in (
        ("metadata", Metadata(_UNKNOWN)),
        ("diff", Diff(_UNKNOWN, "", "unknown.tar")),
        ("apply", ApplyDiff(_UNKNOWN, "", "never-written.tar" if subject.lacks("diff") else "child.tar")),
        ("diff-size", DiffSize(_UNKNOWN, "")),
        ("changes", Changes(_UNKNOWN, "")),
    ):
        if not subject.lacks(capability) and not (capability == "apply" and subject.lacks("diff")):
            yield call


def repeated(subject: Subject, store: Opening) -> Iterator[Check]:
    """What a call does that was made before. The protocol leaves it open, but for a crash."""
    calls: tuple[Call, ...] = (Exists("base"), Status(), Get("base"), Put("base"), Remove("base"))
    seen: list[str] = []
    for call in calls:
        if isinstance(call, Status) and subject.lacks("status"):
            continue
        outcomes = [store.do(call) for _ in range(2)]
        if isinstance(call, Put):  # one more than there were gets
            outcomes.append(store.do(call))
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, (Failed, Foreign, Endless, Misplaced)) or (
                number == 0 and not isinstance(outcome, Answered)
            ):
                often = "" if number == 0 else " again"
                yield subject.not_answered(_REPEATED, f"{said_of(call)}{often}", outcome)
                return
        seen.append(f"{said_of(call).split()[0]}: {_same(outcomes)}")
    yield Check(_REPEATED, Result.OK, Whose.NOBODY, "; ".join(seen))


def _same(outcomes: list[Outcome]) -> str:
    """What the last one did, in a word or two, compared with the one before it."""
    before, last = outcomes[-2:]
    match before, last:
        case Answered(one), Answered(other):
            return "same answer" if one == other else "another answer"
        case _:
            return "refused"


def after_close(subject: Subject, store: Opening) -> Iterator[Check]:
    """Close a store; then a call is refused, or answered truly where each call is a command of its own."""
    closed = store.do(Close())
    if not isinstance(closed, Answered):
        yield subject.not_answered(_CLOSED, "close", closed)
        return
    later: tuple[Call, ...] = (Exists(_UNKNOWN), Get(_UNKNOWN), Close())
    for call in later:
        outcome = store.do(call)
        if isinstance(outcome, (Foreign, Endless)):
            yield subject.not_answered(_CLOSED, f"{said_of(call)} after close", outcome)
            return
        if isinstance(outcome, (Answered, Misplaced)) and isinstance(call, Get):
            said = f"{said_of(call)} after close succeeded, and there is no such layer"
            yield subject.wrong(_CLOSED, said, "refuse calls of an opening that is closed", certain=True)
            return
    yield Check(_CLOSED, Result.OK, Whose.NOBODY, "refused, or no answer (DriverFailed), or true")
