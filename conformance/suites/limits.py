"""Layers with a limit, and how much goes into them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import pytest
from hypothesis import strategies as st

from conformance.harness.assertions import between, equal, nothing, one_of
from conformance.harness.bench import Bench, Store
from conformance.history.calls import Create, Get, Put
from conformance.lab.project import project_of, taken_below

BLOCK: Final = 4096  # bytes, of every filesystem that this suite makes (mkfs.xfs(8))
MIB: Final = 1 << 20
_DATA: Final = memoryview(bytes(range(256)) * 4096)
_FULL: Final = (errno.EDQUOT, errno.ENOSPC)
_UNKNOWN: Final = 64 * 1024  # bytes that a driver's own files may take where nothing is known of them

# Sizes of whole blocks first, then such as are no blocks, and no 512 bytes, which quota counts in.
SIZES: Final = st.builds(
    lambda blocks, more: blocks * BLOCK + more, st.integers(256, 1024), st.sampled_from((0, 0, 1, 511, 512, 4095))
)


@dataclass(frozen=True, slots=True)
class Way:
    """How layers get a limit: as an option of each, or all by one of the driver."""

    of_driver: bool

    @contextmanager
    def store(self, bench: Bench, size: int | str, name: str = "") -> Iterator[Store]:
        """A store with an image's layer "base", whose layers made by :meth:`create` get that size at most."""
        with bench.store(name, options=[f"size={size}"] if self.of_driver else []) as store:
            store.create("base")
            yield store

    def create(self, store: Store, layer_id: str, size: int | str, parent: str = "base") -> None:
        """Make a read-write layer with a limit, which is that of the store if it is the driver's."""
        if self.of_driver:
            create_read_write(store, layer_id, {}, parent)
        else:
            create_read_write(store, layer_id, {"size": str(size)}, parent)


def way_of(bench: Bench, drawn: int = 0) -> Way:
    """One of the ways that the driver has; leaves the test if it has none."""
    ways = [Way(driver) for driver in (False, True) if bench.has("options" if driver else "layer-options")]
    if not ways:
        pytest.skip(bench.why_not("options"))
    return ways[drawn % len(ways)]


WAYS: Final = st.integers(0, 1)


def create_read_write(store: Store, layer_id: str, options: dict[str, str], parent: str = "base") -> None:
    """Make a layer as containers get one."""
    store.do(Create(layer_id, parent, options))


@dataclass(frozen=True, slots=True)
class Filled:
    """How many bytes went into a layer, and the error that ended it."""

    taken: int
    error: OSError | None

    @property
    def outcome(self) -> str:
        """The name of the error, or "success"."""
        return errno.errorcode.get(self.error.errno or 0, str(self.error)) if self.error else "success"


def fill(store: Store, layer_id: str, most: int, name: str = "filled") -> Filled:
    """Write so many bytes to a new file of a layer, to the disk, or as many as go in."""
    store.note(f"write {most} bytes into {layer_id}, or as many as go in")
    root = store.do(Get(layer_id))
    try:
        done = fill_file(f"{root}/{name}", most)
    finally:
        store.do(Put(layer_id))
    store.note(f"  {done.taken} bytes went in{f', then: {done.error.strerror}' if done.error else ''}")
    store.beyond(f"{most} bytes were written into {layer_id}")
    return done


def fill_file(path: str, most: int) -> Filled:
    """The same for a path. What is refused is tried in smaller pieces, down to a block: then the layer is full."""
    taken, piece = 0, len(_DATA)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:  # there is not even room for a name
        return Filled(0, error)
    try:
        while taken < most:
            try:
                taken += os.write(fd, _DATA[: min(piece, most - taken)])
            except OSError as error:
                if error.errno not in _FULL or piece == BLOCK:
                    return Filled(taken, error)
                piece //= 16
        os.fsync(fd)
    except OSError as error:
        return Filled(taken, error)
    finally:
        os.close(fd)
    return Filled(taken, None)


def own_files(bench: Bench, store: Store, layer_id: str) -> tuple[int, int]:
    """The least and the most that a layer's directory takes now; its driver's own files are in it."""
    if not bench.has("home-layout"):
        return 0, _UNKNOWN
    taken = taken_below(f"{store.home}/{layer_id}")
    return taken, taken


