"""The nine benchmarks that drivers of this field publish, and their diffs against the real parent as well.

The diffs of the nine are all against no parent, so of the whole mounted tree; those against the parent have
``/native`` in their names.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.layers import add_many_files, add_many_layers, add_mixed_files
from refdriver import Driver

LAYERS: Final = 20
_BUFFER: Final = 1 << 20  # bytes read at once and dropped
_SAMPLE: Final = 0.02  # seconds that one sample takes at least, so that the clock's steps do not show
_SAMPLES: Final = 15
_LONG: Final = 0.5  # seconds; an operation that takes longer is sampled less often
_SAMPLES_OF_LONG: Final = 5

Operation = Callable[[], None]
Setup = Callable[[Driver, float], Operation]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``setup`` makes layers, with ``scale`` times as many files, and gives what is to be timed.

    ``before`` gives what has to be done, untimed, before each operation.
    """

    name: str
    setup: Setup
    before: Callable[[Driver], Operation] | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds an operation, of wall time: the median, the minimum and the maximum of the samples."""

    name: str
    seconds: float
    least: float
    most: float
    samples: int


def all_benchmarks() -> list[Benchmark]:
    return [
        Benchmark("Exists", _exists),
        Benchmark("GetEmpty", _get_empty),
        Benchmark("DiffBase", _diff_base),
        Benchmark("DiffSmallUpper", partial(_diff, 10, 10, "")),
        Benchmark("DiffSmallUpper/native", partial(_diff, 10, 10, "base")),
        Benchmark("Diff10KFileUpper", partial(_diff, 10, 10_000, "")),
        Benchmark("Diff10KFileUpper/native", partial(_diff, 10, 10_000, "base")),
        Benchmark("Diff10KFilesBottom", partial(_diff, 10_000, 10, "")),
        Benchmark("Diff10KFilesBottom/native", partial(_diff, 10_000, 10, "base")),
        Benchmark("DiffApply100", partial(_diff_apply, ""), _new_target),
        Benchmark("DiffApply100/native", partial(_diff_apply, "base"), _new_target),
        Benchmark("Diff20Layers", partial(_diff_layers, "")),
        Benchmark("Diff20Layers/native", partial(_diff_layers, f"base-{LAYERS - 2}")),
        Benchmark("Read20Layers", _read_layers),
    ]


def measure(benchmark: Benchmark, home: Path, scale: float = 1.0, only_once: bool = False) -> Timing:
    """Time a benchmark on a home of its own, which is empty of mounts afterwards."""
    with _opened(home) as driver:
        operation = benchmark.setup(driver, scale)
        before = benchmark.before(driver) if benchmark.before else None
        first = _sample(operation, before, 1)
        if only_once:
            return Timing(benchmark.name, first, first, first, 1)
        repeats = 1 if before else max(1, round(_SAMPLE / _sample(operation, None, 1)))
        count = _SAMPLES if first < _LONG else _SAMPLES_OF_LONG
        samples = [_sample(operation, before, repeats) for _ in range(count)]
    return Timing(benchmark.name, median(samples), min(samples), max(samples), count)


@contextmanager
def _opened(home: Path) -> Iterator[Driver]:
    with Driver(home) as driver:
        yield driver
        # Read20Layers reads through a mount that is there all the time.
        for layer in home.glob("base*"):
            driver.put(layer.name)
        driver.cleanup()


def _sample(operation: Operation, before: Operation | None, repeats: int) -> float:
    if before:
        before()
    began = time.perf_counter()
    for _ in range(repeats):
        operation()
    return (time.perf_counter() - began) / repeats


def _exists(driver: Driver, _: float) -> Operation:
    driver.create("base")

    def operation() -> None:
        assert driver.exists("base")

    return operation


def _get_empty(driver: Driver, _: float) -> Operation:
    driver.create("base")

    def operation() -> None:
        driver.get("base")
        driver.put("base")

    return operation


def _diff_base(driver: Driver, _: float) -> Operation:
    driver.create("base")
    add_mixed_files(driver, "base")
    return _drop_diff(driver, "base", "")


def _diff(below: int, above: int, parent: str, driver: Driver, scale: float) -> Operation:
    _make_two_layers(driver, round(below * scale), round(above * scale))
    return _drop_diff(driver, "upper", parent)


def _make_two_layers(driver: Driver, below: int, above: int) -> None:
    driver.create("base")
    add_many_files(driver, "base", below)
    driver.create("upper", "base")
    add_many_files(driver, "upper", above)


def _drop_diff(driver: Driver, layer_id: str, parent: str) -> Operation:
    buffer = bytearray(_BUFFER)

    def operation() -> None:
        with driver.diff(layer_id, parent) as archive:
            while archive.readinto(buffer):
                pass

    return operation


def _target_ids() -> Iterator[str]:
    return (f"target-{number}" for number in itertools.count())


def _diff_apply(parent: str, driver: Driver, scale: float) -> Operation:
    _make_two_layers(driver, round(100 * scale), round(100 * scale))
    size = driver.diff_size("upper", parent)
    targets = _target_ids()

    def operation() -> None:
        with driver.diff("upper", parent) as archive:
            assert driver.apply_diff(next(targets), parent, archive) == size

    return operation


def _new_target(driver: Driver) -> Operation:
    targets = _target_ids()
    return lambda: driver.create(next(targets), "base")


def _diff_layers(parent: str, driver: Driver, _: float) -> Operation:
    driver.create("base")
    add_mixed_files(driver, "base")
    return _drop_diff(driver, add_many_layers(driver, "base", LAYERS), parent)


def _read_layers(driver: Driver, _: float) -> Operation:
    driver.create("base")
    root = Path(driver.get("base"))
    content = bytes(range(64))
    (root / "testfile.txt").write_bytes(content)
    driver.put("base")
    path = driver.get(add_many_layers(driver, "base", LAYERS)) + "/testfile.txt"

    def operation() -> None:
        with open(path, "rb", buffering=0) as file:
            assert file.read() == content

    return operation
