"""Histories that a power cut ends, and what has to be true after it.

A history follows from its seed, so that who checks the store afterwards, perhaps in another life of the machine,
knows what was done in it. Of each step it is known whether it had begun and, of a sync, whether it had ended. What
was settled by a sync is as it was; of what came later nothing is promised by POSIX (fsync(2)), but a layer must not
be shown as what it never was, must not be in the way, and nothing of it may stay.
"""

from __future__ import annotations

import os
import random
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, assert_never

from conformance.drivers.performing import perform
from conformance.drivers.protocol import DriverFailed, DriverRefused, DriverUnderTest
from conformance.harness.deviation import Deviation
from conformance.history.calls import ApplyDiff, Create, Exists, Remove
from conformance.history.trace import describe as describe_call
from conformance.operations import archives
from conformance.operations.comparing import differences
from conformance.operations.observe import observe
from conformance.operations.trees import Node, Snapshot

KEPT: Final = "OVL-CRASH-KEPT"
AGAIN: Final = "OVL-CRASH-AGAIN"
LITTER: Final = "OVL-CRASH-LITTER"
_FILES: Final = 12
_LARGE: Final = 200_000  # bytes; what is small may lie in the same block as its name
_DEEPEST: Final = 4
_EMPTY: Final = Snapshot({}, frozenset())

State = Snapshot | None
"""What a layer shows; None if it is not there."""


@dataclass(frozen=True, slots=True)
class Sync:
    """Sync the filesystem: no call of the driver."""


Changing = Create | ApplyDiff | Remove
Step = Changing | Sync
INTERRUPTED: Final[Mapping[type[Changing], str]] = {
    Create: "OVL-CRASH-POWER-CREATE",
    ApplyDiff: "OVL-CRASH-POWER-APPLY",
    Remove: "OVL-CRASH-POWER-REMOVE",
}
"""The requirement on a layer that was in each kind of call when the power was cut."""


def describe(step: Step) -> str:
    """A step in words."""
    return "sync the filesystem" if isinstance(step, Sync) else describe_call(step)


def layer_name(number: int) -> str:
    """The id of a layer, by its number in the order of their making."""
    return f"layer-{number}"


def _number(layer: str) -> int:
    return int(layer.removeprefix("layer-"))


@dataclass(frozen=True, slots=True)
class Layer:
    """What a history knows of a layer; ``parent`` is "" for none, ``built_on`` says that it ever had a child."""

    id: str
    parent: str
    parent_filled: bool
    tree: Snapshot
    filled: bool = False
    depth: int = 1
    built_on: bool = False


