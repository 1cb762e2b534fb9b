"""Mutants of id maps, image stores and status."""

from __future__ import annotations

import io
import os
import re
import shutil
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-CLAIM-HOLDS",), source="kubernetes-csi/csi-test#565")
class DiffTruncatesClaimedTimes(Faithful):
    """Declines metadata, and claims by silence that times keep their nanoseconds."""

    declared_reason = "there is none"
    declined_capabilities = {"metadata": declared_reason}  # noqa: RUF012 - read only, as a class says it

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Cut times to whole seconds, keeping the length of every record."""
        with self.inner.diff(layer_id, parent) as stream:
            data = re.sub(rb"( mtime=\d+\.)(\d+)", lambda one: one[1] + b"0" * len(one[2]), stream.read())
        return io.BytesIO(data)


@mutant(
    breaks=(
        "OVL-STATUS-BACKING",
        "OVL-STATUS-D-TYPE",
        "OVL-STATUS-NATIVE-DIFF",
        "OVL-STATUS-METADATA-MISSING",
        "OVL-CHANGES-ORDER",
        "OVL-CHANGES-NONE",
        "OVL-SIZE-EMPTY",
    ),
    source="behaviour#status; behaviour#metadata",
)
class StatusIsMadeUp(Faithful):
    """Status, metadata, changes and sizes are made up."""

    def status(self) -> list[tuple[str, str]]:
        """The same for every home."""
        return [("Backing Filesystem", "zfs"), ("Supports d_type", "maybe"), ("Native Overlay Diff", "sometimes")]

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Of any layer, there or not."""
        return {"UpperDir": f"/made/up/{layer_id}"}

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """Backwards; where there is nothing, what the parent has."""
        found = list(self.inner.changes(layer_id, parent))
        return found[::-1] or list(self.inner.changes(parent, ""))[::-1]

    def diff_size(self, layer_id: str, parent: str = "") -> int:
        """A little more."""
        return int(self.inner.diff_size(layer_id, parent)) + 7


@mutant(
    breaks=(
        "OVL-IDMAP-ROOT-OWNS",
        "OVL-IDMAP-DIFF",
        "OVL-IDMAP-APPLY",
        "OVL-IDMAP-TRIP",
        "OVL-IDMAP-UNMAPPED",
        "OVL-STORE-READ",
        "OVL-STORE-BUILD-ON",
        "OVL-STORE-HOME-FIRST",
        "OVL-STORE-LONG",
        "OVL-STORE-REMOVE",
        "OVL-MOUNT-LABEL-REFUSED",
        "OVL-MOUNT-LABEL-LONG",
    ),
    source="containers/storage#1056: options that reach nothing",
)
class OpenIgnoresIdMaps(Faithful):
    """Id maps, image stores and labels are not for this driver, and it does not say so."""

    def __init__(self, home: str, **asked: Any) -> None:
        del asked
        super().__init__(home)

    def get(self, layer_id: str, label: str = "") -> str:
        """Without the label."""
        del label
        return str(self.inner.get(layer_id))


@mutant(breaks=("OVL-STORE-UNTOUCHED",), source="containers/podman#29001")
class ImageStoresAreWritten(Faithful):
    """Image stores are written like the home."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.stores = [
            f"{store}/overlay"
            for word in asked.get("options", ())
            if word.startswith("overlay.imagestore=")
            for store in word.partition("=")[2].split(",")
        ]

    def remove(self, layer_id: str) -> None:
        """From wherever it is."""
        for store in self.stores:
            shutil.rmtree(f"{store}/{layer_id}", ignore_errors=True)
        self.inner.remove(layer_id)


@mutant(breaks=("OVL-LIFE-METADATA", "OVL-STATUS-METADATA-LOWERS"), source="behaviour#metadata")
class MetadataIsEmpty(Faithful):
    """There is no metadata."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Nothing."""
        del layer_id
        return {}


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


@mutant(breaks=("OVL-STATUS-METADATA-NAMES",), source="behaviour#metadata")
class MetadataNamesMountOptions(Faithful):
    """Metadata calls the directories as the options of the mount do."""

    def metadata(self, layer_id: str) -> dict[str, str]:
        """In small letters."""
        return {name.lower(): path for name, path in self.inner.metadata(layer_id).items()}


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