def has_limit(bench: Bench, store: Store, layer_id: str, size: int) -> None:
    """What a layer holds when no more goes in is its size, to within a block; raises Deviation."""
    root = store.do(Get(layer_id))  # as mounting may make files, which count
    try:
        least, most = own_files(bench, store, layer_id)
        done = fill_file(f"{root}/has-limit", 2 * size)
    finally:
        store.do(Put(layer_id))
    store.note(
        f"write 2 * {size} bytes into {layer_id}: {done.taken} went in, {own(least, most)} were in it before"
    )
    store.beyond(f"{layer_id} was filled")
    full = [errno.errorcode[one] for one in _FULL]
    one_of(f"writing 2 * {size} bytes into {layer_id}, which took {done.taken}", done.outcome, full)
    store.record("beyond a layer's size a write fails with", done.outcome)
    what = f"bytes that went into {layer_id}, of {size}, beside {own(least, most)} that were in it"
    between(what, done.taken, size - BLOCK - most + 1, size + BLOCK - least - 1)


def own(least: int, most: int) -> str:
    """How much was in a layer before, in words."""
    return str(least) if least == most else f"{least} to {most}"


def has_no_limit(store: Store, layer_id: str, size: int) -> None:
    """A layer takes twice a size that it does not have; raises Deviation."""
    done = fill(store, layer_id, 2 * size, "has-no-limit")
    what = f"writing {2 * size} bytes into {layer_id}, which has no limit and took {done.taken}"
    equal(what, done.outcome, "success")


def size_said(store: Store, layer_id: str) -> int:
    """How large the filesystem of a mounted layer says that it is, in bytes."""
    root = store.do(Get(layer_id))
    try:
        said = os.statvfs(root)
    finally:
        store.do(Put(layer_id))
    return said.f_blocks * said.f_frsize


def says_size(store: Store, layer_id: str, size: int, tolerance: int = BLOCK) -> None:
    """Statfs in a mounted layer tells its size; raises Deviation."""
    said = size_said(store, layer_id)
    store.note(f"statfs in {layer_id}: {said} bytes")
    between(f"the size of the filesystem of {layer_id}", said, size - tolerance + 1, size + tolerance - 1)


def project(store: Store, layer_id: str) -> int:
    """The project of what is made in a layer."""
    return project_of(f"{store.home}/{layer_id}/diff")


def all_differ(projects: dict[str, int], home: int) -> None:
    """Projects are distinct and not the home's; raises Deviation."""
    taken = [0, home, *projects.values()]
    shared = {layer_id: number for layer_id, number in projects.items() if taken.count(number) > 1}
    nothing(f"layers whose project is that of another, or of the home ({home})", shared)


_UNITS: Final = "kmgtp"
_MOST: Final = 1 << 30  # bytes; what is made for a run has a bit more, and says no more than it has


def _spelled(unit: str, size: int, digits: int, upper: Sequence[bool], space: bool, tail: int) -> str:
    scale = 1024 ** (_UNITS.index(unit) + 1) if unit else 1
    # As many digits as tell such a size in that unit, and a few more.
    places = max(0, len(str(scale)) - 6) + digits if unit else 0
    number = Decimal(size * 10**places // scale).scaleb(-places)
    word = unit + (("", "b", "ib") if unit else ("", "b", "b"))[tail]
    cased = "".join(one.upper() if up else one for one, up in zip(word, upper, strict=False))
    return f"{number:f}{' ' if space and word else ''}{cased}"


SPELLINGS: Final = st.builds(
    _spelled,
    st.sampled_from(("", *_UNITS)),
    st.integers(MIB, _MOST),
    st.integers(0, 3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.booleans(),
    st.integers(0, 2),
)


def bytes_meant(spelling: str) -> int:
    """The bytes of a spelling, by the grammar: a number, maybe a space, maybe a unit, maybe a b or an ib."""
    number = spelling.rstrip(" bBiIkKmMgGtTpP")
    unit = spelling[len(number) :].strip().lower().rstrip("b").rstrip("i")
    return int(Decimal(number) * (1024 ** (_UNITS.index(unit) + 1) if unit else 1))