class History:
    """The steps so far, and every state that a layer had after each."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.layers: dict[str, Layer] = {}
        self._states: list[dict[str, State]] = []

    def add(self, step: Step) -> Step:
        """One more step that is done, in the books."""
        states = dict(self._states[-1]) if self._states else {}
        self.steps.append(step)
        match step:
            case Create():
                below = self.layers.get(step.parent)
                made = Layer(step.layer, step.parent, below is not None and below.filled, _EMPTY)
                if below:
                    made = replace(made, tree=below.tree, depth=below.depth + 1)
                    self.layers[step.parent] = replace(below, built_on=True)
                self.layers[step.layer] = made
                states[step.layer] = made.tree
            case ApplyDiff():
                old = self.layers[step.layer]
                states[step.layer] = tree = _filled(old)
                self.layers[step.layer] = replace(old, tree=tree, filled=True)
            case Remove():
                del self.layers[step.layer]
                states[step.layer] = None
            case Sync():
                pass
            case _:
                assert_never(step)
        self._states.append(states)
        return step

    def applying(self, layer: str) -> ApplyDiff:
        """The step that fills a layer of this history, or one that is made on none."""
        parent = self.layers[layer].parent if layer in self.layers else ""
        return ApplyDiff(layer, parent, f"{layer}.tar")

    def allowed(self, synced: int, begun: int) -> dict[str, list[State]]:
        """The states that each layer may be in: after step ``synced``, and after each later one up to ``begun``."""
        before: Mapping[str, State] = self._states[synced] if synced >= 0 else {}
        later = self._states[synced + 1 : begun + 1]
        found: dict[str, list[State]] = {}
        for layer in sorted({layer for states in (before, *later) for layer in states}, key=_number):
            known: list[State] = []
            for states in (before, *later):
                state = states.get(layer)
                if not any(state is one for one in known):
                    known.append(state)
            found[layer] = known
        return found

    def last_call(self, layer: str, begun: int) -> Changing:
        """What was done last to a layer."""
        calls = [one for one in self.steps[: begun + 1] if not isinstance(one, Sync)]
        return next(one for one in reversed(calls) if one.layer == layer)


def drawn_steps(seed: int, history: History) -> Iterator[Step]:
    """Steps without an end, each put into the history; the first make two layers, and sync."""
    chance = random.Random(seed)
    yield from (history.add(one) for one in beginning(history))
    made = len(history.layers)
    while True:
        found = _next(history, chance, made)
        made += isinstance(found, Create)
        yield history.add(found)


def beginning(history: History) -> Iterator[Step]:
    """Two layers with something in them, one on the other, made safe; each is added before the next is drawn."""
    first, second = layer_name(0), layer_name(1)
    yield Create(first)
    yield history.applying(first)
    yield Create(second, first)
    yield history.applying(second)
    yield Sync()


def _next(history: History, chance: random.Random, made: int) -> Step:
    parents = {one.parent for one in history.layers.values()}
    leaves = [one for one in history.layers.values() if one.id not in parents]
    # A driver may close a layer for archives once another one is built on it, for ever.
    empty = [one for one in leaves if not one.filled and not one.built_on]
    kind = chance.choice((Create, Create, ApplyDiff, ApplyDiff, Remove, Sync))
    if kind is ApplyDiff and empty:
        return history.applying(chance.choice(empty).id)
    if kind is Remove and len(history.layers) > 3:
        return Remove(chance.choice(leaves).id)
    if kind is Sync and not isinstance(history.steps[-1], Sync):
        return Sync()
    below = [one.id for one in history.layers.values() if one.depth < _DEEPEST]
    return Create(layer_name(made), chance.choice(["", *below]))


def content_of(layer: Layer) -> list[archives.Entry]:
    """What an archive brings to a layer; it changes, adds and deletes."""
    number = _number(layer.id)
    below = f"d-{number}"
    # Of another size in each layer: who compares trees may take a file of one size and time for unchanged.
    entries = [archives.file("common", b"%d" % number * (number + 1), 0o600), archives.directory(below)]
    entries += [
        archives.file(f"{below}/f-{one}", b"%d of %d, " % (one, number) * 40 * one) for one in range(_FILES)
    ]
    entries += [
        archives.file(f"{below}/large", bytes([number % 251]) * _LARGE),
        archives.symlink(f"{below}/link", "large"),
    ]
    if layer.parent_filled:
        below = f"d-{_number(layer.parent)}"
        entries += [archives.directory(below), archives.whiteout(f"{below}/.wh.f-1")]
    entries.append(archives.directory("again"))
    if layer.parent_filled:
        entries.append(archives.whiteout("again/.wh..wh..opq"))
    return [*entries, archives.file(f"again/{number}", b"again")]


def _filled(layer: Layer) -> Snapshot:
    nodes = dict(layer.tree.nodes)
    kinds = {tarfile.REGTYPE: stat.S_IFREG, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK}
    for entry in content_of(layer):
        directory, _, name = entry.name.rpartition("/")
        if name == ".wh..wh..opq":
            hidden = f"{directory}/".encode()
            nodes = {path: node for path, node in nodes.items() if not path.startswith(hidden)}
            continue
        if name.startswith(".wh."):
            del nodes[f"{directory}/{name[4:]}".encode()]
            continue
        time = None if entry.kind == tarfile.DIRTYPE else archives.TIME * 10**9
        nodes[entry.name.encode()] = Node(
            kinds[entry.kind] | entry.mode, 0, 0, time, entry.content, entry.target.encode()
        )
    return Snapshot(nodes, frozenset())


def do(step: Step, history: History, driver: DriverUnderTest, directory: Path, sync: Callable[[], None]) -> None:
    """Do a step of a history, which has it already; raises DriverRefused, and OSError of the sync."""
    match step:
        case Sync():
            sync()
        case ApplyDiff():
            archives.write(directory / step.archive, content_of(history.layers[step.layer]))
            perform(driver, step, directory.joinpath)
        case Create() | Remove():
            perform(driver, step, directory.joinpath)
        case _:
            assert_never(step)


@dataclass(frozen=True, slots=True)
class Ended:
    """How far a history came: the index of the last sync that had ended, and of the last step that had begun."""

    synced: int
    begun: int


def check(history: History, ended: Ended, open_store: Callable[[], DriverUnderTest]) -> list[Deviation]:
    """What is wrong with a store after a power cut; the store is changed by it."""
    try:
        driver = open_store()
    except DriverRefused as refused:
        return [Deviation(f"the store cannot be opened any more: {refused}", requirements=(KEPT,))]
    try:
        return list(_findings(history, ended, driver))
    finally:
        with suppress(DriverRefused, DriverFailed):
            driver.leave()


def _findings(history: History, ended: Ended, driver: DriverUnderTest) -> Iterator[Deviation]:
    allowed = history.allowed(ended.synced, ended.begun)
    settled = {layer: states[0] for layer, states in allowed.items() if len(states) == 1}
    open_ones = [layer for layer in reversed(allowed) if layer not in settled]  # children before their parents
    yield from _kept(driver, settled)
    for layer in open_ones:
        yield from _never_wrong(driver, history.last_call(layer, ended.begun), allowed[layer])
    for layer in open_ones:
        yield from _again(driver, layer)
    yield from _litter(driver, open_ones)
    if open_ones:
        parent = [layer for layer, state in settled.items() if state is not None][-1]
        what = f"a new layer on {parent}, which was synced,"
        yield from _new_layer(driver, Create("layer-after", parent), settled[parent], what, KEPT)
        yield from _kept(driver, settled)


def _kept(driver: DriverUnderTest, settled: Mapping[str, State]) -> Iterator[Deviation]:
    for layer, state in settled.items():
        shown = look(driver, layer)
        if isinstance(shown, DriverRefused):
            if state is not None:
                yield Deviation(f"{layer} was synced, and is refused: {shown}", requirements=(KEPT,))
        elif why := differs(state, shown):
            yield Deviation(f"{layer} was synced, and differs from its tree before:\n{why}", requirements=(KEPT,))


def _never_wrong(driver: DriverUnderTest, last: Changing, allowed: Sequence[State]) -> Iterator[Deviation]:
    shown = look(driver, last.layer)
    if isinstance(shown, DriverRefused) or any(not differs(state, shown) for state in allowed):
        return
    differing = [differs(state, shown) for state in allowed if state is not None]
    nearest = min(differing, key=len, default="it is there")
    said = f"'{describe(last)}' was interrupted or not synced, and {last.layer} shows a state that it never had:"
    yield Deviation(f"{said}\n{nearest}", requirements=(INTERRUPTED[type(last)],))


def _again(driver: DriverUnderTest, layer: str) -> Iterator[Deviation]:
    """What is left can be removed, and its id taken for a layer that has nothing of it."""
    there = _answer(driver, Exists(layer))
    refused = _answer(driver, Remove(layer))
    if isinstance(refused, DriverRefused) and there is not False:
        yield Deviation(f"{layer} exists and cannot be removed: {refused}", requirements=(AGAIN,))
        return
    yield from _new_layer(driver, Create(layer), _EMPTY, f"{layer}, recreated without a parent,", AGAIN)


def _new_layer(
    driver: DriverUnderTest, call: Create, expected: State, what: str, charged: str
) -> Iterator[Deviation]:
    """A layer can be made, shows what it should, and can be removed."""
    refused = _answer(driver, call)
    shown = look(driver, call.layer)
    if not isinstance(refused, DriverRefused):
        refused = _answer(driver, Remove(call.layer))
    if isinstance(refused, DriverRefused):
        yield Deviation(f"{what} cannot be made or removed: {refused}", requirements=(charged,))
    elif isinstance(shown, DriverRefused):
        yield Deviation(f"{what} is refused: {shown}", requirements=(charged,))
    elif why := differs(expected, shown):
        yield Deviation(f"{what} differs from its parent:\n{why}", requirements=(charged,))


def _answer(driver: DriverUnderTest, call: Changing | Exists) -> object:
    """The driver's answer to a call, or its refusal."""
    try:
        return perform(driver, call, Path)
    except DriverRefused as refused:
        return refused


