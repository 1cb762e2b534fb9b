"""How the time of calls grows with the layer and with the home: CPU time, which other work does not add to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.layers import add_many_files
from refdriver import Driver
from refdriver.cli.sending import write_out

FILES: Final = (1_000, 10_000, 50_000, 200_000)
LOWERS: Final = (1, 20, 128)
LAYERS: Final = (100, 1_000, 10_000)
_REPEATS: Final = 30


@dataclass(frozen=True, slots=True)
class Growth:
    """Seconds of CPU time by size: of one call, and ``unit`` says what the size counts."""

    name: str
    unit: str
    points: tuple[tuple[int, float], ...]

    @property
    def fit(self) -> tuple[float, float]:
        """Seconds at size 0 and seconds a unit, by least squares of relative errors."""
        weights = [1 / seconds**2 for _, seconds in self.points]
        total = sum(weights)
        x = sum(w * size for w, (size, _) in zip(weights, self.points, strict=True)) / total
        y = sum(w * seconds for w, (_, seconds) in zip(weights, self.points, strict=True)) / total
        spread = sum(w * (size - x) ** 2 for w, (size, _) in zip(weights, self.points, strict=True))
        slope = (
            sum(w * (size - x) * (seconds - y) for w, (size, seconds) in zip(weights, self.points, strict=True))
            / spread
        )
        return y - slope * x, slope

    @property
    def worst(self) -> float:
        """How far a point is from the fit at the most, as a part of the point."""
        first, slope = self.fit
        return max(abs(first + slope * size - seconds) / seconds for size, seconds in self.points)


def measure_all(scratch: Path, scale: float = 1.0) -> Iterator[Growth]:
    """All growths, in a directory that is gone afterwards."""
    yield from _files(scratch / "files", [max(1, round(count * scale)) for count in FILES])
    yield _lowers(scratch / "lowers", max(1, round(_REPEATS * scale)))
    yield from _layers(scratch / "layers", [max(2, round(count * scale)) for count in LAYERS])


def _files(directory: Path, counts: list[int]) -> Iterator[Growth]:
    diffs, applies = [], []
    archive = directory / "archive.tar"
    with Driver(directory / "home") as driver:
        for count in counts:
            driver.create("layer")
            add_many_files(driver, "layer", count)
            driver.create("target")
            with open(archive, "wb") as out, driver.diff("layer") as stream:
                began = time.process_time()
                write_out(stream.chunks(), out.fileno())
                diffs.append((count, time.process_time() - began))
            with open(archive, "rb", buffering=0) as file:
                began = time.process_time()
                driver.apply_diff("target", "", file)
                applies.append((count, time.process_time() - began))
            driver.remove("layer")
            driver.remove("target")
            os.unlink(archive)
        driver.cleanup()
    yield Growth("diff", "files", tuple(diffs))
    yield Growth("apply-diff", "files", tuple(applies))


def _lowers(directory: Path, repeats: int) -> Growth:
    points = []
    with Driver(directory / "home") as driver:
        parent = ""
        for number in range(max(LOWERS) + 1):
            driver.create(f"chain-{number}", parent)
            parent = f"chain-{number}"
            if number in LOWERS:
                points.append((number, median(_once(driver, parent) for _ in range(repeats))))
        driver.cleanup()
    return Growth("get and put", "lowers", tuple(points))


def _once(driver: Driver, layer_id: str) -> float:
    began = time.process_time()
    driver.get(layer_id)
    driver.put(layer_id)
    return time.process_time() - began


def _layers(directory: Path, counts: list[int]) -> Iterator[Growth]:
    creates, removes, firsts = [], [], []
    with Driver(directory / "home") as driver:
        driver.create("base")
        made = 0
        for count in counts:
            for number in range(made, count):
                driver.create(f"layer-{number}", "base")
            made = count
            with Driver(directory / "home") as other:
                other.create("first", "base")
                began = time.process_time()
                other.remove("first")
                firsts.append((count, time.process_time() - began))
            driver.create("once", "base")
            driver.remove("once")
            took: tuple[list[float], list[float]] = ([], [])
            for number in range(_REPEATS):
                began = time.process_time()
                driver.create(f"new-{number}", "base")
                created = time.process_time()
                driver.remove(f"new-{number}")
                took[0].append(created - began)
                took[1].append(time.process_time() - created)
            creates.append((count, median(took[0])))
            removes.append((count, median(took[1])))
        driver.cleanup()
    yield Growth("create", "layers", tuple(creates))
    yield Growth("remove", "layers", tuple(removes))
    yield Growth("remove, the first of a process", "layers", tuple(firsts))
