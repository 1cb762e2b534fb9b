"""The projects that limits of layers are made of: no two are one, whoever makes them, and whatever was before."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import equal
from conformance.harness.bench import Bench, Store
from conformance.history.calls import Remove, Reopen
from conformance.lab.project import limit_of, limit_project, project_of, put_into_project
from conformance.suites import limits
from conformance.suites.limits import MIB, SIZES, WAYS, Way, way_of
from conformance.suites.processes import in_child

_SMALL = MIB
_OF_HOME = 64 * MIB


@pytest.mark.requirement("OVL-QUOTA-IDS")
@given(data=st.data())
def test_no_two_layers_are_one_project(bench: Bench, data: st.DataObject) -> None:
    way = way_of(bench, bench.draw(data, WAYS))
    steps = bench.draw(
        data, st.lists(st.sampled_from(("create", "reopen", "remove first", "remove last")), max_size=10)
    )
    no_two_are_one(bench, way, steps)


@pytest.mark.requirement("OVL-QUOTA-IDS")
@pytest.mark.parametrize(
    "steps",
    [["create", "remove first"], ["create", "remove first", "reopen"], ["reopen"]],
    ids=lambda steps: "-".join(steps).replace(" ", "-"),
)
def test_no_two_layers_are_one_project_after(bench: Bench, steps: list[str]) -> None:
    no_two_are_one(bench, way_of(bench), steps)


def no_two_are_one(bench: Bench, way: Way, steps: Sequence[str]) -> None:
    with way.store(bench, _SMALL) as store:
        projects: dict[str, int] = {}
        for number, step in enumerate(["create", *steps, "create"]):
            if step == "create":
                way.create(store, f"small-{number}", _SMALL)
                projects[f"small-{number}"] = limits.project(store, f"small-{number}")
                limits.all_differ(projects, project_of(store.home))
            elif step == "reopen":
                store.do(Reopen())
            elif projects:
                gone = list(projects)[0 if step == "remove first" else -1]
                store.do(Remove(gone))
                del projects[gone]


_CALLERS = 3
_EACH = 5  # layers


@pytest.mark.requirement("OVL-QUOTA-PROCESSES")
def test_processes_make_projects_of_their_own(bench: Bench) -> None:
    way = way_of(bench)
    with way.store(bench, _SMALL) as store:
        store.note(f"{_CALLERS} processes open the home, and each makes {_EACH} layers with a limit")
        store.note("(each waits after its first layer until all have one)")
        store.beyond("several processes made layers concurrently")
        gate = os.pipe()
        tasks = [functools.partial(make_layers, store, way, number, gate) for number in range(_CALLERS)]
        children = [in_child(task) for task in tasks]
        for end in gate:
            os.close(end)
        ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        equal("exit statuses of the processes", ended, [0] * _CALLERS)
        ids = [f"p{caller}-{number}" for caller in range(_CALLERS) for number in range(_EACH)]
        projects = {layer_id: limits.project(store, layer_id) for layer_id in ids}
        limits.all_differ(projects, project_of(store.home))


def make_layers(store: Store, way: Way, caller: int, gate: tuple[int, int]) -> int:
    """What one process does; 0, its exit code.

    All work concurrently on one processor, too: after its first layer each lets go of the pipe's other end, and
    goes on when nobody holds it any more.
    """
    waiting, held = gate
    driver = store.another_opening()
    try:
        for number in range(_EACH):
            if number == 1:
                os.close(held)
                os.read(waiting, 1)
            driver.create(f"p{caller}-{number}", "base", {} if way.of_driver else {"size": str(_SMALL)})
    finally:
        driver.leave()
    return 0


@pytest.mark.requirement("OVL-QUOTA-HOMES")
@given(data=st.data())
def test_two_homes_leave_one_another_alone(bench: Bench, data: st.DataObject) -> None:
    way = way_of(bench, bench.draw(data, WAYS))
    turns = bench.draw(data, st.lists(st.booleans(), min_size=1, max_size=5))
    with way.store(bench, _SMALL, "origin") as first:
        way.create(first, "early", _SMALL)
        with way.store(bench, _SMALL, "second") as second:
            projects = {"early": limits.project(first, "early")}
            for number, of_second in enumerate([*turns, True]):
                store, layer_id = (second if of_second else first), f"small-{number}"
                way.create(store, layer_id, _SMALL)
                projects[layer_id] = limits.project(store, layer_id)
                limits.all_differ(projects, project_of(store.home))
            limits.has_limit(bench, first, "early", _SMALL)
            limits.has_limit(bench, second, f"small-{len(turns)}", _SMALL)


@pytest.mark.requirement("OVL-QUOTA-BASE")
@given(data=st.data())
def test_projects_begin_after_the_homes_own(bench: Bench, data: st.DataObject) -> None:
    way = way_of(bench, bench.draw(data, WAYS))
    # Not drawn: what was of a project in another example may be noted for a while.
    base = random.SystemRandom().randrange(1 << 16, 1 << 31)
    inherit = bench.draw(data, st.booleans())
    with way.store(bench, _SMALL) as store:
        store.note(f"put the home into project {base}{', for all that is made in it' if inherit else ''}")
        store.beyond("the home was put into a project")
        put_into_project(store.home, base, inherit=inherit)
        store.do(Reopen())
        store.create("image", "base")
        found = []
        for number in range(3):
            way.create(store, f"small-{number}", _SMALL)
            found.append(limits.project(store, f"small-{number}"))
        equal(f"the projects of three layers of a home of project {base}", found, [base + 1, base + 2, base + 3])
        limits.has_limit(bench, store, "small-1", _SMALL)
        for layer_id in ("small-0", "image"):
            store.do(Remove(layer_id))


@pytest.mark.requirement("OVL-QUOTA-OWN")
def test_the_home_keeps_a_limit_of_its_own(bench: Bench) -> None:
    """What somebody set on the project of the home is theirs, also when layers go that are of it."""
    way, base = way_of(bench), random.SystemRandom().randrange(1 << 16, 1 << 31)
    with way.store(bench, _SMALL) as store:
        store.note(
            f"put the home into project {base}, for all that is made in it, with a limit of {_OF_HOME} bytes"
        )
        store.beyond("the home was put into a project with a limit")
        put_into_project(store.home, base, inherit=True)
        limit_project(store.home, base, _OF_HOME)
        store.do(Reopen())
        store.create("image", "base")
        way.create(store, "small", _SMALL)
        equal("the limit of the home, in bytes", limit_of(store.home), _OF_HOME)
        for layer_id in ("small", "image"):
            store.do(Remove(layer_id))
            equal(f"the limit of the home after the removal of {layer_id}", limit_of(store.home), _OF_HOME)


@pytest.mark.requirement("OVL-QUOTA-ID-AGAIN")
@given(data=st.data())
def test_an_id_used_again_has_its_own_limit(bench: Bench, data: st.DataObject) -> None:
    way = way_of(bench, bench.draw(data, WAYS))
    drawn = bench.draw(data, st.lists(st.one_of(SIZES, st.none()), min_size=1, max_size=3))
    first = bench.draw(data, SIZES)
    sizes = [first, *((first if way.of_driver and size else size) for size in drawn)]
    with way.store(bench, first) as store:
        for size in sizes:
            if size is None:
                store.create("again", "base")
                limits.has_no_limit(store, "again", first)
            else:
                way.create(store, "again", size)
                limits.has_limit(bench, store, "again", size)
            store.do(Remove("again"))
