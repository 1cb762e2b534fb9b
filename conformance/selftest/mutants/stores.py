"""Mutants of other owners, of image stores, and of what a driver says about itself and its layers."""

from __future__ import annotations

import os
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-STORE-REMOVE",), source="behaviour#image-stores-read-only; containers/storage#50")
class RemoveOfImageSucceeds(Faithful):
    """The removal of an image's layer is said to be done, and is not."""

    def remove(self, layer_id: str) -> None:
        """If it is in the home."""
        if not layer_id or os.path.isdir(f"{self.home}/{layer_id}"):
            self.inner.remove(layer_id)


@mutant(breaks=("OVL-LIFE-METADATA",), source="behaviour#metadata: absolute paths")
class MetadataNamesRelativePaths(Faithful):
    """Metadata names the directories of a layer as paths within the home."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Without the home."""
        found = dict(self.inner.metadata(layer_id))
        return {**found, "UpperDir": os.path.relpath(found["UpperDir"], self.home)}


@mutant(breaks=("OVL-STATUS-METADATA-LOWERS",), source="behaviour#unknown-entries")
class MetadataReversesLowers(Faithful):
    """Metadata names the lowers in the order in which they were made."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """The lowest first."""
        found = dict(self.inner.metadata(layer_id))
        if "LowerDir" in found:
            found["LowerDir"] = ":".join(found["LowerDir"].split(":")[::-1])
        return found


@mutant(breaks=("OVL-STATUS-METADATA-MISSING",), source="behaviour#missing-layers")
class MetadataOfMissingIsMadeUp(Faithful):
    """Metadata of any id is its paths, whether there is such a layer or not."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Made of the id."""
        if self.inner.exists(layer_id):
            return dict(self.inner.metadata(layer_id))
        return {"UpperDir": f"{self.home}/{layer_id}/diff", "WorkDir": f"{self.home}/{layer_id}/work"}


@mutant(breaks=("OVL-STATUS-NATIVE-DIFF",), source="behaviour#native-diff-probe", hard=True)
class StatusLearnsNativeDiffLate(Faithful):
    """Whether diffs are native is found out by the first of them, and not said before."""

    def status(self) -> Any:
        """Without that line, until then."""
        said = self.inner.status()
        return said if self.__dict__.get("diffs") else [one for one in said if one[0] != "Native Overlay Diff"]

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Find out."""
        self.diffs = True
        return self.inner.diff(layer_id, parent)