def _litter(driver: DriverUnderTest, removed: Sequence[str]) -> Iterator[Deviation]:
    if lost := left_behind(Path(driver.home), removed):
        said = "the interrupted layers were removed, and these paths of them are still in the home"
        yield Deviation(f"{said}: {', '.join(lost)}", requirements=(LITTER,))


def left_behind(home: Path, removed: Iterable[str]) -> list[str]:
    """The paths in a home that are of layers which were removed: dangling short links, and their directories."""
    links = home / "l"
    lost = [f"l/{one}" for one in os.listdir(links) if not (links / one).exists()] if links.is_dir() else []
    return sorted([*lost, *(layer for layer in removed if os.path.lexists(home / layer))])


def look(driver: DriverUnderTest, layer: str) -> State | DriverRefused:
    """What a layer shows, None if the driver says that it is not there, or its refusal."""
    try:
        if not driver.exists(layer):
            return None
        root = driver.get(layer)
        try:
            return observe(root)
        except OSError as error:
            return DriverRefused(f"its tree cannot be read: {error}")
        finally:
            driver.put(layer)
    except DriverRefused as refused:
        return refused


def differs(expected: State, shown: State) -> str:
    """In what a layer differs from a state, in words; "" if in nothing."""
    if expected is None or shown is None:
        return "" if expected is shown else ("it is there" if expected is None else "it is gone")
    return "\n".join(differences(expected, shown))
