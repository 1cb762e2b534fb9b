"""Two drivers side by side: the same operations on both, and their differences.

A process like the worker of a run: it reads its task from standard input and reports events. The model is not used.
Trees, changes, sizes and the names of a diff are compared, and what each driver refuses. It reports the minimal
example: the smallest chain of layers that shows a difference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings

from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.drivers.registry import connect, writable_of
from conformance.harness.channel import Teller
from conformance.harness.contained import contained
from conformance.harness.deviation import Deviation
from conformance.harness.entries import entry_names
from conformance.harness.events import Compared, Finished
from conformance.harness.host import confine, prepare
from conformance.harness.preflight import Unusable, preflight
from conformance.harness.serving import serve
from conformance.harness.session import Session, Wish
from conformance.harness.store import RecordedStore
from conformance.harness.stores import BackingBench, Fixtures
from conformance.harness.timing import Stopwatch
from conformance.history.steps import History
from conformance.history.trace import trace
from conformance.lab import namespace
from conformance.operations import ops
from conformance.operations.comparing import differences
from conformance.operations.strategies import chains
from conformance.operations.trees import Snapshot
from conformance.spec import load_capabilities, load_requirements

Chain = Sequence[Sequence[ops.Operation]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the controller asks for."""

    first: str
    second: str
    scratch: str
    parent: int
    examples: int
    seed: int


class Difference(Exception):
    """The drivers differ; the text says in what."""


def main() -> None:
    """Compare two drivers; exits with 0 when all events are reported, whatever they say."""
    serve(Comparison, _confined)


def _confined(task: Comparison, events: Teller) -> None:
    names = (task.first, task.second)
    with suppress(namespace.NoNamespace):  # which prepare() tells
        confine([Path(task.scratch), *(path for name in names for path in writable_of(name))])
    namespace.die_with_parent(task.parent)  # a change of user namespace made the kernel forget it
    for name in names:
        connect(name).close()
    with (Path(task.scratch) / "log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
        found, steps = compare(task)
    events.tell(Compared(found, tuple(steps)))
    events.tell(Finished())


def compare(task: Comparison) -> tuple[str, list[str]]:
    """What differs, "" if nothing does, and the steps that show it."""
    writable = tuple(path for name in (task.first, task.second) for path in writable_of(name))
    scratch = Path(task.scratch)
    wish = Wish(task.first, "standard", task.examples, (), (), writable=(scratch, *writable))
    session = prepare(wish, scratch)
    history = History()
    with ExitStack() as stack:
        benches = [
            _bench(replace(session, driver=name), history, stack, directory)
            for name, directory in ((task.first, "first"), (task.second, "second"))
        ]

        @settings(
            max_examples=task.examples,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @seed(task.seed)
        @given(chains(privileged=session.privileged, least=2))
        def agree(chain: Chain) -> None:
            _agree(benches, chain)

        try:
            agree()
        except Difference as difference:
            return str(difference), list(trace(history.steps))
    return "", []


def _bench(session: Session, history: History, stack: ExitStack, directory: str) -> BackingBench:
    """Stores of a driver that passed the preflight; raises Unusable for one that did not."""
    source = contained(connect(session.driver))
    stack.callback(source.close)
    fixtures = Fixtures(session, source, history, Stopwatch(), load_requirements(), load_capabilities())
    outcome = preflight(fixtures)
    if outcome:
        failed = ", ".join(outcome.requirements)
        raise Unusable(f"{session.driver} cannot be compared: it fails {failed}\n  {outcome.reason}")
    return BackingBench(fixtures, session.places[0], directory, watched=False)


def _agree(benches: Sequence[BackingBench], chain: Chain) -> None:
    first, second = benches
    with first.store("origin") as one, second.store("other") as other:
        for layer_id in _same_outcome(one, other, "building the chain", lambda store: store.build(chain)) or ():
            trees = [_timeless(store, layer_id) for store in (one, other)]
            found = differences(*trees, times="files")
            if found:
                raise Difference("\n".join([f"{layer_id}, with what the first shows as expected:", *found]))
            for what, capability, look in _LOOKS:
                if first.has(capability) and second.has(capability):
                    said = [_said(store, functools.partial(look, layer_id=layer_id)) for store in (one, other)]
                    if said[0] != said[1]:
                        raise Difference(f"{what} of {layer_id}: the first says {said[0]}, the second {said[1]}")


def _timeless(store: RecordedStore, layer_id: str) -> Snapshot:
    """The tree without the times of what happened "now", which was another moment for each driver."""
    known, seen = store.expected(layer_id).nodes, store.observed(layer_id)
    now = {path for path in seen.nodes if path not in known or known[path].mtime_ns is None}
    nodes = {path: replace(node, mtime_ns=None) if path in now else node for path, node in seen.nodes.items()}
    return Snapshot(nodes, seen.link_groups)


def _same_outcome(
    one: RecordedStore, other: RecordedStore, what: str, do: Callable[[RecordedStore], list[str]]
) -> list[str]:
    """What both did; raises Difference if one did it and the other did not."""
    outcomes = [_said(store, do) for store in (one, other)]
    if outcomes[0] != outcomes[1]:
        raise Difference(f"{what}: the first: {outcomes[0]}; the second: {outcomes[1]}")
    done = outcomes[0]
    return done if isinstance(done, list) else []


def _said(store: RecordedStore, do: Callable[[RecordedStore], object]) -> object:
    try:
        return do(store)
    except DriverRefused:
        return "refused"
    except DriverFailed as failed:
        return f"no answer: {failed}"
    except Deviation as deviation:
        return f"an operation went wrong: {deviation}"


def _names(store: RecordedStore, layer_id: str) -> object:
    return sorted(name for name in entry_names(store.diff(layer_id)) if not name.endswith(".wh..wh..opq"))


def _changes(store: RecordedStore, layer_id: str) -> object:
    """What is added, deleted and modified, without directories that differ in nothing but their time.

    Drivers may list those or not: the directories above a change, and those something was made in and deleted.
    """
    parent = store.parent_of(layer_id)
    before, after = store.expected(parent) if parent else Snapshot({}, frozenset()), store.expected(layer_id)
    found = store.driver.changes(layer_id, parent)
    listed = [(change.path, change.kind) for change in found if change.path != b"/"]
    return sorted(one for one in listed if not _same_directory(before, after, one[0].lstrip(b"/")))


def _same_directory(before: Snapshot, after: Snapshot, path: bytes) -> bool:
    one, other = before.nodes.get(path), after.nodes.get(path)
    if one is None or other is None or not one.is_directory:
        return False
    return replace(one, mtime_ns=None) == replace(other, mtime_ns=None)


def _size(store: RecordedStore, layer_id: str) -> object:
    return store.driver.diff_size(layer_id, store.parent_of(layer_id))


_LOOKS: Final = (
    ("the names in the diff", "diff", _names),
    ("the changes", "changes", _changes),
    ("the size", "diff-size", _size),
)


if __name__ == "__main__":
    main()
