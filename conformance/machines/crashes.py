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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.drivers.protocol import DriverFailed, DriverRefused, DriverUnderTest
from conformance.harness.deviation import Deviation
from conformance.operations import archives
from conformance.operations.comparing import differences
from conformance.operations.observe import observe
from conformance.operations.trees import Node, Snapshot

CREATE: Final = "create"
APPLY: Final = "apply"
REMOVE: Final = "remove"
SYNC: Final = "sync"
KEPT: Final = "OVL-CRASH-KEPT"
AGAIN: Final = "OVL-CRASH-AGAIN"
LITTER: Final = "OVL-CRASH-LITTER"
OF_VERB: Final = {
    CREATE: "OVL-CRASH-POWER-CREATE",
    APPLY: "OVL-CRASH-POWER-APPLY",
    REMOVE: "OVL-CRASH-POWER-REMOVE",
}
_FILES: Final = 12
_LARGE: Final = 200_000  # bytes; what is small may lie in the same block as its name
_DEEPEST: Final = 4
_EMPTY: Final = Snapshot({}, frozenset())

State = Snapshot | None
"""What a layer shows; None if it is not there."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step; ``number`` is that of the layer, whose id it gives, as ``parent`` does (-1 for none)."""

    verb: str
    number: int = -1
    parent: int = -1
    parent_filled: bool = False

    @property
    def layer(self) -> str:
        """The id of the layer."""
        return f"layer-{self.number}"

    @property
    def on(self) -> str:
        """The id of the parent, "" for none."""
        return f"layer-{self.parent}" if self.parent >= 0 else ""

    def __str__(self) -> str:
        if self.verb == SYNC:
            return "sync the filesystem"
        return f"{self.verb} {self.layer}" + (f" on {self.on}" if self.verb == CREATE and self.on else "")


@dataclass(frozen=True, slots=True)
class Layer:
    """What a history knows of a layer."""

    number: int
    parent: int
    parent_filled: bool
    tree: Snapshot
    filled: bool = False
    depth: int = 1


