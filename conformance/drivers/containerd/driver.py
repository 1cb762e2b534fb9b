"""A snapshotter of containerd as a driver under test.

A layer is an active snapshot until it gets a child: then it is committed, as only a committed snapshot can be
a parent, and from then on it is seen through views, read-only. The names of the three are ``active/ID``,
``layer/ID`` and ``view/...``, as they share one set of names.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformance.drivers.containerd import messages, mounting, transfer
from conformance.drivers.containerd.client import Client
from conformance.drivers.containerd.daemon import Daemon, Setup
from conformance.drivers.containerd.messages import Mount
from conformance.drivers.containerd.mounting import Mounted
from conformance.drivers.containerd.services import Content, Snapshots, collect_garbage, plugin_of
from conformance.drivers.containerd.shared import Lease
from conformance.drivers.protocol import CallLimit, Change, DriverFailed, DriverRefused


@dataclass(slots=True)
class _Held:
    """A layer that was got: where, what is mounted there, the view that it is seen through, and how often."""

    point: Path
    mounted: Mounted
    view: str
    count: int


class OpenedSnapshotter:
    """The layers of one namespace of containerd."""

    def __init__(
        self,
        reach: Callable[[], tuple[str, Daemon | Lease | None]],
        setup: Setup,
        directory: Path,
        limit: CallLimit | None = None,
    ) -> None:
        self._reach, self._setup, self._directory, self._limit = reach, setup, directory, limit
        self._held: dict[str, _Held] = {}
        address, self._daemon = reach()
        self._client = self._connected(address)
        self._snapshots = Snapshots(self._client, setup.snapshotter)
        self._content = Content(self._client)
        try:
            self._plugin = plugin_of(self._client, setup.snapshotter)
            if setup.unpacking:
                setup.unpacking.check(self._client, self._plugin)
        except BaseException:
            self.disconnect()
            raise

    def _connected(self, address: str) -> Client:
        namespace = _namespace_of(self._directory)
        if self._daemon is None:
            return Client(address, namespace, self._limit)
        return Client(address, namespace, self._limit, self._daemon.how_it_ended, self._daemon.stack)

    @property
    def home(self) -> str:
        root = self._plugin.exports.get("root")  # of the overlayfs snapshotter only, in containerd 1.6
        if root is None and self._daemon is not None and not self._setup.proxy:
            root = str(self._daemon.home)
        return f"{root}/snapshots" if root else str(self._directory)  # beside it is the snapshotter's database

    @property
    def image_store(self) -> str:
        return ""  # declined: snapshotters read no other store

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        del read_write  # no options are taken for either kind
        if options:
            raise DriverRefused(f"containerd's snapshotters take no options of a layer: {dict(options)}")
        if self.exists(layer_id):
            raise DriverRefused(f"there is a layer {layer_id!r} already")
        if parent and self._snapshots.exists(_active(parent)):
            if parent in self._held:
                raise DriverRefused(f"{parent!r} is mounted; only what is not can be committed, to be a parent")
            self._snapshots.commit(_committed(parent), _active(parent))
        self._snapshots.prepare(_active(layer_id), _committed(parent))

    def remove(self, layer_id: str) -> None:
        if layer_id in self._held:
            raise DriverRefused(f"{layer_id!r} is mounted")
        if self._setup.unpacking:
            transfer.remove(self._snapshots, self._name_of(layer_id))
        else:
            self._snapshots.remove(self._name_of(layer_id))
        collect_garbage(self._client)

    def get(self, layer_id: str, label: str = "") -> str:
        if label:
            raise DriverRefused("containerd's snapshotters take no SELinux label")
        held = self._held.get(layer_id) or self._hold(layer_id)
        held.count += 1
        return str(held.point)

    def _hold(self, layer_id: str) -> _Held:
        mounts, view = self._seen(layer_id)
        point = self._directory / "mnt" / hashlib.sha256(layer_id.encode()).hexdigest()[:32]
        point.mkdir(parents=True)
        try:
            self._check(mounts)
            mounted = mounting.mount_all(mounts, point)
        except BaseException as error:
            point.rmdir()
            self._forget(view)
            if isinstance(error, OSError):
                raise DriverRefused(
                    f"what containerd says to mount cannot be mounted: {error}: {mounts}"
                ) from error
            raise
        self._held[layer_id] = _Held(point, mounted, view, 0)
        return self._held[layer_id]

    def _check(self, mounts: list[Mount]) -> None:
        """Raise DriverFailed if a tree would be one outside of the store, which a test would write to."""
        if self._daemon is None or self._setup.proxy:
            return  # the snapshots of another process are where it has them
        for path in (path for mount in mounts for path in mounting.written_paths(mount)):
            if not mounting.is_within(path, self._directory):
                raise DriverFailed(
                    f"containerd says to mount {path}, which is outside of its root {self._directory}/root"
                )

    def put(self, layer_id: str) -> None:
        held = self._held.get(layer_id)
        if held is None:
            raise DriverRefused(f"{layer_id!r} is not mounted")
        if held.count > 1:
            held.count -= 1
            return
        try:
            held.mounted.unmount()
        except OSError as error:
            raise DriverRefused(f"{held.point} cannot be unmounted: {error}") from error
        del self._held[layer_id]
        held.point.rmdir()
        self._forget(held.view)

    def exists(self, layer_id: str) -> bool:
        return self._snapshots.exists(_active(layer_id)) or self._snapshots.exists(_committed(layer_id))

    def status(self) -> Mapping[str, str]:
        version = self._client.call("version/Version", messages.Empty(), messages.Version)
        capabilities = ", ".join(self._plugin.capabilities)
        return {"Snapshotter": self._setup.snapshotter, "Containerd": version.version, "Capabilities": capabilities}

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        raise DriverRefused(f"containerd says nothing about where layers such as {layer_id!r} are")

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        with self._visible(parent) as left, self._visible(layer_id) as right:
            self._content.diff(left, right, archive)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        del parent  # the snapshot knows its own
        if unpacking := self._setup.unpacking:
            self._transfer(layer_id, archive, unpacking.parallel)
            return None
        try:
            self._content.apply(archive, self._snapshots.mounts(self._name_of(layer_id)))
        finally:
            collect_garbage(self._client)
        return None  # the answer tells the size of the archive, not of what was applied

    def _transfer(self, layer_id: str, archive: Path, parallel: int) -> None:
        if layer_id in self._held:
            raise DriverRefused(f"{layer_id!r} is mounted; the transfer service makes other snapshots of it")
        self._snapshots.mounts(self._name_of(layer_id))  # refused if there is none, or it is committed
        service = transfer.Transfers(self._client, self._snapshots, self._setup.snapshotter, parallel)
        service.apply(_active(layer_id), archive)

    def diff_size(self, layer_id: str, parent: str) -> int:
        raise DriverRefused(f"containerd does not tell the size of what {layer_id!r} changes in {parent!r}")

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        raise DriverRefused(f"containerd does not list what {layer_id!r} changes in {parent!r}")

    def reopen(self) -> OpenedSnapshotter:
        """Another connection, to a daemon that was started anew if it is ours.

        It knows nothing of this object: which layers there are and which are committed it asks the daemon.
        What is mounted is a client's business in containerd, so it goes with this object.
        """
        self.disconnect()
        return OpenedSnapshotter(self._reach, self._setup, self._directory)

    def leave(self) -> None:
        self.disconnect()

    def close(self) -> None:
        """Unmount everything and let go; layers that a process outside keeps are removed, as nobody else would."""
        if self._daemon is None or self._setup.proxy:
            self._unmount()
            self._remove_all()
        self.disconnect()

    def disconnect(self) -> None:
        """Unmount everything, and end the connection and the daemon, if it is ours."""
        self._unmount()
        self._client.close()
        if self._daemon is not None:
            self._daemon.stop()

    def _unmount(self) -> None:
        mounting.detach_below(self._directory / "mnt")
        for held in self._held.values():
            for directory in (*held.mounted.directories, held.point):
                directory.rmdir()
        self._held.clear()

    def _remove_all(self) -> None:
        left = self._snapshots.parents()
        while left:
            for name in left.keys() - left.values():
                self._snapshots.remove(name)
                del left[name]
        collect_garbage(self._client)

    def _name_of(self, layer_id: str) -> str:
        active = _active(layer_id)
        return active if self._snapshots.exists(active) else _committed(layer_id)

    def _seen(self, layer_id: str) -> tuple[list[Mount], str]:
        """What to mount to see a layer, and the view that was made for it, if any; "" is the empty layer."""
        if layer_id and self._snapshots.exists(_active(layer_id)):
            return self._snapshots.mounts(_active(layer_id)), ""
        view = f"view/{uuid.uuid4().hex}"
        return self._snapshots.view(view, _committed(layer_id)), view

    def _forget(self, view: str) -> None:
        if view:
            self._snapshots.remove(view)
            collect_garbage(self._client)

    @contextmanager
    def _visible(self, layer_id: str) -> Iterator[list[Mount]]:
        mounts, view = self._seen(layer_id)
        try:
            yield mounts
        finally:
            self._forget(view)


def _active(layer_id: str) -> str:
    return f"active/{layer_id}"


def _committed(layer_id: str) -> str:
    return f"layer/{layer_id}" if layer_id else ""


def _namespace_of(directory: Path) -> str:
    """A namespace that no other store has, also at a daemon that is not ours; the same when opened again."""
    file = directory / "namespace"
    if not file.exists():
        file.write_text(f"conformance-{uuid.uuid4().hex}")
    return file.read_text()
