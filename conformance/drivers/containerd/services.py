"""What containerd offers to one store: its snapshots, its content and its garbage collector."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from conformance.drivers.containerd import messages
from conformance.drivers.containerd.client import Client, Refused
from conformance.drivers.containerd.messages import Mount

_CHUNK: Final = 1 << 20
# Whatever no container, image, lease or label holds goes with the next collection (containerd's
# docs/garbage-collection.md).
_KEPT: Final = {"containerd.io/gc.root": "conformance"}
MEDIA_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"  # OCI image specification, media-types.md
_COMPRESSED: Final = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


class Snapshots:
    """The service snapshots, for one snapshotter."""

    def __init__(self, client: Client, snapshotter: str) -> None:
        self._client = client
        self._name = snapshotter

    def prepare(self, key: str, parent: str) -> None:
        """Make a snapshot to write to."""
        request = messages.NewSnapshot(self._name, key, parent, _KEPT)
        self._client.call("snapshots/Prepare", request, messages.Mounts)

    def view(self, key: str, parent: str) -> list[Mount]:
        """Make a snapshot to read from."""
        request = messages.NewSnapshot(self._name, key, parent, _KEPT)
        return self._client.call("snapshots/View", request, messages.Mounts).mounts

    def mounts(self, key: str) -> list[Mount]:
        """What to mount to see an active snapshot."""
        request = messages.SnapshotKey(self._name, key)
        return self._client.call("snapshots/Mounts", request, messages.Mounts).mounts

    def commit(self, name: str, key: str, *, kept: bool = True) -> None:
        """Make an active snapshot one that others can have as their parent, and keep it also when none has."""
        request = messages.CommitSnapshot(self._name, name, key, _KEPT if kept else {})
        self._client.call("snapshots/Commit", request, messages.Empty)

    def remove(self, key: str) -> None:
        """Give a snapshot up; what it takes on disk goes with the next collection of garbage."""
        self._client.call("snapshots/Remove", messages.SnapshotKey(self._name, key), messages.Empty)

    def exists(self, key: str) -> bool:
        """Whether there is a snapshot of this name."""
        try:
            self._client.call("snapshots/Stat", messages.SnapshotKey(self._name, key), messages.SnapshotStat)
        except Refused as refused:
            if refused.code == "NOT_FOUND":
                return False
            raise
        return True

    def parent_of(self, key: str) -> str:
        """What a snapshot is on, "" for nothing; raises Refused if there is none of this name."""
        request = messages.SnapshotKey(self._name, key)
        return self._client.call("snapshots/Stat", request, messages.SnapshotStat).info.parent

    def parents(self) -> dict[str, str]:
        """Every snapshot and what it is on."""
        request = messages.ListSnapshots(self._name)
        try:
            answers = list(self._client.stream("snapshots/List", request, messages.SnapshotInfos))
        except Refused as refused:
            if refused.code == "NOT_FOUND":  # there never was one in this namespace
                return {}
            raise
        return {info.name: info.parent for answer in answers for info in answer.info}


class Content:
    """The services content and diff: archives, into files and out of them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def diff(self, left: list[Mount], right: list[Mount], archive: Path) -> None:
        """Write the archive of what one tree changes in another."""
        request = messages.DiffRequest(left, right, MEDIA_TYPE, uuid.uuid4().hex, _KEPT)
        digest = self._client.call("diff/Diff", request, messages.DiffResponse).diff.digest
        try:
            with archive.open("wb") as file:
                for piece in self._client.stream("content/Read", messages.Digest(digest), messages.ContentData):
                    file.write(piece.data)
        finally:
            self._delete(digest)

    def apply(self, archive: Path, mounts: list[Mount]) -> None:
        """Extract an archive into a tree."""
        blob = self._put(archive)
        try:
            self._client.call("diff/Apply", messages.ApplyRequest(blob, mounts), messages.DiffResponse)
        finally:
            self._delete(blob.digest)

    def _put(self, archive: Path) -> messages.Descriptor:
        with archive.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        ref, size = uuid.uuid4().hex, archive.stat().st_size
        try:
            self._client.send("content/Write", _writes(archive, ref, size), messages.Empty)
        except Refused as refused:
            if refused.code != "ALREADY_EXISTS":
                raise
            self._client.call("content/Abort", messages.Ref(ref), messages.Empty)
        with archive.open("rb") as file:
            return messages.Descriptor(media_type_of(file.read(2)), digest, size)

    def _delete(self, digest: str) -> None:
        self._client.call("content/Delete", messages.Digest(digest), messages.Empty)


def media_type_of(data: bytes) -> str:
    """The media type of a layer, by its first bytes."""
    return MEDIA_TYPE + _COMPRESSED.get(data[:2], "")


def _writes(archive: Path, ref: str, size: int) -> Iterator[messages.WriteContent]:
    offset = 0
    with archive.open("rb") as file:
        while data := file.read(_CHUNK):
            yield messages.WriteContent(messages.WRITE, ref, size, offset=offset, data=data)
            offset += len(data)
    yield messages.WriteContent(messages.COMMIT, ref, size, offset=offset, labels=_KEPT)


def collect_garbage(client: Client) -> None:
    """Wait until what was given up is gone from the disk, as only the end of a lease can (leases.proto)."""
    with client.lease():
        pass


def plugins_of(client: Client) -> list[messages.Plugin]:
    """What containerd says about its parts."""
    return client.call("introspection/Plugins", messages.Filters(), messages.Plugins).plugins


def plugin_of(client: Client, snapshotter: str) -> messages.Plugin:
    """What containerd says about a snapshotter; raises Refused, with containerd's reason, if it is not usable."""
    known = {plugin.id: plugin for plugin in plugins_of(client) if plugin.type == "io.containerd.snapshotter.v1"}
    if snapshotter not in known:
        usable = sorted(name for name, plugin in known.items() if not plugin.init_err.code)
        raise Refused(
            "NOT_FOUND",
            f"this containerd has no snapshotter {snapshotter!r}; it can use: {', '.join(usable) or 'none'}",
        )
    failure = known[snapshotter].init_err
    if failure.code:
        raise Refused(
            "UNAVAILABLE",
            f"containerd did not load the snapshotter {snapshotter!r}: {failure.message};"
            " if it takes a configuration, name a file of it by config=FILE",
        )
    return known[snapshotter]
