"""Histories of one or two stores: layers made, mounted, written, diffed, applied elsewhere, removed, opened again.

The model of the store knows every tree. The machine adds the permitted order of the steps: a layer that is
mounted takes no archive, one that others are built on is not removed. After every step that can change
something, the layer that it concerned is looked at, and those of the same name in other stores; at the end, all
of them. What was diffed before it was written is diffed again afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, assert_never

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from conformance.harness.store import Store, same_tree
from conformance.harness.stores import Bench
from conformance.history.calls import Get, Put, Remove, Reopen
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
from conformance.operations.strategies import STANDARD, operations

_IDS = st.sampled_from(("a", "b", "c", "d", "e"))
_STEPS_OF_A_LAYER = 4
_WRITES, _HOLDS = 3, 2  # of each ten turns; of the others one each
Machine = type[RuleBasedStateMachine]


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
        st.builds(CreateChild, **layer, layer_id=_IDS),
        st.builds(RemoveLayer, **layer),
        st.builds(ReopenStore, which=layer["which"]),
    ]
    copies: list[st.SearchStrategy[Turn]] = [st.builds(CopyLayer, **layer)] if archives else []
    return st.one_of([hold] * _HOLDS + rest[:2] + [write] * _WRITES + rest[2:] + copies)


class _History:
    """One store, what is mounted in it, and what was copied to another."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.layers: list[str] = []
        self.held: dict[str, int] = {}
        self.parents: set[str] = set()  # what has or had a child
        self.diffed: set[str] = set()
        self.copies = 0

    def pick(self, number: int) -> str:
        """One of the layers, by any number; 0 is the newest, with which most can be done."""
        return self.layers[-1 - number % len(self.layers)]

    def has_children(self, layer_id: str) -> bool:
        return any(self.store.parent_of(other) == layer_id for other in self.layers)

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


def life_cycle(bench: Bench, *, stores: int) -> Machine:  # noqa: C901 - hypothesis wants the rules in a class
    """The machine for one driver; with two stores every rule is about one of them."""
    archives = bench.has("diff") and bench.has("apply")

    class LifeCycle(RuleBasedStateMachine):  # hypothesis asks for a class
        def __init__(self) -> None:
            super().__init__()
            bench.tries.begin()
            self._stack = ExitStack()
            names = ("origin", "other")[:stores]
            self.histories = [_History(self._stack.enter_context(bench.store(name))) for name in names]
            bench.history.drawn.clear()

        def teardown(self) -> None:
            of_a_rule = sys.exc_info()[1]
            if isinstance(of_a_rule, Exception):
                bench.tries.failed(of_a_rule)
                bench.history.stop()
            try:
                self._look_again()
            except Exception as error:
                bench.tries.failed(error)
                raise

        def _look_again(self) -> None:
            with self._stack:
                for history in self.histories:
                    for layer_id in history.layers:
                        history.store.shows_model(layer_id)
                for history in self.histories:
                    for layer_id, count in history.held.items():
                        for _ in range(count):
                            history.store.do(Put(layer_id))
                        history.store.shows_model(layer_id)

        @initialize()
        def base(self) -> None:
            for history in self.histories:
                history.store.create("base")
                history.store.change("base", STANDARD)
                history.store.create("top", "base")  # in each store, so that they have a name in common
                history.parents.add("base")
                history.layers += ["base", "top"]

        @rule(turn=_turns(privileged=bench.privileged, archives=archives))
        def take(self, turn: Turn) -> None:
            """Take a turn, and record it, so that it can be taken again without hypothesis."""
            bench.history.drawn.append(turn)
            match turn:
                case HoldLayer():
                    self._hold(turn)
                case ReleaseLayer():
                    self._release(turn)
                case CreateChild():
                    self._create(turn)
                case WriteLayer():
                    self._write(turn)
                case RemoveLayer():
                    self._remove(turn)
                case ReopenStore():
                    self._reopen(turn)
                case CopyLayer():
                    history = self._of(turn)
                    history.copy(history.pick(turn.number))
                case _:
                    assert_never(turn)

        def _of(self, turn: Turn) -> _History:
            return self.histories[turn.which % len(self.histories)]

        def _check(self, layer_id: str) -> None:
            for history in self.histories:
                if layer_id in history.layers:
                    history.store.shows_model(layer_id)

        def _create(self, turn: CreateChild) -> None:
            history, layer_id = self._of(turn), turn.layer_id
            parent = history.pick(turn.number)
            busy = parent in history.held and not history.has_children(parent)
            if layer_id in history.layers or (busy and not bench.has("busy-parents")):
                return
            history.store.create(layer_id, parent)
            history.parents.add(parent)
            history.layers.append(layer_id)
            self._check(layer_id)

        def _write(self, turn: WriteLayer) -> None:
            history = self._of(turn)
            layer_id = history.pick(turn.number)
            # What lies below others is not written any more: overlayfs.rst leaves open what they would show.
            closed = history.has_children(layer_id) if bench.has("busy-parents") else layer_id in history.parents
            if closed:
                return
            if turn.diffed and archives:
                history.store.diff(layer_id)
                history.diffed.add(layer_id)
            history.store.change(layer_id, turn.done)
            self._check(layer_id)
            if layer_id in history.diffed:
                history.copy(layer_id)

        def _hold(self, turn: HoldLayer) -> None:
            history = self._of(turn)
            layer_id = history.pick(turn.number)
            root = history.store.do(Get(layer_id))
            history.held[layer_id] = history.held.get(layer_id, 0) + 1
            links = history.store.tells_links(layer_id)
            same_tree(f"the tree of {layer_id}", history.store.expected(layer_id), observe(root), links=links)
            self._check(layer_id)

        def _release(self, turn: ReleaseLayer) -> None:
            history = self._of(turn)
            if not history.held:
                return
            layer_id = sorted(history.held)[turn.number % len(history.held)]
            history.store.do(Put(layer_id))
            history.held[layer_id] -= 1
            if not history.held[layer_id]:
                del history.held[layer_id]

        def _remove(self, turn: RemoveLayer) -> None:
            history = self._of(turn)
            layer_id = history.pick(turn.number)
            if layer_id == "base" or layer_id in history.held or history.has_children(layer_id):
                return
            history.store.do(Remove(layer_id))
            history.layers.remove(layer_id)
            history.parents.discard(layer_id)
            history.diffed.discard(layer_id)

        def _reopen(self, turn: ReopenStore) -> None:
            history = self._of(turn)
            if history.held:
                return
            history.store.do(Reopen())

    return LifeCycle


def repeat(bench: Bench, recorded: Sequence[Turn], *, stores: int) -> None:
    """The turns of a history that was recorded, without hypothesis."""
    machine: Any = life_cycle(bench, stores=stores)()
    try:
        machine.base()
        for turn in recorded:
            machine.take(turn)
    finally:
        machine.teardown()
