"""Power cuts in the middle of create, apply and remove, and what a driver that is opened afterwards finds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from conformance.drivers.protocol import DriverFailed, DriverRefused, DriverUnderTest
from conformance.harness.assertions import equal
from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation
from conformance.history.calls import ApplyDiff, Create, Remove
from conformance.lab.backing import backing_named
from conformance.lab.devices import sync_filesystem
from conformance.lab.powercut import REFUSING, Disk, disk
from conformance.machines import churn
from conformance.machines.crashes import (
    AGAIN,
    INTERRUPTED,
    KEPT,
    Changing,
    Ended,
    History,
    Step,
    Sync,
    beginning,
    check,
    describe,
    do,
    drawn_steps,
    layer_name,
)

_CALLS: dict[str, type[Changing]] = {"create": Create, "apply": ApplyDiff, "remove": Remove}
_STEPS = 14  # of a drawn history


@contextmanager
def own_disk(bench: Bench) -> Iterator[Disk]:
    """A disk with the filesystem that the test is about, on the filesystem that holds the run's own."""
    bench.begin()
    bench.note(f"a disk of its own with {bench.place.backing}, and a store on it")
    with bench.directory() as directory:
        files = Path(bench.place.directory).parent / f"disk-of-{directory.parent.name}"
        with disk(backing_named(bench.place.backing), files, directory) as made:
            yield made


def opener(bench: Bench, disk: Disk) -> Callable[[], DriverUnderTest]:
    return partial(bench.open_at, disk.target / "store")


@contextmanager
def store_on(bench: Bench, disk: Disk) -> Iterator[DriverUnderTest]:
    """A driver on the disk, which is left as by a process that ends."""
    (disk.target / "store").mkdir(exist_ok=True)
    driver = opener(bench, disk)()
    try:
        yield driver
    finally:
        with suppress(DriverRefused, DriverFailed):
            driver.leave()


def run(bench: Bench, disk: Disk, driver: DriverUnderTest, history: History, steps: Iterable[Step]) -> None:
    """Do steps and put them in the books."""
    for step in steps:
        _note(bench, step)
        do(history.add(step), history, driver, disk.image.parent, partial(sync_filesystem, disk.target))


def _note(bench: Bench, step: Step) -> None:
    """A sync is no call of the driver; calls are recorded by themselves."""
    if isinstance(step, Sync):
        bench.note(describe(step))


def last_step(kind: type[Changing]) -> tuple[list[Step], Step]:
    """What comes before a step of this kind, and the step."""
    layer, below = layer_name(2), layer_name(1)
    create, apply = Create(layer, below), ApplyDiff(layer, below, f"{layer}.tar")
    if kind is Create:
        return [], create
    if kind is ApplyDiff:
        return [create, Sync()], apply
    return [create, apply, Sync()], Remove(layer)


def worst(found: Sequence[Deviation]) -> Deviation:
    """A deviation that fails all the requirements of these, and tells the first of each."""
    first = {one.requirements: str(one) for one in reversed(found)}
    said = [first[one] for one in sorted(first, key=lambda one: (one != (KEPT,), one != (AGAIN,)))]
    said += [f"({len(found)} deviations in all)"] if len(found) > len(said) else []
    return Deviation("\n".join(said), requirements=tuple(name for one in first for name in one))


@pytest.mark.requirement("OVL-CRASH-KEPT", "OVL-CRASH-AGAIN", "OVL-CRASH-LITTER")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=pytest.mark.requirement(INTERRUPTED[kind]))
        for name, kind in _CALLS.items()
    ],
)
def test_a_power_cut_at_every_write(bench: Bench, kind: type[Changing]) -> None:
    """The disk as it was after each flush, during the call and until everything was written back.

    All the while somebody else syncs a file, so that names are safe before the data that belongs to them.
    """
    history = History()
    with own_disk(bench) as disk:
        with disk.recorded(), store_on(bench, disk) as driver:
            run(bench, disk, driver, history, beginning(history))
            before, step = last_step(kind)
            run(bench, disk, driver, history, before)
            safe = len(history.steps) - 1
            disk.mark("safe")
            with disk.busy():
                run(bench, disk, driver, history, [step])
                disk.mark("returned")
            run(bench, disk, driver, history, [Sync()])
            disk.mark("settled")
        found = []
        for moment, image in disk.states(disk.moments("safe", "settled", bench.examples)):
            marks = disk.begun_at(moment)
            ended = Ended(safe + 2, safe + 2) if "settled" in marks else Ended(safe, safe + 1)
            where = f"power cut {moment}, {'after' if 'returned' in marks else 'in'} {describe(step)}"
            bench.note(where)
            with disk.mounted(image):
                found += [
                    Deviation(f"{where}: {one}", requirements=one.requirements)
                    for one in check(history, ended, opener(bench, disk))
                ]
        if found:
            raise worst(found)


