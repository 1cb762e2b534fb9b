"""A chain that is written down, and not drawn, made as small as one that is drawn when its check fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation, Leak
from conformance.operations import ops

_T = TypeVar("_T")
Layer = tuple[ops.Operation, ...]
Chain = tuple[Layer, ...]


def check_fewest(bench: Bench, chain: Sequence[Layer], check: Callable[[Chain], None]) -> None:
    """Check a chain; where that fails, raise what the check says of the fewest operations that still fail.

    What it raises is of the last check that is done, so that the trace is that one's.
    """
    whole = tuple(chain)
    try:
        check(whole)
    except (Deviation, DriverRefused) as error:
        if isinstance(error, Leak) or not bench.shrinks:
            raise
        bench.failed(error)
        blamed = _blamed(error)
        check(_fewest(whole, lambda fewer: _fails(check, fewer, blamed)))
        raise  # it does not come again


def check_each(bench: Bench, cases: Sequence[_T], check: Callable[[Sequence[_T]], None]) -> None:
    """Check all cases at once; where that fails, raise what the first one says that fails alone, if one does."""
    try:
        check(cases)
    except Deviation as deviation:
        if isinstance(deviation, Leak) or not bench.shrinks:
            raise
        bench.failed(deviation)
        for case in cases:
            check([case])
        raise


def _fails(check: Callable[[Chain], None], chain: Chain, blamed: tuple[str, ...] | None) -> bool:
    try:
        check(chain)
    except (Leak, DriverFailed):  # another failure than the one that is shrunk
        return False
    except (Deviation, DriverRefused) as error:
        return _blamed(error) == blamed
    return False


def _blamed(error: Deviation | DriverRefused) -> tuple[str, ...] | None:
    """What a failure is charged to, None for a refusal. Fewer operations may fail in another way."""
    return error.requirements if isinstance(error, Deviation) else None


def _fewest(chain: Chain, fails: Callable[[Chain], bool]) -> Chain:
    """Leave out layers, the uppermost first, then operations, the last first, as long as anything can go."""
    before: Chain = ()
    while chain != before:
        before = chain
        for layer in reversed(range(len(chain))):
            fewer = chain[:layer] + chain[layer + 1 :]
            if fewer and fails(fewer):
                chain = fewer
        for layer in reversed(range(len(chain))):
            chain = _fewest_in(chain, layer, fails)
    return chain


def _fewest_in(chain: Chain, layer: int, fails: Callable[[Chain], bool]) -> Chain:
    """Leave out operations of one layer: all, then half of them, and so on, so that few checks do."""
    size = len(chain[layer])
    while size:
        end = len(chain[layer])
        while end > 0:
            fewer = _without(chain, layer, max(0, end - size), end)
            if fails(fewer):
                chain = fewer
            end -= size
        size //= 2
    return chain


def _without(chain: Chain, layer: int, first: int, end: int) -> Chain:
    left = chain[layer][:first] + chain[layer][end:]
    return (*chain[:layer], left, *chain[layer + 1 :])
