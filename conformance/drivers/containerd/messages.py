"""The messages of containerd's API that the adapter sends and reads (containerd's api/services/*/v1/*.proto)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conformance.drivers.containerd.wire import blob, integer, many, one, pairs, text, texts

VIEW: Final = 1
ACTIVE: Final = 2
COMMITTED: Final = 3
WRITE: Final = 1
COMMIT: Final = 2


@dataclass
class Empty:
    """google.protobuf.Empty."""


@dataclass
class Mount:
    """containerd.types.Mount: what the caller mounts; ``target`` is a place below the caller's."""

    type: str = text(1)
    source: str = text(2)
    target: str = text(3)
    options: list[str] = texts(4)


@dataclass
class Mounts:
    """PrepareSnapshotResponse, ViewSnapshotResponse and MountsResponse."""

    mounts: list[Mount] = many(1, Mount)


@dataclass
class NewSnapshot:
    """PrepareSnapshotRequest and ViewSnapshotRequest."""

    snapshotter: str = text(1)
    key: str = text(2)
    parent: str = text(3)
    labels: dict[str, str] = pairs(4)


@dataclass
class SnapshotKey:
    """MountsRequest, RemoveSnapshotRequest and StatSnapshotRequest."""

    snapshotter: str = text(1)
    key: str = text(2)


@dataclass
class CommitSnapshot:
    """CommitSnapshotRequest."""

    snapshotter: str = text(1)
    name: str = text(2)
    key: str = text(3)
    labels: dict[str, str] = pairs(4)


@dataclass
class SnapshotInfo:
    """containerd.services.snapshots.v1.Info."""

    name: str = text(1)
    parent: str = text(2)
    kind: int = integer(3)


@dataclass
class SnapshotStat:
    """StatSnapshotResponse."""

    info: SnapshotInfo = one(1, SnapshotInfo)


@dataclass
class ListSnapshots:
    """ListSnapshotsRequest."""

    snapshotter: str = text(1)


@dataclass
class SnapshotInfos:
    """ListSnapshotsResponse."""

    info: list[SnapshotInfo] = many(1, SnapshotInfo)


@dataclass
class Descriptor:
    """containerd.types.Descriptor: a blob in the content store."""

    media_type: str = text(1)
    digest: str = text(2)
    size: int = integer(3)


@dataclass
class DiffRequest:
    """Of the service diff: make an archive of what ``right`` changes in ``left``."""

    left: list[Mount] = many(1, Mount)
    right: list[Mount] = many(2, Mount)
    media_type: str = text(3)
    ref: str = text(4)
    labels: dict[str, str] = pairs(5)


@dataclass
class DiffResponse:
    """The archive."""

    diff: Descriptor = one(3, Descriptor)


@dataclass
class ApplyRequest:
    """Of the service diff: extract an archive into mounts."""

    diff: Descriptor = one(1, Descriptor)
    mounts: list[Mount] = many(2, Mount)


@dataclass
class Digest:
    """ReadContentRequest (of a whole blob) and DeleteContentRequest."""

    digest: str = text(1)


@dataclass
class ContentData:
    """ReadContentResponse."""

    offset: int = integer(1)
    data: bytes = blob(2)


@dataclass
class WriteContent:
    """WriteContentRequest."""

    action: int = integer(1)
    ref: str = text(2)
    total: int = integer(3)
    expected: str = text(4)
    offset: int = integer(5)
    data: bytes = blob(6)
    labels: dict[str, str] = pairs(7)


@dataclass
class Ref:
    """AbortRequest of the service content."""

    ref: str = text(1)


@dataclass
class NewLease:
    """CreateRequest of the service leases."""

    id: str = text(1)


@dataclass
class DeleteLease:
    """DeleteRequest of the service leases; ``sync`` waits for a collection of garbage."""

    id: str = text(1)
    sync: int = integer(2)


@dataclass
class Name:
    """DeleteNamespaceRequest."""

    name: str = text(1)


@dataclass
class Version:
    """VersionResponse."""

    version: str = text(1)
    revision: str = text(2)


@dataclass
class Filters:
    """PluginsRequest."""

    filters: list[str] = texts(1)


@dataclass
class Status:
    """google.rpc.Status: why a plugin is not to be had."""

    code: int = integer(1)
    message: str = text(2)


@dataclass
class Plugin:
    """containerd.services.introspection.v1.Plugin."""

    type: str = text(1)
    id: str = text(2)
    exports: dict[str, str] = pairs(5)
    capabilities: list[str] = texts(6)
    init_err: Status = one(7, Status)


@dataclass
class Plugins:
    """PluginsResponse."""

    plugins: list[Plugin] = many(1, Plugin)


@dataclass
class Any:
    """google.protobuf.Any: a message of another type; containerd names types without an address before them."""

    type_url: str = text(1)
    value: bytes = blob(2)


@dataclass
class StreamInit:
    """Of the service streaming: the first message of a stream, with the name that others use for it."""

    id: str = text(1)


@dataclass
class StreamData:
    """containerd.types.transfer.Data."""

    data: bytes = blob(1)


@dataclass
class WindowUpdate:
    """containerd.types.transfer.WindowUpdate: how many more bytes the receiver of a stream takes."""

    update: int = integer(1)


@dataclass
class ImageImportStream:
    """containerd.types.transfer.ImageImportStream: a tar archive with an image, from a stream."""

    stream: str = text(1)


@dataclass
class Platform:
    """containerd.types.Platform."""

    os: str = text(1)
    architecture: str = text(2)


@dataclass
class UnpackConfiguration:
    """containerd.types.transfer.UnpackConfiguration: the snapshotter that an image is unpacked with."""

    platform: Platform = one(1, Platform)
    snapshotter: str = text(2)


@dataclass
class ImageStore:
    """containerd.types.transfer.ImageStore; an image without a name is not kept, and is unpacked all the same."""

    name: str = text(1)
    unpacks: list[UnpackConfiguration] = many(10, UnpackConfiguration)


@dataclass
class TransferRequest:
    """Of the service transfer."""

    source: Any = one(1, Any)
    destination: Any = one(2, Any)


@dataclass
class RegistryResolver:
    """containerd.types.transfer.RegistryResolver."""

    default_scheme: str = text(4)


@dataclass
class Registry:
    """containerd.types.transfer.OCIRegistry: an image that is pulled."""

    reference: str = text(1)
    resolver: RegistryResolver = one(2, RegistryResolver)
