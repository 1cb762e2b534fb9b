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
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from conformance.harness.store import Store, same_tree
from conformance.harness.stores import Bench
from conformance.history.calls import Get, Put, Remove, Reopen
from conformance.operations.observe import observe
from conformance.operations.strategies import STANDARD, operations

_IDS = st.sampled_from(("a", "b", "c", "d", "e"))
_STEPS_OF_A_LAYER = 4
_OFTEN: Final = {"write": 3, "get": 2}  # of each ten steps; of the others one each
Machine = type[RuleBasedStateMachine]
_Step = tuple[str, dict[str, Any]]


def _steps(*, privileged: bool, archives: bool) -> st.SearchStrategy[_Step]:
    """A step of a history, its name and its words.

    One rule draws all: of several hypothesis leaves most out of an example, and takes the shortest most often.
    """
    which, number = st.integers(0, 1), st.integers(0, 9)
    layer = {"which": which, "number": number}
    done = st.lists(operations(privileged=privileged), min_size=1, max_size=_STEPS_OF_A_LAYER)
    words: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "get": layer,
        "put": layer,
        "create": {**layer, "layer_id": _IDS},
        "write": {**layer, "done": done, "diffed": st.booleans()},
        "remove": layer,
        "reopen": {"which": which},
        **({"copy": layer} if archives else {}),
    }
    names = [name for name in words for _ in range(_OFTEN.get(name, 1))]
    return st.one_of([st.tuples(st.just(name), st.fixed_dictionaries(words[name])) for name in names])


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

        @rule(drawn=_steps(privileged=bench.privileged, archives=archives))
        def step(self, drawn: _Step) -> None:
            """Take a step, and record it, so that it can be repeated without hypothesis."""
            name, words = drawn
            bench.history.drawn.append([name, words])
            getattr(self, name)(**words)

        def _turn(self, which: int) -> _History:
            return self.histories[which % len(self.histories)]

        def _check(self, layer_id: str) -> None:
            for history in self.histories:
                if layer_id in history.layers:
                    history.store.shows_model(layer_id)

        def create(self, which: int, layer_id: str, number: int) -> None:
            history = self._turn(which)
            parent = history.pick(number)
            busy = parent in history.held and not history.has_children(parent)
            if layer_id in history.layers or (busy and not bench.has("busy-parents")):
                return
            history.store.create(layer_id, parent)
            history.parents.add(parent)
            history.layers.append(layer_id)
            self._check(layer_id)

        def write(self, which: int, number: int, done: list[Any], diffed: bool) -> None:
            history = self._turn(which)
            layer_id = history.pick(number)
            # What lies below others is not written any more: overlayfs.rst leaves open what they would show.
            closed = history.has_children(layer_id) if bench.has("busy-parents") else layer_id in history.parents
            if closed:
                return
            if diffed and archives:
                history.store.diff(layer_id)
                history.diffed.add(layer_id)
            history.store.change(layer_id, done)
            self._check(layer_id)
            if layer_id in history.diffed:
                history.copy(layer_id)

        def get(self, which: int, number: int) -> None:
            history = self._turn(which)
            layer_id = history.pick(number)
            root = history.store.do(Get(layer_id))
            history.held[layer_id] = history.held.get(layer_id, 0) + 1
            same_tree(f"the tree of {layer_id}", history.store.expected(layer_id), observe(root))
            self._check(layer_id)

        def put(self, which: int, number: int) -> None:
            history = self._turn(which)
            if not history.held:
                return
            layer_id = sorted(history.held)[number % len(history.held)]
            history.store.do(Put(layer_id))
            history.held[layer_id] -= 1
            if not history.held[layer_id]:
                del history.held[layer_id]

        def remove(self, which: int, number: int) -> None:
            history = self._turn(which)
            layer_id = history.pick(number)
            if layer_id == "base" or layer_id in history.held or history.has_children(layer_id):
                return
            history.store.do(Remove(layer_id))
            history.layers.remove(layer_id)
            history.parents.discard(layer_id)
            history.diffed.discard(layer_id)

        def reopen(self, which: int) -> None:
            history = self._turn(which)
            if history.held:
                return
            history.store.do(Reopen())

        def copy(self, which: int, number: int) -> None:
            history = self._turn(which)
            history.copy(history.pick(number))

    return LifeCycle


def repeat(bench: Bench, recorded: Sequence[tuple[str, dict[str, Any]]], *, stores: int) -> None:
    """The steps of a history that was recorded, without hypothesis."""
    machine: Any = life_cycle(bench, stores=stores)()
    try:
        machine.base()
        for name, words in recorded:
            machine.step((name, words))
    finally:
        machine.teardown()
