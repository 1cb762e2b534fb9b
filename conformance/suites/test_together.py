"""Concurrent callers: the outcome is that of the same calls in some order."""

from __future__ import annotations

import functools
import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.drivers.protocol import DriverRefused
from conformance.harness.assertions import equal, same_entries, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import Deviation, charged_to
from conformance.harness.entries import content_of
from conformance.history.calls import ApplyDiff, Create, Diff, Exists, Get, Put, Remove
from conformance.history.concurrent import Call
from conformance.machines.parallel import CALLS, Record, explained_by_an_order, perform_call
from conformance.operations import ops
from conformance.operations.real import perform
from conformance.operations.standard import STANDARD
from conformance.suites.callers import all_done, together
from conformance.suites.mounts import mounted_once, mounts_below, nothing_mounted, tree_stays
from conformance.suites.processes import in_child, opened

_CALLERS = 4
_LAYERS = 30  # of each process, which takes a millisecond for one: fewer might not meet each other
_REMOVALS = 15  # so many beside as many creations: in memory, where calls are short, few of them overlap
_ROUNDS = 5  # what depends on who comes first is tried as often
_MEETINGS = 40  # rounds, where callers have to meet in a moment; in five they did not in one run of five
_LARGE = 2 << 20  # bytes


@pytest.mark.quick
@pytest.mark.requirement("OVL-PARALLEL-CREATE")
def test_layers_made_at_a_time_are_all_there(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        ids: list[str] = []
        for number in range(_MEETINGS):
            ids = [f"caller-{number}-{caller}" for caller in range(_CALLERS)]
            store.note(f"create {', '.join(ids)} on layer-0 concurrently")
            all_done(
                together([functools.partial(store.do, Create(layer_id, "layer-0")) for layer_id in ids]), "create"
            )
        for layer_id in ids:
            same_tree(f"the tree of {layer_id}", store.expected("layer-0"), store.observed(layer_id))


@pytest.mark.requirement("OVL-PARALLEL-LINEAR")
def test_a_layer_is_removed_or_built_on(bench: Bench) -> None:
    """Of a removal and a creation on the layer that goes, one is refused."""
    with bench.store() as store:
        for number in range(3 * _MEETINGS if bench.patient else _ROUNDS):
            parent, child = f"parent-{number}", f"child-{number}"
            store.create(parent)
            store.note(f"create {child} on {parent}, and remove {parent}, concurrently")
            calls = [functools.partial(store.do, one) for one in (Create(child, parent), Remove(parent))]
            created, removed = (not isinstance(one, DriverRefused) for one in together(calls))
            equal(f"whether {child} was created and {parent} removed", (created, removed) == (True, True), False)
            if created:
                store.do(Remove(child))
            if not removed:
                store.do(Remove(parent))


@pytest.mark.quick
@pytest.mark.requirement("OVL-PARALLEL-SAME-ID")
def test_one_of_several_gets_an_id(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        for _ in range(_MEETINGS):
            store.note(f"{_CALLERS} concurrent callers create 'same' on layer-0")
            outcomes = together([lambda: store.do(Create("same", "layer-0"))] * _CALLERS)
            done = [outcome for outcome in outcomes if not isinstance(outcome, DriverRefused)]
            if len(done) > 1:
                takes_an_id_once(store, "same", "layer-0")
            equal(f"how many of {_CALLERS} callers made the layer 'same'", len(done), 1)
            same_tree("the tree of same", store.expected("layer-0"), store.observed("same"))
            store.do(Remove("same"))


def takes_an_id_once(store: Store, layer_id: str, parent: str) -> None:
    """A single caller is refused the id of a layer; raises Deviation. Where it is not, that is the finding."""
    with charged_to("OVL-LIFE-EXISTING-ID"):
        store.refuses(Create(layer_id, parent))


@pytest.mark.quick
@pytest.mark.requirement("OVL-PARALLEL-GET")
def test_gets_and_puts_of_several_pair_up(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]])
        held = store.do(Get("layer-1"))

        def get_and_put() -> None:
            for _ in range(5):
                tree_stays(store.do(Get("layer-1")), "that a caller got")
                store.do(Put("layer-1"))

        store.note(f"{_CALLERS} concurrent callers get and put layer-1 five times each")
        all_done(together([get_and_put] * _CALLERS), "get and put")
        tree_stays(held, "that one caller held, after others put theirs")
        store.do(Put("layer-1"))
        nothing_mounted(store, "after the last put")


