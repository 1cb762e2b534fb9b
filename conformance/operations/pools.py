"""The operations that are drawn: a small pool of each kind, made to collide.

Names collide on purpose: what is a file in one layer is a directory in the next, and back. Most combinations of a
kind and a path fail where they are drawn, so :func:`fit` replaces most of those by others that succeed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from conformance.operations import ops
from conformance.operations.model import Refused, Tree, Unspecified
from conformance.operations.standard import CAPABILITY

_LONG: Final = b"n" * 255
PATHS: Final = (
    b"a",
    b"b",
    b"d",
    b"d/a",
    b"d/b",
    b"d/d",
    b"d/d/a",
    b"e",
    b"e/a",
    b"d-",
    b"new\nline \\",
    b"\xff\xfe",
    b"d/" + _LONG,
)
# All of other lengths: a comparison of two trees may take files of one size and one time for the same.
# Blocks of a file and of an archive end at 512 bytes, and records of an archive at 10,240.
_CONTENTS: Final = (b"", b"x", b"yy", b"zzz" * 1700, b"b" * 512, b"B" * 513, b"r" * 10_240, b"p" * 65_537)
_MODES: Final = (0o644, 0o600, 0o755, 0o4755, 0o2711, 0o1777, 0, 0o3770, 0o7777)
# In nanoseconds: before 1970, and around the ends of 31, 32 and 33 bits of seconds (the octal digits of a header).
_TIMES: Final = (
    0,
    1,
    10**9,
    1_400_000_000_123_456_789,
    1_400_000_000_999_999_999,
    4_000_000_000 * 10**9,
    -1,
    -1_500_000_000,
    2**31 * 10**9,
    2**32 * 10**9 + 1,
    2**33 * 10**9,
)
_TARGETS: Final = (b"a", b"d", b"../a", b"/d/a", b"missing", b"t" * 200)
# Most pairs of paths make no link; these mostly do, and links are worth having.
_LINKS: Final = ((b"hard", b"e/hard"), (b"a", b"d/a", b"b"))
_VALUES: Final = (b"red", b"a=b\n", b"\xff\0" * 100)
# xfs has 9 bits for a major and 18 for a minor number (tried; others have 12 and 20)
_DEVICES: Final = ((1, 3), (0, 1), (5, 300), (511, 262143))
# A header has seven octal digits, 2,097,151 at most; the kernel has 2^32-1 for "no owner".
_OWNERS: Final = (
    (0, 7),
    (1000, 1000),
    (2**31, 5),
    (65_535, 65_536),
    (2_097_151, 2_097_152),
    (2**32 - 2, 2**31 - 1),
)


def _all(make: Callable[..., ops.Operation], *pools: Sequence[Any]) -> tuple[ops.Operation, ...]:
    """An operation for each combination of choices, the plainest first: those of the first in each pool."""
    ranked = itertools.product(*(tuple(enumerate(pool)) for pool in pools))
    plainest_first = sorted(ranked, key=lambda choices: sum(rank for rank, _ in choices))
    return tuple(make(*(value for _, value in choices)) for choices in plainest_first)


DELETIONS: Final = (_all(ops.RemoveTree, PATHS), _all(ops.Unlink, PATHS))
POOLS: Final[tuple[tuple[ops.Operation, ...], ...]] = (
    _all(ops.CreateFile, PATHS, _CONTENTS, _MODES),
    _all(ops.MakeDirectory, PATHS, _MODES),
    *DELETIONS,
    _all(ops.Rename, PATHS, PATHS),
    _all(ops.MakeHardLink, PATHS, PATHS),
    _all(ops.MakeHardLink, *_LINKS),
    _all(ops.MakeSymlink, PATHS, _TARGETS),
    _all(ops.WriteAt, PATHS, (0, 1, 6000, 100_000), (b"w", b"ww")),
    _all(ops.Truncate, PATHS, (0, 1, 9000)),
    _all(ops.Chmod, PATHS, _MODES),
    _all(ops.SetTimes, PATHS, _TIMES),
    _all(ops.SetXattr, PATHS, ("user.colour",), _VALUES),
    _all(ops.RemoveDirectory, PATHS),
    _all(ops.MakeFifo, PATHS, _MODES),
)
PRIVILEGED_POOLS: Final[tuple[tuple[ops.Operation, ...], ...]] = (
    _all(
        lambda path, kind, number, mode: ops.MakeDevice(path, kind, number[0], number[1], mode),
        PATHS,
        (ops.CHARACTER, ops.BLOCK),
        _DEVICES,
        _MODES,
    ),
    _all(lambda path, owner: ops.Chown(path, *owner), PATHS, _OWNERS),
    _all(ops.SetXattr, PATHS, ("security.capability",), (CAPABILITY,)),
)
# Where each operation is in its pool.
_PLACES: Final = {one: (pool, place) for pool in (*POOLS, *PRIVILEGED_POOLS) for place, one in enumerate(pool)}
_LEFT: Final = 4  # one place in so many keeps its operation, whatever becomes of it


def fit(tree: Tree, operations: Iterable[ops.Operation]) -> tuple[ops.Operation, ...]:
    """Do the operations in ``tree``, most of those that would fail there replaced; returns what was done.

    The next operation of the same pool that succeeds replaces one that fails. Operations at every fourth place of
    a pool, and those that are in no pool, stay: what fails is tested too. What was fitted to a tree fits it.
    """
    done = []
    for operation in operations:
        done.append(_fitting(tree, operation))
        with contextlib.suppress(Refused, Unspecified):
            tree.apply(done[-1])
    return tuple(done)


def _fitting(tree: Tree, operation: ops.Operation) -> ops.Operation:
    pool, place = _PLACES.get(operation, ((), 0))
    if not pool or place % _LEFT == _LEFT - 1:
        return operation
    return next((one for one in (*pool[place:], *pool[:place]) if tree.permits(one)), operation)
