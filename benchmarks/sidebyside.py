"""The reference driver beside the peers that this machine has: alternately in one run, CPU time beside wall time.

A ratio is that of the driver to the peer, so below 1 the driver takes less. The peers are GNU tar, mount(2) and
umount2(2) alone in this process, all system calls of the driver alone (benchmarks.floors), and the command of
containers-storage beside the command of this driver.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import floors
from benchmarks.layers import add_many_files
from refdriver import Driver, trees
from refdriver.cli.sending import write_out
from refdriver.linux import libc
from refdriver.mounts import MountRequest, plan_mount

ROUNDS: Final = 7
FILES: Final = 20_000
LARGE: Final = 1 << 30  # bytes
LOWERS: Final = (1, 20, 128)
_REPEATS: Final = 50  # of an operation below a millisecond, in one sample
_BLOCK: Final = 1 << 20

Operation = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of one round."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One operation of the driver and of a peer, in alternating rounds; ``load`` is the mean of a minute before."""

    name: str
    peer: str
    filesystem: str
    load: float
    driver: tuple[Sample, ...]
    other: tuple[Sample, ...]

    def ratios(self, of: str) -> tuple[float, float, float]:
        """Median, minimum and maximum of the ratios of the rounds, of ``wall`` or of ``cpu``."""
        found = [
            getattr(ours, of) / getattr(theirs, of) for ours, theirs in zip(self.driver, self.other, strict=True)
        ]
        return median(found), min(found), max(found)


def measure_all(scratch: Path, filesystem: str, scale: float, rounds: int = ROUNDS) -> Iterator[SideBySide]:
    """Every comparison that is possible here, in a directory that is gone afterwards."""
    files, large = max(10, round(FILES * scale)), max(_BLOCK, round(LARGE * scale))
    repeats = max(1, round(_REPEATS * scale))
    with Driver(scratch / "home") as driver:
        driver.create("empty")
        for what, fill in (
            (f"{files} files of 64 bytes", partial(add_many_files, driver, "layer", files)),
            (f"a file of {large >> 20} MiB", partial(_add_large_file, driver, "layer", large)),
        ):
            driver.create("layer")
            fill()
            tree, archive = driver.get("layer"), scratch / "archive.tar"
            with open(archive, "wb") as file:
                _write_diff(driver, "layer", file.fileno())
            for name, ours, theirs in (
                (f"diff, {what}", _diffing(driver, scratch), _tar_create(tree, scratch)),
                (f"apply-diff, {what}", _applying(driver, archive), _tar_extract(archive, scratch)),
            ):
                yield _alternate(name, "GNU tar", filesystem, rounds, ours, theirs)
            driver.remove("layer")
        for lowers in LOWERS:
            yield from _mounting(driver, lowers, filesystem, rounds, repeats)
        if shutil.which("containers-storage"):
            yield from _commands(driver, scratch, filesystem, rounds)
        driver.cleanup()


def _alternate(
    name: str, peer: str, filesystem: str, rounds: int, ours: Operation, theirs: Operation
) -> SideBySide:
    found: tuple[list[Sample], list[Sample]] = ([], [])
    load = os.getloadavg()[0]
    for number in range(rounds + 1):
        # Whoever is first finds other caches than whoever is second.
        for which in (0, 1) if number % 2 else (1, 0):
            sample = _timed((ours, theirs)[which])
            if number:  # the first round warms up
                found[which].append(sample)
    return SideBySide(name, peer, filesystem, load, tuple(found[0]), tuple(found[1]))


