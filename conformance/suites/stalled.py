"""Another process in the middle of a call, as nobody is at the other end of the archive that it reads or writes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.drivers.protocol import DriverUnderTest
from conformance.harness.bench import Store
from conformance.lab.killing import Killable, killable
from conformance.lab.pieces import Stall, stall
from conformance.suites.processes import opened


@contextmanager
def stalled(
    store: Store, said: str, call: Callable[[DriverUnderTest, Path], object]
) -> Iterator[tuple[Killable, Stall]]:
    """Another process that makes a call with a pipe for its archive."""
    store.beyond(said)
    with (
        stall(store.directory / f"stall-{len(list(store.directory.iterdir()))}") as pipe,
        killable(functools.partial(_called, store, call, pipe.path)) as process,
    ):
        pipe.hold()  # the process has only what it opens itself
        yield process, pipe


def _called(store: Store, call: Callable[[DriverUnderTest, Path], object], pipe: Path) -> int:
    with opened(store) as driver:
        call(driver, pipe)
    return 0
