"""Concurrent callers of a driver, in threads of the test."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from conformance.drivers.protocol import DriverRefused
from conformance.harness.assertions import nothing


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call all of them concurrently, each in a thread; what each returned, a refusal included.

    Threads take turns as often as they can, so that no call is done before the others are under way.
    """
    gate = threading.Barrier(len(calls))
    before = sys.getswitchinterval()

    def one(call: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return call()
        except DriverRefused as refused:
            return refused

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(one, calls))
    finally:
        sys.setswitchinterval(before)


def all_done(outcomes: Sequence[object], what: str) -> None:
    """None of the calls was refused; raises Deviation."""
    refused = [str(outcome) for outcome in outcomes if isinstance(outcome, DriverRefused)]
    nothing(f"refusals of concurrent calls ({what})", refused)
