"""Other ways to mount: the newer calls, shorter paths, more options, mount points that come and go."""

from __future__ import annotations

import os

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.variants.variant import variant


@variant(
    source="OVL-LIFE-REMOVE-MOUNTED: removes it, or is refused", touches=("OVL-LIFE", "OVL-MOUNT", "OVL-PARALLEL")
)
class RefusesToRemoveMounted(Faithful):
    """A layer that is mounted is not removed."""

    def remove(self, layer_id: str) -> None:
        """Only after its last put."""
        if layer_id and os.path.ismount(f"{self.home}/{layer_id}/merged"):
            raise OSError(f"layer {layer_id} is mounted; put it first")
        self.inner.remove(layer_id)


@variant(source="containers-storage 1.64: 'tempdirs'", touches=("OVL-LIFE", "OVL-RESTART-FOREIGN", "OVL-STORE"))
class KeepsADirectoryForRemovals(Faithful):
    """The first removal makes a directory, in which nothing stays."""

    def remove(self, layer_id: str) -> None:
        """A place to remove from."""
        there = self.inner.exists(layer_id)
        self.inner.remove(layer_id)
        if there:
            os.makedirs(f"{self.home}/tempdirs", exist_ok=True)
