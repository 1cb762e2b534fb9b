"""Mutants that concurrent callers see, threads of one process or processes of one home."""

from __future__ import annotations

import io
import shutil
import threading
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-PARALLEL-DIFF",), source="containers/storage#2297")
class DiffsShareOneFile(Faithful):
    """Every diff is written to one file in the home before it is given away."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """There, and from there."""
        path = f"{self.home}/.diff.tar"
        with self.inner.diff(layer_id, parent) as stream, open(path, "wb") as file:
            shutil.copyfileobj(stream, file)
        with open(path, "rb") as file:
            return io.BytesIO(file.read())


@mutant(breaks=("OVL-PARALLEL-LINEAR",), source="containers/storage#2297; doi:10.1145/78969.78972", hard=True)
class ConcurrentRemoveIsLost(Faithful):
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