@pytest.mark.requirement("OVL-PARALLEL-GET")
def test_the_first_gets_of_several_count_too(bench: Bench) -> None:
    """The mount that none of them finds yet is the one for which all may be the first."""
    with bench.store() as store:
        store.build([(), [ops.CreateFile(b"new", b"new", 0o644)]])
        for _ in range(_MEETINGS):
            store.note(f"{_CALLERS} concurrent callers get layer-1, and put it one after another")
            roots = together([functools.partial(store.do, Get("layer-1"))] * _CALLERS)
            all_done(roots, "get")
            for mounted in mounts_below(store.home):
                mounted_once(store, mounted)
            for left in range(_CALLERS, 0, -1):
                for root in roots:
                    tree_stays(root, f"with {left} gets not put yet")
                store.do(Put("layer-1"))
            nothing_mounted(store, "after the last put")


@pytest.mark.requirement("OVL-PARALLEL-DIFF")
def test_archives_of_several_are_those_of_one(bench: Bench) -> None:
    with bench.store("origin") as store, bench.store("copy") as copy:
        # Large enough that no diff has ended when the last begins, and without blocks, so quickly made.
        ids = store.build(
            [
                [*STANDARD, ops.CreateFile(b"x", b"", 0o644), ops.Truncate(b"x", _LARGE)],
                [ops.RemoveTree(b"d"), ops.CreateFile(b"y", b"", 0o644), ops.Truncate(b"y", _LARGE)],
            ]
        )
        alone = {layer_id: content_of(store.diff(layer_id)) for layer_id in ids}
        wanted = [(ids[n % 2], store.directory / f"at-a-time-{n}.tar") for n in range(_CALLERS)]
        for _ in range(_ROUNDS):
            store.note(f"{_CALLERS} concurrent callers write diffs of {ids[0]} and {ids[1]}")
            diffs = [
                functools.partial(store.do, Diff(layer_id, store.parent_of(layer_id), store.label(file)))
                for layer_id, file in wanted
            ]
            all_done(together(diffs), "diff")
            for layer_id, file in wanted:
                same_entries(f"the diff of {layer_id}, written beside others", alone[layer_id], content_of(file))
        file = wanted[0][1]
        for number in range(_CALLERS):
            copy.create(f"flat-{number}")
        copy.note(f"apply {file.name} to flat-0 to flat-{_CALLERS - 1} concurrently")
        applies = [
            functools.partial(copy.do, ApplyDiff(f"flat-{number}", "", copy.label(file)))
            for number in range(_CALLERS)
        ]
        all_done(together(applies), "apply")
        for number in range(_CALLERS):
            same_tree(f"flat-{number}", store.observed(ids[0]), copy.observed(f"flat-{number}"), times="files")


@pytest.mark.requirement("OVL-PARALLEL-LINEAR")
@given(data=st.data())
def test_some_order_explains_what_came_of_it(bench: Bench, data: st.DataObject) -> None:
    callers = bench.draw(data, st.lists(st.lists(CALLS, min_size=1, max_size=3), min_size=2, max_size=3))
    before = bench.draw(data, st.sets(st.sampled_from(("x", "y"))).map(sorted))
    with bench.store() as store:
        store.create("base")
        for layer_id in before:
            store.create(layer_id, "base")
        clock = itertools.count()
        records: list[Record] = []

        def run(calls: list[Call]) -> None:
            for call in calls:
                began = next(clock)
                done = perform_call(store.do, call)
                records.append(Record(call, done, began, next(clock)))

        for number, calls in enumerate(callers):
            store.note(f"caller {number}: {'; '.join(map(str, calls))}")
        all_done(together([functools.partial(run, calls) for calls in callers]), "calls")
        left = frozenset(layer_id for layer_id in ("base", "x", "y") if store.do(Exists(layer_id)))
        if not explained_by_an_order(records, frozenset({"base", *before}), left):
            said = "\n".join(f"{record.call} -> {'done' if record.done else 'refused'}" for record in records)
            store.create("twice", "base")
            takes_an_id_once(store, "twice", "base")
            raise Deviation(
                f"no order of these calls explains their outcomes and what is left, {sorted(left)}:\n{said}"
            )
        for layer_id in sorted(left):
            store.observed(layer_id)


@pytest.mark.requirement("OVL-PARALLEL-LINEAR")
def test_what_is_removed_beside_creations_is_gone(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        old, new = ([f"{word}-{number}" for number in range(_REMOVALS)] for word in ("old", "new"))
        for layer_id in old:
            store.create(layer_id, "base")

        def done(verb: str, ids: list[str]) -> set[str]:
            return {layer_id for layer_id in ids if perform_call(store.do, Call(verb, layer_id))}

        store.note(f"one caller creates {', '.join(new)} on base, and another removes {', '.join(old)} meanwhile")
        created, removed = together(
            [functools.partial(done, "create", new), functools.partial(done, "remove", old)]
        )
        left = {layer_id for layer_id in (*old, *new) if store.do(Exists(layer_id))}
        equal("the layers that were created", created, set(new))
        equal(f"the layers that are left after {sorted(removed)} were removed", left, {*old, *new} - removed)


@pytest.mark.quick
@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
def test_what_one_opening_holds_another_does_not_put(bench: Bench) -> None:
    """Two openings that know nothing of each other are what two processes are, and take turns as they should."""
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]])
        other = store.another_opening()
        try:
            store.note("get layer-1 by one opening of the home, and by another")
            root = store.do(Get("layer-1"))
            other.get("layer-1")
            store.do(Put("layer-1"))
            tree_stays(root, "that the other opening holds")
            other.put("layer-1")
            nothing_mounted(store, "after both puts")
        finally:
            other.leave()


