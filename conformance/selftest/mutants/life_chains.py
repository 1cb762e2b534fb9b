"""Mutants of chains of layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-CHAIN-TOP-AGAIN",), source="cri-o/cri-o#6261: counted over a life")
class ChainLimitCountsAllLayers(Faithful):
    """There may be 129 layers over the life of a home, not at the same time."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Count."""
        self.made = getattr(self, "made", 0) + 1
        if self.made > 129:
            raise ValueError("too many")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-CHAIN-128",), source="boundary: 128 lowers; moby/buildkit#3067")
class ChainLimitIs127(Faithful):
    """The longest chain is one lower too short."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Refuse what would have 128 lowers."""
        if (
            parent
            and "LowerDir" in (found := self.inner.metadata(parent))
            and found["LowerDir"].count(":") + 2 > 127
        ):
            raise ValueError("max depth exceeded")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-CHAIN-129-REFUSED",), source="moby/buildkit#3067")
class ChainIsCutBeyondLimit(Faithful):
    """A chain may be as long as it likes: beyond the limit, the layer is quietly put on the base."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Create on something else where the driver refuses."""
        try:
            self.inner.create(layer_id, parent)
        except Exception as error:
            if "depth" not in str(error):
                raise
            self.inner.create(layer_id, "")


@mutant(breaks=("OVL-CHAIN-128",), source="boundary: 127 lowers, on a chain after a restart", hard=True)
class ChainLimitIs127AfterReopen(Faithful):
    """On a layer that was there when the home was opened, the longest chain is one lower too short."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.found = set(os.listdir(home))

    def create(self, layer_id: str, parent: str = "") -> None:
        """Refuse what would have 128 lowers, then."""
        lower = Path(self.home, parent, "lower")
        if parent in self.found and lower.is_file() and lower.read_text().count(":") + 2 > 127:
            raise ValueError("max depth exceeded")
        self.inner.create(layer_id, parent)


@mutant(breaks=("OVL-CHAIN-TOP-AGAIN",), source="boundary: 128 lowers, the second time", hard=True)
class DeepestParentStaysClosed(Faithful):
    """A layer on which the longest chain ended once takes no other, though that one was removed."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """Once only."""
        full = self.__dict__.setdefault("full", set())
        if parent in full:
            raise ValueError("max depth exceeded")
        self.inner.create(layer_id, parent)
        lower = Path(self.home, layer_id, "lower")
        if lower.exists() and lower.read_text().count(":") == 127:
            full.add(parent)


@mutant(breaks=("OVL-CHAIN-DIFF-DEEP",), source="boundary: 128 lowers", hard=True)
class DiffOfDeepestIsWhole(Faithful):
    """The diff of a layer on exactly 128 lowers is its whole tree."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """As if there were no parent."""
        lower = Path(self.home, layer_id, "lower")
        deepest = lower.exists() and lower.read_text().count(":") == 127
        return self.inner.diff(layer_id, "" if deepest else parent)
