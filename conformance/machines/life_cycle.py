"""Histories of one or two stores: layers made, mounted, written, diffed, applied elsewhere, removed, opened again.

The model of the workbench knows every tree; what the machine adds is what may come after what: a layer that is
mounted takes no archive, one that others are built on is not removed. After every step that can change
something, the layer that it concerned is looked at; at the end, all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from conformance.bench import Bench
from conformance.observe import observe
from conformance.strategies import STANDARD, operations
from conformance.workbench import Workbench, same_tree

_IDS = st.sampled_from(("a", "b", "c", "d", "e"))
_STEPS_OF_A_LAYER = 4
Machine = type[RuleBasedStateMachine]


class _History:
    """One store, what is mounted in it, and what was copied to another."""

    def __init__(self, store: Workbench) -> None:
        self.store = store
        self.layers: list[str] = []
        self.held: dict[str, int] = {}
        self.parents: set[str] = set()  # what has or had a child

    def pick(self, number: int) -> str:
        """One of the layers, by any number."""
        return self.layers[number % len(self.layers)]

    def has_children(self, layer_id: str) -> bool:
        return any(self.store.parent_of(other) == layer_id for other in self.layers)

    def check(self, layer_id: str) -> None:
        self.store.check_tree(layer_id)


def life_cycle(bench: Bench, *, stores: int) -> Machine:  # noqa: C901 - hypothesis wants the rules in a class
    """The machine for one driver; with two stores every rule is of one of them, by turns."""
    drawn = operations(privileged=bench.privileged)

    class LifeCycle(RuleBasedStateMachine):  # hypothesis asks for a class
        def __init__(self) -> None:
            super().__init__()
            bench.tries.begin()
            self._stack = ExitStack()
            names = ("origin", "other")[:stores]
            self.histories = [_History(self._stack.enter_context(bench.store(name))) for name in names]
            self.number = 0
            bench.story.tape.drawn.clear()

        def _note(self, rule_name: str, **words: Any) -> None:
            """Put a step on tape, so that it can be taken again without hypothesis."""
            bench.story.tape.drawn.append([rule_name, words])

        def teardown(self) -> None:
            of_a_rule = sys.exc_info()[1]
            if isinstance(of_a_rule, Exception):
                bench.tries.failed(of_a_rule)
            try:
                self._look_again()
            except Exception as error:
                bench.tries.failed(error)
                raise

        def _look_again(self) -> None:
            with self._stack:
                for history in self.histories:
                    for layer_id, count in history.held.items():
                        for _ in range(count):
                            history.store.driver.put(layer_id)
                    for layer_id in history.layers:
                        history.check(layer_id)

        @initialize()
        def base(self) -> None:
            for history in self.histories:
                history.store.create("base")
                history.store.change("base", STANDARD)
                history.layers.append("base")

        def _turn(self, which: int) -> _History:
            return self.histories[which % len(self.histories)]

        @rule(which=st.integers(0, 1), layer_id=_IDS, number=st.integers(0, 9))
        def create(self, which: int, layer_id: str, number: int) -> None:
            self._note("create", which=which, layer_id=layer_id, number=number)
            history = self._turn(which)
            parent = history.pick(number)
            busy = parent in history.held and not history.has_children(parent)
            if layer_id in history.layers or (busy and not bench.has("busy-parents")):
                return
            history.store.create(layer_id, parent)
            history.parents.add(parent)
            history.layers.append(layer_id)
            history.check(layer_id)

        @rule(which=st.integers(0, 1), number=st.integers(0, 9), done=st.lists(drawn, max_size=_STEPS_OF_A_LAYER))
        def write(self, which: int, number: int, done: list[Any]) -> None:
            self._note("write", which=which, number=number, done=done)
            history = self._turn(which)
            layer_id = history.pick(number)
            # What lies below others is not written any more: overlayfs.rst leaves open what they would show.
            closed = history.has_children(layer_id) if bench.has("busy-parents") else layer_id in history.parents
            if not closed:
                history.store.change(layer_id, done)
                history.check(layer_id)

        @rule(which=st.integers(0, 1), number=st.integers(0, 9))
        def get(self, which: int, number: int) -> None:
            self._note("get", which=which, number=number)
            history = self._turn(which)
            layer_id = history.pick(number)
            history.store.tell(f"get {layer_id}, to be held")
            root = history.store.driver.get(layer_id)
            history.held[layer_id] = history.held.get(layer_id, 0) + 1
            same_tree(f"the tree of {layer_id}", history.store.expected(layer_id), observe(root))

        @precondition(lambda self: any(history.held for history in self.histories))
        @rule(which=st.integers(0, 1), number=st.integers(0, 9))
        def put(self, which: int, number: int) -> None:
            self._note("put", which=which, number=number)
            history = self._turn(which)
            if not history.held:
                return
            layer_id = sorted(history.held)[number % len(history.held)]
            history.store.tell(f"put {layer_id}")
            history.store.driver.put(layer_id)
            history.held[layer_id] -= 1
            if not history.held[layer_id]:
                del history.held[layer_id]

        @rule(which=st.integers(0, 1), number=st.integers(0, 9))
        def remove(self, which: int, number: int) -> None:
            self._note("remove", which=which, number=number)
            history = self._turn(which)
            layer_id = history.pick(number)
            if layer_id == "base" or layer_id in history.held or history.has_children(layer_id):
                return
            history.store.tell(f"remove {layer_id}")
            history.store.driver.remove(layer_id)
            history.layers.remove(layer_id)
            history.parents.discard(layer_id)

        @rule(which=st.integers(0, 1))
        def reopen(self, which: int) -> None:
            self._note("reopen", which=which)
            history = self._turn(which)
            if history.held:
                return
            history.store.tell("open the home again")
            history.store.driver = history.store.driver.reopen()

        @precondition(lambda _: bench.has("diff") and bench.has("apply"))
        @rule(which=st.integers(0, 1), number=st.integers(0, 9))
        def copy(self, which: int, number: int) -> None:
            """Diff a layer and apply it to a twin, on the same parent."""
            self._note("copy", which=which, number=number)
            history = self._turn(which)
            layer_id = history.pick(number)
            self.number += 1
            twin = f"twin-{self.number}"
            archive = history.store.diff(layer_id)
            history.store.create(twin, history.store.parent_of(layer_id))
            history.parents.add(history.store.parent_of(layer_id))
            history.store.apply(twin, archive)
            expected, found = history.store.expected(layer_id), history.store.observed(twin)
            same_tree(f"{twin}, a twin of {layer_id},", expected.without_directory_times(), found, times="files")
            history.store.tell(f"remove {twin}")
            history.store.driver.remove(twin)

    return LifeCycle


def repeat(bench: Bench, recorded: Sequence[tuple[str, dict[str, Any]]], *, stores: int) -> None:
    """The steps of a history that was recorded, without hypothesis."""
    machine: Any = life_cycle(bench, stores=stores)()
    try:
        machine.base()
        for name, words in recorded:
            getattr(machine, name)(**words)
    finally:
        machine.teardown()
