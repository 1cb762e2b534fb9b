from __future__ import annotations

import io
import multiprocessing
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import pytest
from helpers import build_chain, chain_content, everything_in, mounted_below, read

from refdriver import Driver, errors
from refdriver.locks import HomeLocks

pytestmark = pytest.mark.mounts

WORKERS = 4
ROUNDS = 15
LARGE = 4 << 20  # bytes that nobody reads ahead


def in_processes(work: Callable[[int], None]) -> None:
    """Run ``work`` with 0 to WORKERS - 1 at once, each in a process forked from this one."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(number,)) for number in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def in_threads(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))


@pytest.mark.parametrize("at_once", [in_threads, in_processes])
def test_gets_and_puts_of_one_layer(home: Path, at_once: Callable[[Callable[[int], None]], None]) -> None:
    # Opened before the fork and used after it: the children must not share the parent's locks.
    with Driver(home) as driver:
        build_chain(driver, 2)

        def use(_: int) -> None:
            for _ in range(ROUNDS):
                assert read(driver, "layer-1") == chain_content(2)

        at_once(use)
        assert mounted_below(home) == []


@pytest.mark.parametrize("at_once", [in_threads, in_processes])
def test_one_of_many_creators_wins(home: Path, at_once: Callable[[Callable[[int], None]], None]) -> None:
    with Driver(home) as driver:
        driver.create("base")
        before = everything_in(home)
        winners = home / "winners"
        winners.mkdir()

        def race(number: int) -> None:
            for turn in range(ROUNDS):
                try:
                    driver.create(f"layer-{turn}", "base")
                except errors.LayerExists:
                    continue
                with (winners / f"{turn}").open("a") as file:
                    file.write(f"{number}\n")

        at_once(race)
        for turn in range(ROUNDS):
            assert len((winners / f"{turn}").read_text().splitlines()) == 1
            driver.remove(f"layer-{turn}")
            (winners / f"{turn}").unlink()
        winners.rmdir()
        assert everything_in(home) == before


@pytest.mark.parametrize("at_once", [in_threads, in_processes])
def test_no_layer_loses_its_parent(home: Path, at_once: Callable[[Callable[[int], None]], None]) -> None:
    with Driver(home) as driver:

        def race(number: int) -> None:
            for turn in range(ROUNDS):
                calls: tuple[Callable[[], None], ...] = (
                    partial(driver.create, "parent"),
                    partial(driver.create, f"child-{number}-{turn}", "parent"),
                    partial(driver.remove, "parent"),
                )
                for call in calls:
                    try:
                        call()
                    except (errors.LayerExists, errors.LayerNotFound, errors.LayerInUse):
                        continue

        at_once(race)
        children = [path.name for path in home.glob("child-*")]
        assert children
        for child in children:
            assert read(driver, child) == {}


def test_two_homes_in_one_process_answer_for_themselves(scratch: Path) -> None:
    with (scratch / "image").open("wb") as image:
        image.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", scratch / "image"], check=True)
    for name, options in (("a", ["-t", "tmpfs", "none"]), ("b", ["-o", "loop", scratch / "image"])):
        (scratch / name).mkdir()
        subprocess.run(["mount", *options, scratch / name], check=True)
    with Driver(scratch / "a/home") as first, Driver(scratch / "b/home") as second:
        assert dict(first.status())["Backing Filesystem"] != dict(second.status())["Backing Filesystem"]
        first.cleanup()
        second.cleanup()
    for name in ("a", "b"):
        subprocess.run(["umount", scratch / name], check=True)


def test_a_cleanup_takes_nothing_away_from_an_apply_of_the_same_driver(home: Path) -> None:
    """The locks of areas are those of an open file, and so no others for a thread of the same process."""
    with Driver(home) as driver:
        driver.create("base")

        class Archive(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                driver.cleanup()
                return super().read(size)

        driver.apply_diff("base", "", Archive(bytes(1024)))
        assert read(driver, "base") == {}


def test_a_diff_that_waited_for_a_removal_makes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Driver(home) as driver:
        build_chain(driver, 3)
        before = everything_in(home)
        taken = HomeLocks.layer

        def removed_first(locks: HomeLocks, layer_id: str) -> AbstractContextManager[None]:
            monkeypatch.setattr(HomeLocks, "layer", taken)
            driver.remove(layer_id)
            return taken(locks, layer_id)

        monkeypatch.setattr(HomeLocks, "layer", removed_first)
        with pytest.raises(errors.LayerNotFound):
            driver.changes("layer-2", "layer-0")
        assert not driver.exists("layer-2")
        assert everything_in(home) < before


@pytest.mark.parametrize("parent", ["layer-1", "layer-0", ""])
@pytest.mark.parametrize("change", ["remove", "recreate", "apply"])
def test_a_diff_of_a_layer_that_goes_meanwhile_is_an_error(
    driver: Driver, home: Path, parent: str, change: str
) -> None:
    """Also where the id is taken again."""
    build_chain(driver, 3)
    Path(driver.get("layer-2"), "large").write_bytes(bytes(LARGE))
    driver.put("layer-2")
    naive = parent != "layer-1"
    with driver.diff("layer-2", parent) as archive:
        archive.read(512)
        if change == "apply":
            refused = pytest.raises(errors.LayerInUse) if naive else nullcontext()
            with refused, io.BytesIO(bytes(1024)) as nothing:
                driver.apply_diff("layer-2", "layer-1", nothing)
        else:
            driver.remove("layer-2")
            if change == "recreate":
                driver.create("layer-2", "layer-1")
        if change == "apply" and naive:
            archive.read()
        else:
            with pytest.raises(errors.UnreadableLayer):
                archive.read()
    assert mounted_below(home) == []