def _timed(operation: Operation) -> Sample:
    cpu, wall = _cpu(), time.perf_counter()
    operation()
    return Sample(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    """User and system time of this process and of the children that it waited for, in seconds."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _add_large_file(driver: Driver, layer_id: str, size: int) -> None:
    with open(driver.get(layer_id) + "/file", "wb") as file:
        block = os.urandom(_BLOCK)
        for _ in range(0, size, _BLOCK):
            file.write(block)
    driver.put(layer_id)


def _write_diff(driver: Driver, layer_id: str, fd: int) -> None:
    with driver.diff(layer_id) as stream:
        write_out(stream.chunks(), fd)


def _diffing(driver: Driver, scratch: Path) -> Operation:
    def diff() -> None:
        with open(scratch / "ours.tar", "wb") as file:
            _write_diff(driver, "layer", file.fileno())
        os.unlink(scratch / "ours.tar")

    return diff


def _tar_create(tree: str, scratch: Path) -> Operation:
    def create() -> None:
        # To a file: GNU tar reads no file if the archive is /dev/null.
        words = ["tar", "--format=pax", "--xattrs", "-C", tree, "-cf", str(scratch / "theirs.tar"), "."]
        subprocess.run(words, check=True)
        os.unlink(scratch / "theirs.tar")

    return create


def _applying(driver: Driver, archive: Path) -> Operation:
    def apply() -> None:
        driver.create("target")
        with open(archive, "rb", buffering=0) as file:
            driver.apply_diff("target", "", file)
        driver.remove("target")

    return apply


def _tar_extract(archive: Path, scratch: Path) -> Operation:
    def extract() -> None:
        target = scratch / "target"
        target.mkdir()
        subprocess.run(["tar", "--xattrs", "-C", str(target), "-xpf", str(archive)], check=True)
        # As the driver has it on the disk at the end, and takes it away again.
        fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        libc.syncfs(fd)
        os.close(fd)
        trees.remove_tree(str(target))

    return extract


def _mounting(driver: Driver, lowers: int, filesystem: str, rounds: int, repeats: int) -> Iterator[SideBySide]:
    parent = ""
    for number in range(lowers + 1):
        driver.create(f"chain-{number}", parent)
        parent = f"chain-{number}"
    paths = driver.metadata(parent)
    home = os.path.dirname(os.path.dirname(paths["UpperDir"]))
    links = [f"{home}/l/{Path(os.path.dirname(diff), 'link').read_text()}" for diff in paths["LowerDir"].split(":")]
    request = MountRequest(tuple(links), paths["UpperDir"], paths["WorkDir"], paths["MergedDir"])
    plan = plan_mount(request, home)

    def ours() -> None:
        for _ in range(repeats):
            driver.get(parent)
            driver.put(parent)

    def mount_alone(count: int) -> None:
        for _ in range(count):
            libc.mount("overlay", request.target, "overlay", 0, plan.data)
            libc.umount(request.target, libc.MNT_DETACH)

    def there(call: Callable[[int], None]) -> None:
        here = os.getcwd()
        os.chdir(plan.directory or "/")
        call(repeats)
        os.chdir(here)

    calls = floors.get_and_put(request, plan, home, links)
    for peer, theirs in (("mount, umount", mount_alone), ("its system calls", calls)):
        name = f"get and put, {lowers} lowers"
        yield _alternate(name, peer, filesystem, rounds, ours, partial(there, theirs))
    for number in range(lowers, -1, -1):
        driver.remove(f"chain-{number}")


def _commands(driver: Driver, scratch: Path, filesystem: str, rounds: int) -> Iterator[SideBySide]:
    """Command beside command. The start is apart: what it takes to say that there is no layer of some name."""
    home = os.path.dirname(os.path.dirname(driver.metadata("empty")["UpperDir"]))
    own = [sys.executable, "-m", "refdriver", "--home", home]
    other = ["containers-storage", "--graph", str(scratch / "graph"), "--run", str(scratch / "run")]
    other += ["--storage-driver", "overlay"]

    def run(*lines: list[str], check: bool = True) -> None:
        for words in lines:
            subprocess.run(words, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    for name, ours, theirs in (
        (
            "exists, as a command",
            lambda: run([*own, "exists", "none"], check=False),
            lambda: run([*other, "exists", "--layer", "none"], check=False),
        ),
        (
            "create and remove, as commands",
            lambda: run([*own, "create", "layer"], [*own, "remove", "layer"]),
            lambda: run([*other, "create-layer", "--id", "layer"], [*other, "delete-layer", "layer"]),
        ),
    ):
        yield _alternate(name, "containers-storage", filesystem, rounds, ours, theirs)
    run([*other, "shutdown"], check=False)
    with suppress(OSError):
        libc.umount(str(scratch / "graph/overlay"), libc.MNT_DETACH)
