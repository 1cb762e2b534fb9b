"""Histories of one or two stores: layers made, mounted, written, diffed, applied elsewhere, removed, opened again.

The model of the store knows every tree. The machine adds the permitted order of the steps: a layer that is
mounted takes no archive, one that others are built on is not removed. After every step that can change
something, the layer that it concerned is looked at, and those of the same name in other stores; at the end, all
of them. What was diffed before it was written is diffed again afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import assert_never

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench, Store
from conformance.history.calls import Create, Get, Put, Remove, Reopen
from conformance.history.turns import (
    CopyLayer,
    CreateChild,
    HoldLayer,
    ReleaseLayer,
    RemoveLayer,
    ReopenStore,
    Turn,
    WriteLayer,
)
from conformance.operations.observe import observe
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import operations

_IDS = st.sampled_from(("a", "b", "c", "d", "e"))
_STEPS_OF_A_LAYER = 4
_WRITES, _HOLDS = 3, 2  # of each ten turns; of the others one each


def _turns(*, privileged: bool, archives: bool) -> st.SearchStrategy[Turn]:
    """A turn of the machine.

    One rule draws all: of several hypothesis leaves most out of an example, and takes the shortest most often.
    """
    layer = {"which": st.integers(0, 1), "number": st.integers(0, 9)}
    done = st.lists(operations(privileged=privileged), min_size=1, max_size=_STEPS_OF_A_LAYER).map(tuple)
    write: st.SearchStrategy[Turn] = st.builds(WriteLayer, **layer, done=done, diffed=st.booleans())
    hold: st.SearchStrategy[Turn] = st.builds(HoldLayer, **layer)
    rest: list[st.SearchStrategy[Turn]] = [
        st.builds(ReleaseLayer, **layer),
        st.builds(CreateChild, **layer, layer_id=_IDS, for_container=st.booleans()),
        st.builds(RemoveLayer, **layer),
        st.builds(ReopenStore, which=layer["which"]),
    ]
    copies: list[st.SearchStrategy[Turn]] = [st.builds(CopyLayer, **layer)] if archives else []
    return st.one_of([hold] * _HOLDS + rest[:2] + [write] * _WRITES + rest[2:] + copies)


class _Lived:
    """One store, what is mounted in it, and what was copied to a twin."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.layers: list[str] = []
        self.held: dict[str, int] = {}
        self.parents: set[str] = set()  # what has or had a child
        self.diffed: set[str] = set()
        self.copies = 0

    def begin(self) -> None:
        """Two layers, one on the other, of the same names in each store."""
        self.store.create("base")
        self.store.change("base", STANDARD)
        self.store.create("top", "base")
        self.parents.add("base")
        self.layers += ["base", "top"]

    def pick(self, number: int) -> str:
        """One of the layers, by any number; 0 is the newest, with which most can be done."""
        return self.layers[-1 - number % len(self.layers)]

    def has_children(self, layer_id: str) -> bool:
        return any(self.store.parent_of(other) == layer_id for other in self.layers)

    def release(self, number: int) -> None:
        """Put one of the layers that are held, if there is one."""
        if not self.held:
            return
        layer_id = sorted(self.held)[number % len(self.held)]
        self.store.do(Put(layer_id))
        self.held[layer_id] -= 1
        if not self.held[layer_id]:
            del self.held[layer_id]

    def release_all(self) -> None:
        """Put what is still held, as often as it was got; each layer shows what it should afterwards."""
        for layer_id, count in self.held.items():
            for _ in range(count):
                self.store.do(Put(layer_id))
            self.store.shows_model(layer_id)

    def remove(self, number: int) -> None:
        """Remove a layer, if it is none that others are built on, and not mounted."""
        layer_id = self.pick(number)
        if layer_id == "base" or layer_id in self.held or self.has_children(layer_id):
            return
        self.store.do(Remove(layer_id))
        self.layers.remove(layer_id)
        self.parents.discard(layer_id)
        self.diffed.discard(layer_id)

    def reopen(self) -> None:
        """Open the home again, if nothing is held."""
        if not self.held:
            self.store.do(Reopen())

    def copy(self, layer_id: str) -> None:
        """Diff a layer and apply it to a twin, on the same parent, which is removed again."""
        self.copies += 1
        twin, parent = f"twin-{self.copies}", self.store.parent_of(layer_id)
        archive = self.store.diff(layer_id)
        self.store.create(twin, parent)
        self.parents.add(parent)
        self.store.apply(twin, archive)
        expected, found = self.store.expected(layer_id), self.store.observed(twin)
        same_tree(f"{twin}, a twin of {layer_id},", expected.without_directory_times(), found, times="files")
        self.store.do(Remove(twin))
        self.diffed.add(layer_id)


