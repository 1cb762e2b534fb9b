"""Operations and chains of layers for hypothesis, made to collide and to shrink.

Every operation is drawn on its own from small pools; what makes no sense in its place fails with an errno,
which the model knows, so nothing has to be filtered and any part of a chain can be left out when it shrinks.
Names collide on purpose: what is a file in one layer is a directory in the next, and back.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from conformance.operations import ops
from conformance.operations.standard import CAPABILITY, STANDARD

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


_POOLS: Final[tuple[tuple[ops.Operation, ...], ...]] = (
    _all(ops.CreateFile, PATHS, _CONTENTS, _MODES),
    _all(ops.MakeDirectory, PATHS, _MODES),
    _all(ops.RemoveTree, PATHS),
    _all(ops.Rename, PATHS, PATHS),
    _all(ops.MakeHardLink, PATHS, PATHS),
    _all(ops.MakeHardLink, *_LINKS),
    _all(ops.MakeSymlink, PATHS, _TARGETS),
    _all(ops.WriteAt, PATHS, (0, 1, 6000, 100_000), (b"w", b"ww")),
    _all(ops.Truncate, PATHS, (0, 1, 9000)),
    _all(ops.Chmod, PATHS, _MODES),
    _all(ops.SetTimes, PATHS, _TIMES),
    _all(ops.SetXattr, PATHS, ("user.colour",), _VALUES),
    _all(ops.Unlink, PATHS),
    _all(ops.RemoveDirectory, PATHS),
    _all(ops.MakeFifo, PATHS, _MODES),
)
_PRIVILEGED_POOLS: Final[tuple[tuple[ops.Operation, ...], ...]] = (
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


@functools.cache  # a strategy is checked by hypothesis when it is first drawn from, and again if it is made again
def operations(*, privileged: bool) -> st.SearchStrategy[ops.Operation]:
    """One operation; devices, foreign owners and capabilities only for real root.

    Each kind is as likely as any other. The operations of a kind are listed beforehand, the plainest first, so
    that one takes two choices only: which costs little, and shrinks to the first of the list.
    """
    kinds = [*_POOLS, *(_PRIVILEGED_POOLS if privileged else ())]
    # By index, because hypothesis writes out what it samples from.
    return st.one_of([st.integers(0, len(pool) - 1).map(pool.__getitem__) for pool in kinds])


@functools.cache
def layers(*, privileged: bool) -> st.SearchStrategy[tuple[ops.Operation, ...]]:
    """What is done in one layer."""
    return st.lists(operations(privileged=privileged), max_size=8).map(tuple)


@functools.cache
def chains(*, privileged: bool, least: int = 1) -> st.SearchStrategy[list[tuple[ops.Operation, ...]]]:
    """A chain of layers; the base is mostly filled, so that there is something to change."""
    base = st.one_of(st.just(STANDARD), layers(privileged=privileged))
    above = st.lists(layers(privileged=privileged), min_size=least - 1, max_size=max(3, least))
    return st.builds(lambda first, rest: [first, *rest], base, above)
