"""Processes of a test, beside the one that runs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from conformance.drivers.protocol import DriverUnderTest
from conformance.harness.bench import Store
from conformance.lab import namespace


@contextmanager
def opened(store: Store) -> Iterator[DriverUnderTest]:
    """The home, opened once more."""
    driver = store.another_opening()
    try:
        yield driver
    finally:
        driver.leave()


def in_child(task: Callable[[], int]) -> int:
    """Do something in a process of its own, which ends with what it returns; the process's id."""
    harness = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        namespace.die_with_parent(harness)
        os._exit(task())
    except BaseException:
        os._exit(2)
    raise AssertionError("the child has ended")