class History:
    """The steps so far, and every state that a layer had after each."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.layers: dict[int, Layer] = {}
        self._states: list[dict[int, State]] = []

    def add(self, step: Step) -> Step:
        """One more step that is done, in the books."""
        before = dict(self._states[-1]) if self._states else {}
        self.steps.append(step)
        match step.verb:
            case "create":
                below = self.layers.get(step.parent)
                self.layers[step.number] = Layer(
                    step.number,
                    step.parent,
                    step.parent_filled,
                    below.tree if below else _EMPTY,
                    depth=below.depth + 1 if below else 1,
                )
            case "apply":
                old = self.layers[step.number]
                self.layers[step.number] = Layer(
                    old.number, old.parent, old.parent_filled, _filled(old), filled=True, depth=old.depth
                )
            case "remove":
                del self.layers[step.number]
        if step.verb != SYNC:
            now = self.layers.get(step.number)
            before[step.number] = now.tree if now else None
        self._states.append(before)
        return step

    def created(self, number: int, parent: int = -1) -> Step:
        """The step that makes a layer."""
        return Step(CREATE, number, parent, parent >= 0 and self.layers[parent].filled)

    def allowed(self, synced: int, begun: int) -> dict[int, list[State]]:
        """The states that each layer may be in: after step ``synced``, and after each later one up to ``begun``."""
        before: Mapping[int, State] = self._states[synced] if synced >= 0 else {}
        later = self._states[synced + 1 : begun + 1]
        found: dict[int, list[State]] = {}
        for number in {number for states in (before, *later) for number in states}:
            known: list[State] = []
            for states in (before, *later):
                state = states.get(number)
                if not any(state is one for one in known):
                    known.append(state)
            found[number] = known
        return found

    def last_verb(self, number: int, begun: int) -> str:
        """What was done last to a layer."""
        return next(one.verb for one in reversed(self.steps[: begun + 1]) if one.number == number)


def drawn_steps(seed: int, history: History) -> Iterator[Step]:
    """Steps without an end, each put into the history; the first make two layers, and sync."""
    chance = random.Random(seed)
    yield from (history.add(one) for one in beginning(history))
    made = len(history.layers)
    while True:
        found = _next(history, chance, made)
        made += found.verb == CREATE
        yield history.add(found)


def beginning(history: History) -> Iterator[Step]:
    """Two layers with something in them, one on the other, made safe."""
    yield Step(CREATE, 0)
    yield Step(APPLY, 0)
    yield history.created(1, 0)
    yield Step(APPLY, 1)
    yield Step(SYNC)


def _next(history: History, chance: random.Random, made: int) -> Step:
    parents = {one.parent for one in history.layers.values()}
    leaves = [one for one in history.layers.values() if one.number not in parents]
    empty = [one for one in leaves if not one.filled]
    verb = chance.choice((CREATE, CREATE, APPLY, APPLY, REMOVE, SYNC))
    if verb == APPLY and empty:
        return Step(APPLY, chance.choice(empty).number)
    if verb == REMOVE and len(history.layers) > 3:
        return Step(REMOVE, chance.choice(leaves).number)
    if verb == SYNC and history.steps[-1].verb != SYNC:
        return Step(SYNC)
    below = [one.number for one in history.layers.values() if one.depth < _DEEPEST]
    return history.created(made, chance.choice([-1, *below]))


def content_of(layer: Layer) -> list[archives.Entry]:
    """What an archive brings to a layer; it changes, adds and deletes."""
    number = layer.number
    below = f"d-{number}"
    entries = [archives.file("common", b"%d" % number, 0o600), archives.directory(below)]
    entries += [
        archives.file(f"{below}/f-{one}", b"%d of %d, " % (one, number) * 40 * one) for one in range(_FILES)
    ]
    entries += [
        archives.file(f"{below}/large", bytes([number % 251]) * _LARGE),
        archives.symlink(f"{below}/link", "large"),
    ]
    if layer.parent_filled:
        entries += [archives.directory(f"d-{layer.parent}"), archives.whiteout(f"d-{layer.parent}/.wh.f-1")]
    return entries


def _filled(layer: Layer) -> Snapshot:
    nodes = dict(layer.tree.nodes)
    kinds = {tarfile.REGTYPE: stat.S_IFREG, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK}
    for entry in content_of(layer):
        directory, _, name = entry.name.rpartition("/")
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
    match step.verb:
        case "create":
            driver.create(step.layer, step.on)
        case "apply":
            layer = history.layers[step.number]
            archive = archives.write(directory / f"archive-{step.number}.tar", content_of(layer))
            driver.apply_diff(step.layer, f"layer-{layer.parent}" if layer.parent >= 0 else "", archive)
        case "remove":
            driver.remove(step.layer)
        case _:
            sync()


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
    settled = {number: states[0] for number, states in allowed.items() if len(states) == 1}
    open_ones = sorted(set(allowed) - set(settled), reverse=True)  # children before their parents
    yield from _kept(driver, settled)
    for number in open_ones:
        verb = history.last_verb(number, ended.begun)
        yield from _never_wrong(driver, number, allowed[number], verb)
    for number in open_ones:
        yield from _again(driver, number)
    yield from _litter(driver, open_ones)
    if open_ones:
        yield from _usable(driver, settled)
        yield from _kept(driver, settled)


def _kept(driver: DriverUnderTest, settled: Mapping[int, State]) -> Iterator[Deviation]:
    for number, state in settled.items():
        shown = look(driver, f"layer-{number}")
        if isinstance(shown, DriverRefused):
            if state is not None:
                yield Deviation(f"layer-{number} was synced, and is refused: {shown}", requirements=(KEPT,))
        elif why := _differs(state, shown):
            yield Deviation(
                f"layer-{number} was synced, and differs from its tree before:\n{why}", requirements=(KEPT,)
            )


def _never_wrong(driver: DriverUnderTest, number: int, allowed: Sequence[State], verb: str) -> Iterator[Deviation]:
    shown = look(driver, f"layer-{number}")
    if isinstance(shown, DriverRefused) or any(not _differs(state, shown) for state in allowed):
        return
    differing = [_differs(state, shown) for state in allowed if state is not None]
    nearest = min(differing, key=len, default="it is there")
    said = f"{verb} of layer-{number} was interrupted or not synced, and the layer shows a state that it never had:"
    yield Deviation(f"{said}\n{nearest}", requirements=(OF_VERB[verb],))


def _again(driver: DriverUnderTest, number: int) -> Iterator[Deviation]:
    """What is left can be removed, and its id taken for a layer that has nothing of it."""
    layer = f"layer-{number}"
    try:
        there = driver.exists(layer)
    except DriverRefused:
        there = True
    try:
        driver.remove(layer)
    except DriverRefused as refused:
        if there:
            yield Deviation(f"{layer} exists and cannot be removed: {refused}", requirements=(AGAIN,))
            return
    try:
        driver.create(layer, "")
        shown = look(driver, layer)
        driver.remove(layer)
    except DriverRefused as refused:
        yield Deviation(f"the id {layer} cannot be used again: {refused}", requirements=(AGAIN,))
        return
    if isinstance(shown, DriverRefused):
        yield Deviation(f"{layer}, recreated, is refused: {shown}", requirements=(AGAIN,))
    elif why := _differs(_EMPTY, shown):
        yield Deviation(f"{layer}, recreated without a parent, is not empty:\n{why}", requirements=(AGAIN,))


def _usable(driver: DriverUnderTest, settled: Mapping[int, State]) -> Iterator[Deviation]:
    """A layer can be made on one that was safe."""
    layer, parent = "layer-after", max(one for one, state in settled.items() if state is not None)
    try:
        driver.create(layer, f"layer-{parent}")
        shown = look(driver, layer)
        driver.remove(layer)
    except DriverRefused as refused:
        yield Deviation(
            f"no layer can be made on layer-{parent}, which was synced: {refused}", requirements=(KEPT,)
        )
        return
    if isinstance(shown, DriverRefused):
        yield Deviation(f"a new layer on layer-{parent} is refused: {shown}", requirements=(KEPT,))
    elif why := _differs(settled[parent], shown):
        yield Deviation(f"a new layer on layer-{parent} does not show it:\n{why}", requirements=(KEPT,))


def _litter(driver: DriverUnderTest, removed: Sequence[int]) -> Iterator[Deviation]:
    home = Path(driver.home)
    links = home / "l"
    lost = [f"l/{one}" for one in os.listdir(links) if not (links / one).exists()] if links.is_dir() else []
    lost += [f"layer-{number}" for number in removed if os.path.lexists(home / f"layer-{number}")]
    if lost:
        said = "the interrupted layers were removed, and these paths of them are still in the home"
        yield Deviation(f"{said}: {', '.join(sorted(lost))}", requirements=(LITTER,))


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


def _differs(expected: State, shown: State) -> str:
    """In what a layer differs from a state, in words; "" if in nothing."""
    if expected is None or shown is None:
        return "" if expected is shown else ("it is there" if expected is None else "it is gone")
    return "\n".join(differences(expected, shown))
