"""Processes that are killed in the middle of a call, while the kernel and other processes go on."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from conformance.harness.assertions import equal, nothing, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import Deviation, charged_to
from conformance.harness.skips import not_applicable
from conformance.history.calls import Exists, Get, Put, Remove, Reopen
from conformance.history.findings import StillMounted
from conformance.lab.killing import Killable, killable
from conformance.lab.pieces import Stall
from conformance.operations import archives, ops
from conformance.operations.standard import STANDARD
from conformance.operations.tarforms import BLOCK
from conformance.suites.mounts import mounts_below, nothing_mounted
from conformance.suites.processes import opened
from conformance.suites.stalled import stalled

_CHANGED: Final[tuple[ops.Operation, ...]] = (
    ops.RemoveTree(b"d"),
    *(ops.CreateFile(b"new-%d" % number, b"new" * 500, 0o644) for number in range(20)),
)
_PART = 20_480  # bytes of an archive, which end within it
_PATIENCE = 1.0  # seconds; a driver may let others wait while one applies
_LARGE = ops.CreateFile(b"large", b"large" * 40_000, 0o644)  # more than a pipe holds


@pytest.mark.requirement("OVL-RESTART-KILLED")
@pytest.mark.requirement("OVL-RESTART-KILLED-APPLY")
def test_an_apply_is_killed(bench: Bench) -> None:
    bench.need("diff", "apply")
    with bench.store() as store:
        store.build([STANDARD, _CHANGED])
        archive = store.diff("layer-1").read_bytes()
        store.create("copy", "layer-0")
        with _applying(store, "copy", archive[:_PART]) as (process, _):
            store.beyond("that process is killed")
            _kill(process)
        store.shows_model("layer-0")
        with charged_to("OVL-RESTART-KILLED-APPLY"):
            _shows_all_or_nothing(store, "copy")
        _removed_and_made_again(store, "copy")
        nothing_mounted(store, "after every get was put")
        store.do(Reopen())  # the latest time to take it away
        with charged_to("OVL-RESTART-KILLED-APPLY"):
            _has_nothing_left(bench, store)


@pytest.mark.requirement("OVL-RESTART-KILLED")
@pytest.mark.parametrize("parent", ["layer-1", "layer-0"], ids=["parent", "ancestor"])
def test_a_diff_is_killed(bench: Bench, parent: str) -> None:
    """One that needs the mounted tree may count as a get, which the next process puts."""
    bench.need("diff")
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")], [_LARGE]])
        _kill_a_diff(store, parent)
        store.shows_model("layer-2")
        if store.may_refuse(Remove("layer-2")) is not None:
            store.may_refuse(Put("layer-2"))
            store.do(Remove("layer-2"))
        _removed_and_made_again(store, "layer-2")


@pytest.mark.requirement("OVL-RESTART-KILLED")
def test_a_home_is_closed_after_a_killed_diff(bench: Bench) -> None:
    bench.need("diff", "own-home")
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")], [_LARGE]])
        _kill_a_diff(store, "layer-0")
        store.beyond("the home is closed")
        store.another_opening().close()
        nothing_mounted(store, "after the home was closed")


@pytest.mark.requirement("OVL-RESTART-KILLED")
def test_an_opening_of_before_closes_the_home_after_a_killed_apply(bench: Bench) -> None:
    """Against a twin of the parent, a driver may unpack into a tree that it mounts for this."""
    bench.need("diff", "apply", "own-home")
    with bench.store() as store:
        store.build([STANDARD, _CHANGED])
        archive = store.diff("layer-1").read_bytes()
        store.create("twin")
        store.apply("twin", store.diff("layer-0"))
        store.create("copy", "twin")
        store.beyond("the home is opened once more")
        with opened(store) as other:
            with _applying(store, "copy", archive[:_PART]) as (process, _):
                store.beyond("that process is killed, and then the other opening closes the home")
                _kill(process)
            other.close()
            nothing_mounted(store, "after the home was closed")


@pytest.mark.requirement("OVL-RESTART-KILLED")
def test_a_home_is_closed_after_a_killed_diff_of_an_image(bench: Bench) -> None:
    bench.need("diff", "own-home", "image-stores", "image-mounts")
    with bench.store("origin") as images:
        ids = images.build([STANDARD, [ops.Unlink(b"a")], [_LARGE]])
        with bench.store("copy", image_stores=[images.image_store]) as store:
            store.knows(images, *ids)
            _kill_a_diff(store, "layer-0")
            store.beyond("the home is closed")
            store.another_opening().close()
            nothing_mounted(store, "after the home was closed")


@pytest.mark.requirement("OVL-RESTART-KILLED")
@pytest.mark.parametrize("parent", ["layer-1", "layer-0"], ids=["parent", "ancestor"])
def test_an_archive_is_applied_after_a_killed_diff(bench: Bench, parent: str) -> None:
    """What the diff read the tree by is not what later gets show."""
    bench.need("diff", "apply")
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")], [_LARGE]])
        _kill_a_diff(store, parent)
        call = store.applying(
            "layer-2", store.archive([archives.file("added", b"added"), archives.whiteout(".wh.b")])
        )
        if store.may_refuse(call) is not None:
            store.may_refuse(Put("layer-2"))
            store.do(call)
        root = store.do(Get("layer-2"))
        found = [name for name in ("added", "large", "b") if os.path.lexists(f"{root}/{name}")]
        store.do(Put("layer-2"))
        equal("which of 'added', 'large' and the deleted 'b' are in layer-2", found, ["added", "large"])
        _is_not_mounted(store, "layer-2")


def _kill_a_diff(store: Store, parent: str) -> None:
    with stalled(
        store,
        f"another process diffs layer-2 against {parent}, and is killed when its archive begins",
        lambda driver, pipe: driver.diff("layer-2", parent, pipe),
    ) as (process, pipe):
        process.wait(lambda: pipe.unread > 0)
        _kill(process)


def _kill(process: Killable) -> None:
    """Kill it in the middle of its call; leaves the test where that has ended, so that nothing was interrupted."""
    ended = process.ends_within(0)
    process.kill()
    if ended:
        not_applicable(f"the call ended with status {process.code} before the other end of its archive was there")


@pytest.mark.requirement("OVL-RESTART-KILLED")
def test_an_opening_after_a_kill_lets_others_apply(bench: Bench) -> None:
    """Who opens the home may take away what the killed process left, and nothing of one that is there."""
    bench.need("diff", "apply")
    with bench.store() as store:
        store.build([STANDARD, _CHANGED])
        archive = store.diff("layer-1").read_bytes()
        store.create("killed", "layer-0")
        store.create("copy", "layer-0")
        with _applying(store, "copy", archive[:_PART]) as (process, pipe):
            with _applying(store, "killed", archive[:_PART], _PATIENCE) as (other, _):
                store.beyond("that process is killed")
                other.kill()
            store.beyond("a third process opens the home, while the first one gets the rest of its archive")
            with killable(functools.partial(_opened, store), pipe.end) as opening:
                opening.ends_within(_PATIENCE)
                for begin in range(_PART, len(archive), 4096):
                    if process.wait(lambda: pipe.unread == 0):
                        pipe.give(archive[begin : begin + 4096])
                pipe.end()
                what = "exit status of the process that {} (2: it failed)"
                equal(what.format("applies"), process.join(), 0)
                equal(what.format("opens the home"), opening.join(), 0)
        expected = store.expected("layer-1").without_directory_times()
        same_tree("copy", expected, store.observed("copy"), times="files")


@contextmanager
def _applying(
    store: Store, layer_id: str, part: bytes, seconds: float = math.inf
) -> Iterator[tuple[Killable, Stall]]:
    """Another process, which has read a part of the archive that it applies, or did not in so many seconds."""
    with stalled(
        store,
        f"another process applies the diff of layer-1 to {layer_id}, and gets {len(part)} bytes of it",
        lambda driver, path: driver.apply_diff(layer_id, "layer-0", path),
    ) as (process, pipe):
        # Who comes back for more has done what was there, or some of it, if it reads ahead.
        for begin in (0, *range(_PART // 2, _PART, BLOCK)):
            pipe.give(part[begin : begin + BLOCK] if begin else part[: _PART // 2])
            if not process.wait(lambda: pipe.unread == 0, seconds):
                break
        yield process, pipe


def _opened(store: Store) -> int:
    with opened(store):
        return 0


def _shows_all_or_nothing(store: Store, layer_id: str) -> None:
    tree = store.may_show(layer_id)
    if tree is None or tree.nodes.keys() == store.expected("layer-0").nodes.keys():
        return
    expected, found = store.expected("layer-1").without_directory_times(), tree.without_directory_times()
    if found.nodes.keys() != expected.nodes.keys():
        there = sorted(found.nodes.keys() & expected.nodes.keys())
        raise Deviation(f"{layer_id} shows a part of the archive: {len(there)} of {len(expected.nodes)} entries")


def _removed_and_made_again(store: Store, layer_id: str) -> None:
    """Remove the layer, if it is there, and create one of this id that has nothing of it; raises Deviation."""
    if store.do(Exists(layer_id)):
        store.do(Remove(layer_id))
    store.create(layer_id, "layer-0")
    tree = store.observed(layer_id)
    same_tree(f"{layer_id}, created again on layer-0,", store.expected("layer-0"), tree)
    _is_not_mounted(store, layer_id)


def _is_not_mounted(store: Store, layer_id: str) -> None:
    """A layer that was used is not mounted after its last put; others may be until the home is closed."""
    left = [path for path in mounts_below(store.home) if layer_id in Path(path).parts]
    nothing(f"mounts of {layer_id} after every get was put", left, StillMounted(overlays=True))


def _has_nothing_left(bench: Bench, store: Store) -> None:
    """The home has no file of the archive but those of the layer that was diffed; raises Deviation."""
    if not bench.has("home-layout"):
        return
    found = [path for path in Path(store.home).rglob("new-*") if "layer-1" not in path.parts]
    nothing("files of the interrupted archive in the home, after its layer was removed", found)
