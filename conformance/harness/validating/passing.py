"""Whether what a store or a layer is opened with reaches the driver, and whether stores are apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conformance.drivers.protocol import IdRange
from conformance.harness.validating.refusing import after_close
from conformance.harness.validating.subject import Opening, Subject, said_of
from conformance.harness.validating.values import Check, Result, Whose
from conformance.harness.validating.watch import (
    Answered,
    Outcome,
    Refused,
    WatchedOptions,
    WatchedRequest,
    was_read,
)
from conformance.history.calls import Call, Close, Create, Exists, Get, Put, Remove

_STORES: Final = "two stores"
_LEAVE: Final = "leave and open again"
_REQUEST: Final = "request of a store"
_OPTIONS: Final = "options"
_LAYER_OPTIONS: Final = "options of a layer"
_MAPS: Final = "id maps"
_NONSENSE: Final = "no-such-option"
_USERS: Final = IdRange(0, 100000, 65536)
_GROUPS: Final = IdRange(0, 200000, 65536)
_READS_WHAT: Final = "read it and pass it to the driver, or decline the capability"


class _Unlike(Exception):
    """A call was not answered."""

    def __init__(self, call: Call, outcome: Outcome) -> None:
        super().__init__()
        self.call = call
        self.outcome = outcome


def _must(store: Opening, call: Call) -> object:
    outcome = store.do(call)
    if not isinstance(outcome, Answered):
        raise _Unlike(call, outcome)
    return outcome.value


def two_stores(subject: Subject, first: Opening) -> Iterator[Check]:
    """A second store beside one that is open; the first one is closed, and the second goes on."""
    second, outcome, _ = subject.open("second")
    if second is None:
        yield subject.not_answered(_STORES, "open a second store", outcome)
        return
    closed: list[Check] = []
    try:
        said = _shared(first, second)
        closed = list(after_close(subject, first))
        if not said and _must(second, Exists("same")) is not True:
            said = "a layer of one store is gone when another is closed"
        for call in (Close(),) if said else (Remove("same"), Close()):
            _must(second, call)
    except _Unlike as unlike:
        if isinstance(unlike.outcome, Refused) and isinstance(unlike.call, Create):
            said = f"a second store refused {said_of(unlike.call)}, which the first one has"
        else:
            yield subject.not_answered(_STORES, f"{said_of(unlike.call)} beside a second store", unlike.outcome)
            said = None
        second.do(Close())
    except OSError as error:
        said = f"a tree cannot be written: {error}"
        second.do(Close())
    if said:
        yield subject.wrong(_STORES, said, "keep everything of a store below request.directory", certain=True)
    elif said == "":
        yield Check(_STORES, Result.OK, Whose.NOBODY, "they share no layer, no tree and no end")
    yield from closed or after_close(subject, first)


def _shared(first: Opening, second: Opening) -> str:
    """What two stores have in common, "" if nothing; the layer ``same`` is left in both."""
    _must(first, Create("same"))
    _must(first, Create("only-first"))
    if _must(second, Exists("only-first")) is not False:
        return "a layer of one store exists in another"
    _must(second, Create("same"))
    trees = [str(_must(store, Get("same"))) for store in (first, second)]
    (Path(trees[0]) / "of-the-first").touch()
    shown = (Path(trees[1]) / "of-the-first").exists()
    for store in (first, second):
        _must(store, Put("same"))
    for layer in ("only-first", "same"):
        _must(first, Remove(layer))
    return "a file that was written in one store shows in another" if shown else ""


def left_and_opened(subject: Subject) -> Iterator[Check]:
    """An opening ends without cleanup, as its process would; another one of the same directory knows its layer."""
    before, outcome, _ = subject.open("left")
    if before is None:
        yield subject.not_answered(_LEAVE, "open a store", outcome)
        return
    outcome = before.do(Create("base"))
    if not isinstance(outcome, Answered):
        yield subject.not_answered(_LEAVE, "create base", outcome)
        return
    outcome = subject.watch.call("leave", before.driver.leave)
    after, opened, _ = subject.open("left")
    if not isinstance(outcome, Answered) or after is None:
        failed = opened if isinstance(outcome, Answered) else outcome
        yield subject.not_answered(_LEAVE, "leave" if failed is outcome else "open after leave", failed)
        return
    try:
        known = _must(after, Exists("base"))
        for call in (Remove("base"), Close()) if known is True else (Close(),):
            _must(after, call)
    except _Unlike as unlike:
        yield subject.not_answered(_LEAVE, f"{said_of(unlike.call)} after leave", unlike.outcome)
        return
    if known is True:
        yield Check(_LEAVE, Result.OK, Whose.NOBODY, "a layer outlives its opening")
    else:
        said = "a layer is gone when the store was left and is opened again"
        yield subject.wrong(_LEAVE, said, "leave ends what open began, and removes nothing of the store")


def request_read(subject: Subject, request: WatchedRequest) -> Iterator[Check]:
    """What the adapter did not even read of its request; it cannot have passed that on."""
    wanted = {"directory": "", "limit": ""}
    for capability, names in (
        ("options", ("options",)),
        ("id-maps", ("id_map",)),  # an adapter may read the groups only where there are users
        ("image-stores", ("image_stores",)),
    ):
        if capability not in subject.info.declined:
            wanted |= dict.fromkeys(names, f"capability {capability}")
    if subject.source.sets_umask:
        wanted["umask"] = "sets_umask of the DriverSource"
    if subject.source.attempt:
        wanted["prefix"] = "attempt of the DriverSource"
    missing = [name for name in wanted if name not in was_read(request)]
    if missing:
        said = ", ".join(f"request.{name}" + (f" ({wanted[name]})" if wanted[name] else "") for name in missing)
        yield Check(_REQUEST, Result.WRONG, Whose.ADAPTER, f"the adapter never reads {said}", _READS_WHAT)
    else:
        yield Check(_REQUEST, Result.OK, Whose.NOBODY, f"the adapter reads {', '.join(wanted)}")


def options_arrive(subject: Subject) -> Iterator[Check]:
    """An option that no driver knows is refused."""
    if reason := subject.lacks("options"):
        yield Check(_OPTIONS, Result.DECLINED, Whose.NOBODY, reason)
        return
    store, outcome, request = subject.open("options", options=(f"{_NONSENSE}=1",))
    if store:
        store.do(Close())
        read = "options" in was_read(request)
        yield _accepted(subject, _OPTIONS, f"a store opened with {_NONSENSE}=1", "request.options", read)
    elif isinstance(outcome, Refused):
        yield Check(_OPTIONS, Result.OK, Whose.NOBODY, f"an unknown one is refused: {_short(outcome.text)}")
    else:
        yield subject.not_answered(_OPTIONS, "an unknown option, which should be refused,", outcome)


def _accepted(subject: Subject, name: str, what: str, where: str, read: bool) -> Check:
    if not read:
        return Check(
            name, Result.WRONG, Whose.ADAPTER, f"{what} was accepted, and {where} was never read", _READS_WHAT
        )
    whose = Whose.DRIVER if subject.own else Whose.EITHER
    following = "try it by hand: if the driver refuses it, the adapter does not pass it on"
    if subject.own:
        following = "a run judges whether the driver may; if it takes no options, decline them"
    return Check(name, Result.UNCLEAR, whose, f"{what} was accepted", following)


def layer_options_arrive(subject: Subject) -> Iterator[Check]:
    """An option of a layer that no driver knows is refused, for both kinds of layers."""
    if reason := subject.lacks("layer-options"):
        yield Check(_LAYER_OPTIONS, Result.DECLINED, Whose.NOBODY, reason)
        return
    kinds = {"layer-options": True, "create-options": False}  # the second is about layers with options, too
    declined = [reason for one in kinds if (reason := subject.lacks(one))]
    if declined:
        yield Check(_LAYER_OPTIONS, Result.DECLINED, Whose.NOBODY, "; ".join(declined))
    asked = [read_write for name, read_write in kinds.items() if not subject.lacks(name)]
    with _opened(subject, "layer-options") as (store, outcome):
        if store is None:
            yield subject.not_answered(_LAYER_OPTIONS, "open a store", outcome)
            return
        for read_write in asked:
            options = WatchedOptions({_NONSENSE: "1"})
            call = Create(f"layer-{int(read_write)}", "", options, read_write)
            outcome = store.do(call)
            if isinstance(outcome, Answered):
                what = f"a {'read-write' if read_write else 'image'} layer with {_NONSENSE}=1"
                yield _accepted(subject, _LAYER_OPTIONS, what, "its content", options.looked)
                return
            if not isinstance(outcome, Refused):
                said = "an unknown option of a layer, which should be refused,"
                yield subject.not_answered(_LAYER_OPTIONS, said, outcome)
                return
            text = outcome.text
    yield Check(_LAYER_OPTIONS, Result.OK, Whose.NOBODY, f"an unknown one is refused: {_short(text)}")


def maps_arrive(subject: Subject) -> Iterator[Check]:
    """The tree of a layer in a store with id maps has the mapped owner."""
    if reason := subject.lacks("id-maps"):
        yield Check(_MAPS, Result.DECLINED, Whose.NOBODY, reason)
        return
    if reason := subject.lacks("root"):
        yield Check(_MAPS, Result.UNCLEAR, Whose.NOBODY, f"not tried: {reason}", "run as root (sudo)")
        return
    with _opened(subject, "maps", id_map=(_USERS,), gid_map=(_GROUPS,)) as (store, outcome):
        if store is None:
            yield subject.not_answered(_MAPS, "open a store with id maps", outcome)
            return
        try:
            _must(store, Create("base"))
            seen = os.stat(str(_must(store, Get("base"))))
            _must(store, Put("base"))
        except _Unlike as unlike:
            yield subject.not_answered(_MAPS, f"{said_of(unlike.call)} with id maps", unlike.outcome)
            return
        owner, wanted = (seen.st_uid, seen.st_gid), (_USERS.host, _GROUPS.host)
        if owner == wanted:
            said = "users and groups of a tree are mapped, each by their own map"
            yield Check(_MAPS, Result.OK, Whose.NOBODY, said)
            return
        read = {"id_map", "gid_map"} <= was_read(store.request)
        said = f"the root of a tree belongs to {owner[0]}:{owner[1]}, and container root is {wanted[0]}:{wanted[1]}"
        yield subject.wrong(_MAPS, said, "pass both maps to the driver, or decline id-maps", certain=not read)


@contextmanager
def _opened(subject: Subject, name: str, **asked: object) -> Iterator[tuple[Opening | None, Outcome]]:
    store, outcome, _ = subject.open(name, **asked)
    try:
        yield store, outcome
    finally:
        if store:
            store.do(Close())


def _short(text: str) -> str:
    said = " ".join(text.split())
    return said if len(said) <= 100 else f"{said[:97]}..."
