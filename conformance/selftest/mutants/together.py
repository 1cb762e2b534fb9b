"""Mutants that concurrent callers see, threads of one process or processes of one home."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault


class OneStagingArea(Patched):
    """All layers are made in one staging area, which the first that is done takes away."""

    place = "staging:Staging.area"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The same for everybody."""
        del original, kwargs
        return _one_area(args[0])


@contextlib.contextmanager
def _one_area(staging: Any) -> Iterator[str]:
    path = os.path.join(staging._directory, "new")
    os.makedirs(path, exist_ok=True)
    try:
        yield path
    finally:
        staging._discard(path)


class SucceedsForTheSlow(Patched):
    """A caller that asked for a free id succeeds, even if another caller created the layer meanwhile."""

    place = "driver:Driver._create"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Somebody made it: so it is there."""
        driver, layer_id, *_ = args
        free = bool(layer_id) and not os.path.lexists(f"{driver._home.path}/{layer_id}")
        try:
            original(*args, **kwargs)
        except Exception as error:
            if not free or "exists already" not in str(error):
                raise


class LocksNoLayer(Patched):
    """A layer is not locked while it is mounted and counted."""

    place = "locks:HomeLocks.layer"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Anybody may."""
        del original, args, kwargs
        return contextlib.nullcontext()


class OneFileForDiffs(Faithful):
    """Every diff is written to one file in the home before it is given away."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """There, and from there."""
        path = f"{self.home}/.diff.tar"
        with self.inner.diff(layer_id, parent) as stream, open(path, "wb") as file:
            shutil.copyfileobj(stream, file)
        with open(path, "rb") as file:
            return io.BytesIO(file.read())


class LosesRemovalsAtATime(Faithful):
    """A removal beside a creation is said to be done, and is not."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.creating = 0
        self.guard = threading.Lock()

    def create(self, layer_id: str, parent: str = "") -> None:
        """Say that somebody does."""
        with self.guard:
            self.creating += 1
        try:
            self.inner.create(layer_id, parent)
        finally:
            with self.guard:
                self.creating -= 1

    def remove(self, layer_id: str) -> None:
        """If nobody creates."""
        if not self.creating:
            self.inner.remove(layer_id)


class LocksThreadsOnly(Patched):
    """Locks keep threads apart, and not processes: two of them take one staging area."""

    place = "staging:Staging.sweep"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Whatever is in staging is left over."""
        del original, kwargs
        staging = args[0]
        for path in Path(staging._directory).glob("refdriver-*"):
            staging._discard(str(path))


FAULTS: Final = (
    Fault(OneStagingArea, ("OVL-PARALLEL-CREATE",), "containers/storage#2297"),
    Fault(SucceedsForTheSlow, ("OVL-PARALLEL-SAME-ID",), "containerd/containerd@ad9eca1dc", hard=True),
    Fault(LocksNoLayer, ("OVL-PARALLEL-GET",), "moby/moby@1ac0a66a64: a map without a lock", hard=True),
    Fault(OneFileForDiffs, ("OVL-PARALLEL-DIFF",), "containers/storage#2297"),
    Fault(
        LosesRemovalsAtATime,
        ("OVL-PARALLEL-LINEAR",),
        "containers/storage#2297; doi:10.1145/78969.78972",
        hard=True,
    ),
    Fault(LocksThreadsOnly, ("OVL-PARALLEL-PROCESSES",), "moby/moby@1ac0a66a64: a map without a lock", hard=True),
)
