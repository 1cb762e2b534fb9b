"""Mutants that concurrent callers see, threads of one process or processes of one home."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from refdriver import driver, locks, staging
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant


@mutant(breaks=("OVL-PARALLEL-CREATE",), source="containers/storage#2297")
class CreatesShareStagingArea(Patched):
    """All layers are made in one staging area, which the first that is done takes away."""

    @staticmethod
    @replaces(staging.Staging.area)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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


@mutant(breaks=("OVL-PARALLEL-SAME-ID",), source="containerd/containerd@ad9eca1dc", hard=True)
class SecondCreateOfIdSucceeds(Patched):
    """A caller that asked for a free id succeeds, even if another caller created the layer meanwhile."""

    @staticmethod
    @replaces(driver.Driver._create)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Somebody made it: so it is there."""
        driver, layer_id, *_ = args
        free = bool(layer_id) and not os.path.lexists(f"{driver._home.path}/{layer_id}")
        try:
            original(*args, **kwargs)
        except Exception as error:
            if not free or "exists already" not in str(error):
                raise


@mutant(breaks=("OVL-PARALLEL-GET",), source="moby/moby@1ac0a66a64: a map without a lock", hard=True)
class GetLocksNoLayer(Patched):
    """A layer is not locked while it is mounted and counted."""

    @staticmethod
    @replaces(locks.HomeLocks.layer)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Anybody may."""
        del original, args, kwargs
        return contextlib.nullcontext()


@mutant(breaks=("OVL-PARALLEL-PROCESSES",), source="moby/moby@1ac0a66a64: a map without a lock", hard=True)
class ProcessesShareStagingArea(Patched):
    """Locks keep threads apart, and not processes: two of them take one staging area."""

    @staticmethod
    @replaces(staging.Staging.sweep)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Whatever is in staging is left over."""
        del original, kwargs
        staging = args[0]
        for path in Path(staging._directory).glob("refdriver-*"):
            staging._discard(str(path))
