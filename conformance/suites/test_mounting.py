"""Mounts: once each, right at every length of the option data, and gone when they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance import ops
from conformance.driver import DriverRefused
from conformance.bench import Bench
from conformance.strategies import STANDARD
from conformance.workbench import Deviation, Workbench

_PAGE = os.sysconf("SC_PAGESIZE")
_SHORT = len("/l/") + 26  # of a lower, after the home


def mounts_below(directory: str) -> list[str]:
    """Mount points strictly below a directory, without bind mounts of directories on themselves."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    overlays = [line for line in lines if " - overlay " in line or " - fuse" in line]
    return [fields[4] for fields in map(str.split, overlays) if fields[4].startswith(directory + "/")]


def two_layers(store: Workbench) -> None:
    store.build([STANDARD, [ops.Unlink(b"a"), ops.CreateFile(b"new", b"new", 0o644)]])


@pytest.mark.requirement("OVL-MOUNT-ONCE", "OVL-MOUNT-LAST-PUT")
def test_a_layer_is_mounted_once_and_until_the_last_put(bench: Bench) -> None:
    with bench.store() as store:
        two_layers(store)
        store.tell("get layer-1, three times")
        paths = [store.driver.get("layer-1") for _ in range(3)]
        if len(set(paths)) > 1:
            raise Deviation(f"one layer was mounted on several paths: {paths}")
        for left in (2, 1):
            store.tell(f"put layer-1, {left} left")
            store.driver.put("layer-1")
            if not os.path.exists(f"{paths[0]}/new"):
                raise Deviation(f"the tree is gone after a put, with {left} gets not put yet")
        store.tell("put layer-1, the last")
        store.driver.put("layer-1")
        if mounts_below(store.driver.home):
            raise Deviation(f"still mounted after the last put: {mounts_below(store.driver.home)}")


@pytest.mark.requirement("OVL-MOUNT-EXTRA-PUT")
def test_a_put_too_many_does_no_harm(bench: Bench) -> None:
    with bench.store() as store:
        two_layers(store)
        store.tell("put layer-1, without a get")
        try:
            store.driver.put("layer-1")
        except DriverRefused as error:
            store.tell(f"  refused: {error}")  # to say so is as good
        store.tell("get layer-1, twice")
        root = store.driver.get("layer-1")
        store.driver.get("layer-1")
        store.tell("put layer-1")
        store.driver.put("layer-1")
        if not os.path.exists(f"{root}/new"):
            raise Deviation("the tree is gone with one get not put yet: the put too many was counted")
        store.driver.put("layer-1")


def home_of_length(directory: Path, length: int, suffix: int) -> Path:
    """A directory below ``directory`` whose path, with ``suffix`` more bytes, has exactly ``length``."""
    missing = length - suffix - len(os.fsencode(directory)) - 1
    if missing < 1:
        pytest.skip("not applicable: the temporary directory's path is too long for this test; set --scratch")
    return directory / ("h" * missing)


@pytest.mark.requirement("OVL-MOUNT-PAGE-BOUNDARY")
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_the_page_boundary(bench: Bench, beyond: int) -> None:
    """The chain and the home are chosen so that the absolute option data has a page and ``beyond`` bytes."""
    lowers = 23  # odd, so that homes of odd and even length together reach every length of data
    with bench.store() as probe:
        added = len(probe.driver.home) - len(str(probe.directory))  # what the adapter puts behind the directory
    bench.story.begin()
    wanted = _PAGE + beyond
    # lowerdir=H/l/X:...,upperdir=H/ID/diff,workdir=H/ID/work, with H the home and ID as long as it takes
    fixed = len("lowerdir=,upperdir=,workdir=") + 2 * len("//diff") + lowers * _SHORT + lowers - 1
    shortest = 2 * len("top")
    length, spare = divmod(wanted - fixed - shortest, lowers + 2)
    if spare % 2:
        length, spare = length - 1, spare + lowers + 2
    id_length = len("top") + spare // 2
    with bench.store("origin", lambda directory: home_of_length(directory, length, added)) as store:
        store.tell(f"a home of {length} bytes, {lowers} lowers: {wanted} bytes of absolute option data")
        ids = store.build(
            [[ops.CreateFile(b"file-%d" % number, b"%d" % number, 0o644)] for number in range(lowers)]
        )
        top = store.create("top".ljust(id_length, "t"), ids[-1])
        store.change(top, [ops.CreateFile(b"own", b"own", 0o644)])
        store.check_tree(top)


@pytest.mark.requirement("OVL-MOUNT-PAGE-BOUNDARY")
def test_far_beyond_a_page(bench: Bench) -> None:
    with bench.store("origin", lambda directory: home_of_length(directory, 220, 0)) as store:
        ids = store.build([[ops.CreateFile(b"file-%d" % number, b"%d" % number, 0o644)] for number in range(40)])
        store.check_tree(ids[-1])


@pytest.mark.requirement("OVL-MOUNT-HOME-PRIVATE")
def test_the_home_is_private(bench: Bench) -> None:
    with bench.store() as store:
        two_layers(store)
        store.tell("get layer-1")
        root = store.driver.get("layer-1")
        lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        shared = [
            fields[4] for fields in lines if fields[4] == root and any(f.startswith("shared:") for f in fields)
        ]
        store.driver.put("layer-1")
        if shared:
            raise Deviation(f"the mount {root} is shared with other mount namespaces; expected it to be private")


@pytest.mark.requirement("OVL-NAMES-HOME")
@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "a b", "\\:,"])
def test_any_character_may_be_in_the_path_of_the_home(bench: Bench, name: str) -> None:
    with bench.store("origin", lambda directory: directory / name) as store:
        store.tell(f"a home below a directory called {name!r}")
        two_layers(store)
        store.create("layer-2", "layer-1")
        store.check_tree("layer-2")