@pytest.mark.quick
@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
@pytest.mark.parametrize("mine", [False, True], ids=["then", "after-another-creation"])
def test_a_child_that_another_opening_made_keeps_its_parent(bench: Bench, mine: bool) -> None:
    """What an opening remembers of who is built on whom ends where another one changes it."""
    bench.need("own-layers")
    with bench.store() as store:
        store.build([STANDARD])
        store.do(Create("first", "layer-0"))
        store.do(Remove("first"))
        store.beyond("another opening of the home created child on layer-0")
        with opened(store) as other:
            other.create("child", "layer-0")
        if mine:
            store.do(Create("mine", ""))
        store.refuses(Remove("layer-0"))
        store.shows_model("layer-0")
        same_tree("child", store.expected("layer-0"), store.observed("child"))
        store.beyond("another opening of the home removed child")
        with opened(store) as other:
            other.remove("child")
        store.do(Remove("layer-0"))


@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
def test_a_parent_that_another_opening_recreated_is_built_on(bench: Bench) -> None:
    """What an opening remembers of a layer ends where another one takes its id for another layer."""
    bench.need("own-layers")
    with bench.store() as store:
        store.build([STANDARD])
        store.do(Create("first", "layer-0"))
        store.shows_model("first")
        store.do(Remove("first"))
        store.beyond("another opening of the home removed layer-0, and created it with other content")
        with opened(store) as other:
            other.remove("layer-0")
            other.create("layer-0", "")
            perform(other.get("layer-0"), ops.CreateFile(b"recreated", b"", 0o644))
            other.put("layer-0")
        store.do(Create("later", "layer-0"))
        store.shows_names("later", {b"recreated"})


@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
def test_processes_share_a_home(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        store.note(
            f"{_CALLERS} processes concurrently make thirty layers each, open the home for each of them, mount it,"
            " and try to make 'same'"
        )
        waiting, go = os.pipe()
        children = [in_child(functools.partial(work, store, number, (waiting, go))) for number in range(_CALLERS)]
        os.close(go)
        os.close(waiting)
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        if set(ended) <= {0, 1} and sum(ended) > 1:
            takes_an_id_once(store, "same", "layer-0")
        what = "exit statuses of the processes (1: made 'same', 0: was refused it, 2: another failure)"
        equal(what, sorted(ended), [*[0] * (_CALLERS - 1), 1])
        for number in range(_CALLERS):
            for layer in range(_LAYERS):
                store.shows_names(f"p{number}-{layer}", {*store.expected("layer-0").nodes, b"own"})


@pytest.mark.requirement("OVL-PARALLEL-PROCESSES")
def test_who_has_read_a_layer_keeps_nobody_from_removing_it(bench: Bench) -> None:
    """A driver may hold a layer while it reads it, and no longer."""
    bench.need("diff")
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")], [ops.CreateFile(b"new", b"", 0o644)]])
        store.diff("layer-2", "layer-0")
        store.beyond("another process opens the home and removes layer-2, while the first is there")
        status = os.waitstatus_to_exitcode(os.waitpid(in_child(lambda: removed(store, "layer-2")), 0)[1])
        equal("exit status of the process (1: it was refused the removal, 2: another failure)", status, 0)
        store.denies("layer-2")


def removed(store: Store, layer_id: str) -> int:
    """Remove a layer in this process: 0, or 1 if it is refused."""
    with opened(store) as driver:
        try:
            driver.remove(layer_id)
        except DriverRefused:
            return 1
        return 0


def work(store: Store, number: int, gate: tuple[int, int]) -> int:
    """What one of the processes does, when nobody holds the other end of the pipe any more."""
    waiting, go = gate
    os.close(go)
    with opened(store):  # what has to be started to reach the driver is there before the gate opens
        pass
    os.read(waiting, 1)
    for layer in range(_LAYERS):
        with opened(store) as driver:
            layer_id = f"p{number}-{layer}"
            driver.create(layer_id, "layer-0")
            root = driver.get(layer_id)
            perform(root, ops.CreateFile(b"own", b"", 0o644))
            driver.put(layer_id)
    with opened(store) as driver:
        try:
            driver.create("same", "layer-0")
        except DriverRefused:
            return 0
        return 1
