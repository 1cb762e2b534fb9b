"""The correct driver that mutants and variants wrap."""

from __future__ import annotations

import importlib
import os
from typing import Any, Final

BASIS: Final = "CONFORMANCE_MUTANT_BASIS"  # MODULE:CLASS


class Faithful:
    """Wraps the driver that ``CONFORMANCE_MUTANT_BASIS`` names and changes nothing; the basis of the others."""

    def __init__(self, home: str, **asked: Any) -> None:
        self.home = home
        self.inner: Any = basis()(home, **asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class CountingWrapper(Faithful):
    """Counts gets and puts in memory, as drivers of 2017 did; right as long as nobody else counts."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.held: dict[str, int] = {}

    def get(self, layer_id: str, *label: str) -> str:
        """Mount for the first, count for the others."""
        if self.held.get(layer_id, 0) > 0:
            self.held[layer_id] += 1
            return self.tree(layer_id)
        path = str(self.inner.get(layer_id, *label))
        self.held[layer_id] = self.held.get(layer_id, 0) + 1
        return path

    def put(self, layer_id: str) -> None:
        """Count, and unmount after the last."""
        self.held[layer_id] = self.held.get(layer_id, 0) - 1
        if self.held[layer_id] <= 0:
            self.held.pop(layer_id)
            self.inner.put(layer_id)

    def tree(self, layer_id: str) -> str:
        """Where a layer is, mounted or not."""
        place = f"{self.home}/{layer_id}"
        return f"{place}/merged" if os.path.exists(f"{place}/lower") else f"{place}/diff"


def basis() -> Any:
    """The class of the correct driver."""
    module, _, name = os.environ[BASIS].partition(":")
    return getattr(importlib.import_module(module), name)
