"""A directory for a store of a driver whose system calls fail, and several deviations of one test as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation
from conformance.lab.failing import Failing


@contextmanager
def failing_at(bench: Bench) -> Iterator[tuple[Path, Path, Failing]]:
    """The directory of a store, one for files of the test, and what makes calls below the first fail."""
    bench.begin()
    with bench.directory() as directory:
        store, files = directory / "store", directory / "files"
        store.mkdir()
        files.mkdir()
        failing = Failing(files)
        try:
            yield store, files, failing
        finally:
            failing.close()


def report(deviations: Iterable[Deviation]) -> None:
    """Raise a deviation from the requirements of all these, with the first for each."""
    found = list(deviations)
    if found:
        first = {one.requirements: str(one) for one in reversed(found)}
        said = [*first.values(), *([f"({len(found)} deviations in all)"] if len(found) > len(first) else [])]
        raise Deviation("\n".join(said), requirements=tuple(one for names in first for one in names))
