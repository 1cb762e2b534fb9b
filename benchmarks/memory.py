"""The most memory that diffs and applies take, each in a process of its own.

``python -m benchmarks.memory VERB HOME LAYER PARENT ARCHIVE`` is that process; it prints two sizes in bytes:
its peak before and after.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.layers import add_many_files
from refdriver import Driver
from refdriver.cli.sending import write_out

LIMIT: Final = 64 << 20  # bytes of memory that a diff or an apply may take
LARGE_FILE: Final = 1 << 30  # bytes
MANY_FILES: Final = 100_000
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes of resident memory at the most: of the whole process, and of that what the operation added."""

    name: str
    peak: int
    added: int

    @property
    def ratio(self) -> float:
        """How much of the limit the whole process took."""
        return self.peak / LIMIT


def measure_all(scratch: Path, large_file: int = LARGE_FILE, many_files: int = MANY_FILES) -> Iterator[Peak]:
    """The peaks of each verb on a layer with one large file, and on one with many small ones."""
    yield from _measure(scratch / "large", "one large file", lambda driver: _add_large_file(driver, large_file))
    yield from _measure(
        scratch / "many", "many small files", lambda driver: add_many_files(driver, "upper", many_files)
    )


def _measure(directory: Path, what: str, fill: Callable[[Driver], None]) -> Iterator[Peak]:
    home, archive = directory / "home", directory / "archive.tar"
    with Driver(home) as driver:
        driver.create("base")
        driver.create("upper", "base")
        driver.create("native", "base")
        driver.create("whole")
        fill(driver)
        # Against the parent and against nothing: the driver's two ways to go about it.
        for parent, target in (("base", "native"), ("", "whole")):
            against = f"against {parent or 'nothing'}"
            yield _in_process(f"diff, {what}, {against}", "diff", home, "upper", parent, archive)
            yield _in_process(f"apply-diff, {what}, {against}", "apply-diff", home, target, parent, archive)
            driver.remove(target)
            archive.unlink()
        driver.cleanup()


def _add_large_file(driver: Driver, size: int) -> None:
    with open(driver.get("upper") + "/file", "wb") as file:
        block = os.urandom(_BLOCK)
        for start in range(0, size, _BLOCK):
            file.write(block[: size - start])
    driver.put("upper")


def _in_process(name: str, verb: str, home: Path, layer_id: str, parent: str, archive: Path) -> Peak:
    words = [verb, str(home), layer_id, parent, str(archive)]
    done = subprocess.run([sys.executable, "-m", __name__, *words], stdout=subprocess.PIPE, check=True)
    before, after = json.loads(done.stdout)
    return Peak(name, after, after - before)


def _peak() -> int:
    # Not ru_maxrss, which begins with what the parent process had (getrusage(2), execve(2)).
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    verb, home, layer_id, parent, archive = sys.argv[1:]
    with Driver(home) as driver:
        before = _peak()
        if verb == "diff":
            with driver.diff(layer_id, parent) as stream, open(archive, "wb", buffering=0) as file:
                write_out(stream.chunks(), file.fileno())
        else:
            with open(archive, "rb", buffering=0) as file:
                driver.apply_diff(layer_id, parent, file)
        sys.stdout.write(json.dumps([before, _peak()]))


if __name__ == "__main__":
    main()