@pytest.mark.drawn
@pytest.mark.requirement("OVL-CRASH-KEPT", "OVL-CRASH-AGAIN", "OVL-CRASH-LITTER")
def test_a_power_cut_at_any_moment(bench: Bench) -> None:
    """From a drawn moment of a drawn history on, the disk loses its writes."""
    for _ in range(max(1, bench.examples // 5)):
        seed = random.randrange(2**32)
        history = History()
        with own_disk(bench) as disk:
            bench.note(f"a history of seed {seed}")
            with disk.powered(), store_on(bench, disk) as driver:
                ended = cut_while_running(bench, disk, driver, history, random.Random(seed))
            with disk.mounted():
                found = check(history, ended, opener(bench, disk))
        if found:
            raise worst(found)


def cut_while_running(
    bench: Bench, disk: Disk, driver: DriverUnderTest, history: History, chance: random.Random
) -> Ended:
    """Run a history and cut the power in it; how far it had come."""
    steps = islice(drawn_steps(chance.randrange(2**32), history), _STEPS)
    ended: list[int] = []
    over = threading.Event()
    started = time.monotonic()

    def one(step: Step) -> None:
        do(step, history, driver, disk.image.parent, partial(sync_filesystem, disk.target))
        ended.append(len(history.steps) - 1)

    for step in islice(steps, 5):
        _note(bench, step)
        one(step)
    pace = (time.monotonic() - started) / 5

    def rest() -> None:
        try:
            for step in steps:
                _note(bench, step)
                one(step)
        except (DriverRefused, DriverFailed, OSError):
            pass  # the disk is gone; nobody is to blame
        finally:
            over.set()

    thread = threading.Thread(target=rest)
    thread.start()
    over.wait(chance.random() * pace * (_STEPS - 5))
    synced = max(index for index in list(ended) if isinstance(history.steps[index], Sync))
    disk.cut()
    begun = len(history.steps) - 1
    bench.note("power cut")
    thread.join()
    return Ended(synced, begun)


@pytest.mark.requirement("OVL-CRASH-WRITE-ERROR")
@pytest.mark.parametrize("kind", [Create, ApplyDiff], ids=["create", "apply"])
def test_a_disk_that_refuses_writes_is_no_success(bench: Bench, kind: type[Changing]) -> None:
    history = History()
    with own_disk(bench) as disk:
        with disk.powered(), store_on(bench, disk) as driver:
            run(bench, disk, driver, history, beginning(history))
            before, step = last_step(kind)
            run(bench, disk, driver, history, [*before, *([] if before else [Sync()])])
            safe = len(history.steps) - 1
            disk.cut(REFUSING)
            bench.note("from now on the disk fails every write")
            try:
                run(bench, disk, driver, history, [step])
                done = True
            except DriverRefused:
                done = False
        equal(f"whether '{describe(step)}' succeeded on a disk that fails every write", done, False)
        with disk.mounted():
            found = check(history, Ended(safe, safe + 1), opener(bench, disk))
        if found:
            raise worst(found)


@pytest.mark.requirement("OVL-CRASH-RESET")
def test_a_reset_of_the_machine(bench: Bench) -> None:
    """The machine was reset while a history ran; the store that it left is looked at now."""
    bench.begin()
    for left in churn.left_behind(bench.place.backing):
        bench.note(f"a history of seed {left.seed} came to step {left.ended.begun}, and the machine was reset")
        with left.mounted() as store:
            found = check(left.history, left.ended, partial(bench.open_at, store))
        if found:
            raise Deviation(str(worst(found)))