class LifeCycle:
    """The stores of one example, and their turns; with two stores every turn is about one of them.

    It holds its stores open until :meth:`end`.
    """

    def __init__(self, bench: Bench, stores: int) -> None:
        bench.begin_drawing()
        self._bench = bench
        self._archives = bench.has("diff") and bench.has("apply")
        self._stack = ExitStack()
        names = ("origin", "other")[:stores]
        self._stores = [_Lived(self._stack.enter_context(bench.store(name))) for name in names]

    def begin(self) -> None:
        """The layers that every example begins with."""
        for lived in self._stores:
            lived.begin()

    def take(self, turn: Turn) -> None:
        """Take a turn, and record it, so that it can be taken again without hypothesis."""
        lived = self._stores[turn.which % len(self._stores)]
        if isinstance(turn, WriteLayer):
            turn = replace(turn, done=lived.store.fitted(lived.pick(turn.number), turn.done))
        self._bench.drew(turn)
        match turn:
            case HoldLayer():
                self._hold(lived, lived.pick(turn.number))
            case ReleaseLayer():
                lived.release(turn.number)
            case CreateChild():
                self._create(lived, turn, lived.pick(turn.number))
            case WriteLayer():
                self._write(lived, lived.pick(turn.number), turn)
            case RemoveLayer():
                lived.remove(turn.number)
            case ReopenStore():
                lived.reopen()
            case CopyLayer():
                lived.copy(lived.pick(turn.number))
            case _:
                assert_never(turn)

    def end(self) -> None:
        """Look at every layer once more, after the turns or the failure of one of them."""
        of_a_turn = sys.exc_info()[1]
        if isinstance(of_a_turn, Exception):
            self._bench.failed(of_a_turn)
        try:
            with self._stack:
                for lived in self._stores:
                    for layer_id in lived.layers:
                        lived.store.shows_model(layer_id)
                for lived in self._stores:
                    lived.release_all()
        except Exception as error:
            self._bench.failed(error)
            raise

    def _hold(self, lived: _Lived, layer_id: str) -> None:
        root = lived.store.do(Get(layer_id))
        lived.held[layer_id] = lived.held.get(layer_id, 0) + 1
        links = lived.store.tells_links(layer_id)
        same_tree(f"the tree of {layer_id}", lived.store.expected(layer_id), observe(root), links=links)
        self._check(layer_id)

    def _create(self, lived: _Lived, turn: CreateChild, parent: str) -> None:
        layer_id = turn.layer_id
        busy = parent in lived.held and not lived.has_children(parent)
        if layer_id in lived.layers or (busy and not self._bench.has("busy-parents")):
            return
        lived.store.do(Create(layer_id, parent, {} if turn.for_container else None))
        lived.parents.add(parent)
        lived.layers.append(layer_id)
        self._check(layer_id)

    def _write(self, lived: _Lived, layer_id: str, turn: WriteLayer) -> None:
        # What lies below others is not written any more: overlayfs.rst leaves open what they would show.
        busy_parents = self._bench.has("busy-parents")
        if lived.has_children(layer_id) if busy_parents else layer_id in lived.parents:
            return
        if turn.diffed and self._archives:
            lived.store.diff(layer_id)
            lived.diffed.add(layer_id)
        lived.store.change(layer_id, turn.done)
        self._check(layer_id)
        if layer_id in lived.diffed:
            lived.copy(layer_id)

    def _check(self, layer_id: str) -> None:
        """The layer of this name in each store shows what it should."""
        for lived in self._stores:
            if layer_id in lived.layers:
                lived.store.shows_model(layer_id)


def state_machine(bench: Bench, *, stores: int) -> type[RuleBasedStateMachine]:
    """The life cycle for hypothesis, which asks for a class that it instantiates itself."""
    turns = _turns(privileged=bench.privileged, archives=bench.has("diff") and bench.has("apply"))

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self._cycle = LifeCycle(bench, stores)

        @initialize()
        def begin(self) -> None:
            self._cycle.begin()

        @rule(turn=turns)
        def take(self, turn: Turn) -> None:
            self._cycle.take(turn)

        def teardown(self) -> None:
            self._cycle.end()

    return Machine


def repeat(bench: Bench, recorded: Iterable[Turn], *, stores: int) -> None:
    """The turns of a history that was recorded, without hypothesis."""
    cycle = LifeCycle(bench, stores)
    try:
        cycle.begin()
        for turn in recorded:
            cycle.take(turn)
    finally:
        cycle.end()
