"""Snapshotters of containerd, over its gRPC API (Debian package containerd, extra ``containerd``)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from conformance.drivers.connection import (
    Connection,
    Key,
    Kind,
    absolute_command,
    declined_in,
    parse_arguments,
    writable_in,
)
from conformance.drivers.containerd import messages
from conformance.drivers.containerd.client import Client, load_grpc
from conformance.drivers.containerd.configuration import read_configuration
from conformance.drivers.containerd.daemon import Daemon, Setup
from conformance.drivers.containerd.driver import OpenedSnapshotter
from conformance.drivers.containerd.formatting import CannotMount
from conformance.drivers.containerd.script import Containerd
from conformance.drivers.containerd.services import plugin_of
from conformance.drivers.containerd.shared import Lease, SharedDaemon
from conformance.drivers.containerd.transfer import Unpacking
from conformance.drivers.protocol import DriverFailed, DriverInfo, DriverRefused, OpenRequest
from conformance.drivers.source import DriverSource
from conformance.lab.removal import remove_tree

_OUTSIDE = "the home belongs to a process outside of the store's directory"
_DECLINED = {
    "changes": "containerd lists no changes; it only makes archives of them",
    "diff-size": "containerd's Usage counts disk blocks and directories, not the bytes of a difference",
    "aufs-metadata": "containerd follows the image specification, which has no metadata of AUFS",
    "nested-whiteouts": "containerd follows the image specification, which does not decide on nested whiteouts",
    "apply-stream": "containerd applies what its content store holds, and the adapter puts archives there whole",
    "applied-size": "containerd says of an archive what it is, not what it brought",
    "bare-home": "containerd knows its snapshots by a database beside them",
    "busy-parents": "containerd's parents are committed snapshots, and what is mounted for writing is none",
    "counted-gets": "containerd leaves mounting to its clients, and keeps no books of it",
    "early-times": "containerd sets the epoch where an archive has a time before it, or after 2262",
    "fine-times": "containerd cuts the times in its archives to whole seconds",
    "ids-are-paths": "containerd's keys are names in a database; directories have numbers",
    "status": "containerd's API says nothing of the filesystem that it found",
    "user-xattrs": "of all attributes containerd's archives carry security.capability only",
    "gates-backing": "containerd tries whether overlay works and compares no names of filesystems",
    "gates-kernel": "containerd tries whether overlay works and compares no releases",
    "home-layout": "containerd lays snapshots out in its own way",
    "processes": "one daemon owns the database of a home",
    "shared-home": "the adapter's own record of mounts does not support concurrent callers",
    "layer-options": "containerd's snapshots take labels, and no storage options",
    "layer-limits": "containerd's snapshots take labels, and no limit of their size",
    "own-mounts": "containerd leaves mounting to its clients, so the mounts are the adapter's",
    "id-maps": "containerd maps owners when a container starts, not in its snapshots",
    "image-stores": "containerd's snapshotters read no other store's layers",
    "labels": "containerd's snapshotters take no SELinux label for a mount",
    "limit-128": "containerd sets no limit of its own to a chain; the kernel's is 500 lowers (OVL_MAX_STACK)",
    "metadata": "containerd does not say where a snapshot's directories are",
    "options": "containerd's snapshotters are configured by the daemon's file, not by KEY=VALUE words",
}
# Of shims, whatever directory of state a containerd is configured to.
_SOCKETS = "/run/containerd"
# Snapshotters whose mounts are a bind mount or the kernel's overlay, which every host of the suite makes.
_OF_CONTAINERD = frozenset({"overlayfs", "native"})  # in each build; others can be left out of one
_PLAIN_MOUNTS = frozenset({"overlayfs", "native", "btrfs"})
_NO_OVERLAY = {
    "native": "copies layers",
    "btrfs": "makes each layer a subvolume",
    "blockfile": "copies the file with the layer's filesystem",
    "devmapper": "makes each layer a thin volume",
    "zfs": "makes each layer a dataset",
}


KEYS: Final = (
    Key("binary", "the containerd command, by its path or for the PATH"),
    Key("address", "the socket of a containerd that is running"),
    Key("proxy", "the socket of a snapshotter outside of containerd, which is plugged in"),
    Key("config", "a file of containerd's configuration, for a snapshotter that takes one"),
    Key("unpack", "how archives become layers: diff (the service diff, the default) or transfer"),
    Key("parallel", "of unpack=transfer: how many layers containerd applies at once"),
)


def source(arguments: str) -> DriverSource:
    """``SNAPSHOTTER[?binary=PATH&address=SOCKET&proxy=ADDRESS&config=FILE&unpack=HOW&parallel=N]``.

    Raises OSError, ImportError or ValueError.

    Each store has a containerd of its own (that takes a seventh of a second), with its root below the store's
    directory; ``address`` names one that is running instead, and has to see the same mounts. ``proxy`` is the
    socket of a snapshotter outside of containerd, which is plugged in as SNAPSHOTTER; all stores then share one
    containerd. ``config`` is a file of containerd's configuration (containerd-config.toml(5)), for a snapshotter
    that takes one.
    """
    connection = parse_arguments("containerd", arguments)
    load_grpc()
    address, proxy = connection.value("address"), connection.value("proxy")
    config = connection.value("config")
    if address and (proxy or config or connection.value("binary") or connection.value("parallel")):
        raise ValueError(
            "address names a containerd that is running; binary, proxy, config and parallel are for one of our own"
        )
    if proxy:
        _check_proxy(proxy, connection.name or "overlayfs")
    command = absolute_command(connection.value("binary", "containerd"))
    binary, version = ("", _version_at(address)) if address else _found(command)
    unpacking = _unpacking(connection)
    setup = Setup(binary, connection.name or "overlayfs", proxy, read_configuration(config), unpacking)
    info = DriverInfo(f"containerd:{arguments}", version, _declined(setup, address) | declined_in(connection))
    # One that runs already has layers that a script has no business with.
    # ctr has no registry to pull from.
    pulls = unpacking is not None and unpacking.parallel > 1
    dialect = None if address or proxy or pulls else _dialect(command, setup)
    # Where a snapshotter outside keeps its layers only the user can say: mounts of them show what is there.
    outside = writable_in(connection) if proxy else ()
    return _Opener(setup, address, dialect, outside).source(info)


def _check_proxy(proxy: str, name: str) -> None:
    """Refuse what containerd would answer by a panic; raises ValueError."""
    if name in _OF_CONTAINERD:
        raise ValueError(
            f"containerd has a snapshotter '{name}' of its own; write another name: containerd:NAME?proxy={proxy}"
        )
    if proxy.startswith("/") and not os.path.exists(proxy):
        raise ValueError(f"there is no socket {proxy!r}; start the snapshotter first")


class _Opener:
    """Opens stores, and closes at the end those that nobody did."""

    def __init__(
        self, setup: Setup, address: str, dialect: Containerd | None, outside: tuple[Path, ...] = ()
    ) -> None:
        self._setup = setup
        self._address = address
        self._dialect = dialect
        self._outside = outside
        self._daemons: list[Daemon] = []
        self._mountable = setup.snapshotter in _PLAIN_MOUNTS
        self._shared: SharedDaemon | None = None
        self._place: Path | None = None  # of the shared daemon

    def source(self, info: DriverInfo) -> DriverSource:
        setup = self._setup
        following = f"'ctr plugins ls' says of a containerd which snapshotters it has; is {setup.snapshotter} one?"
        if not self._address and not Path(_SOCKETS).is_dir():
            following = (
                f"containerd 2 makes {_SOCKETS} at its start, and a run may not: sudo mkdir -m 711 {_SOCKETS}"
            )
        writable = _roots_at(self._address, setup.snapshotter) if self._address else self._outside
        return DriverSource(
            info,
            self._open,
            self._close,
            dialect=self._dialect,
            sets_umask=not self._address and not setup.proxy,
            alone="a containerd removes what another one has in the same snapshotter" if setup.proxy else "",
            writable=writable,
            next_step=following,
        )

    def _open(self, request: OpenRequest) -> OpenedSnapshotter:
        for what in (request.options, request.id_map, request.gid_map, request.image_stores):
            if what:
                raise DriverRefused(f"containerd's snapshotters cannot be opened with {what}")
        if self._setup.proxy and self._shared is None:
            self._place = place = Path(tempfile.mkdtemp(prefix="containerd-", dir=request.directory.parent))
            self._shared = SharedDaemon(lambda: Daemon(self._setup, place, request.limit))
        if not self._mountable:
            self._try_mounts(request)
            self._mountable = True
        return self._store(request)

    def _store(self, request: OpenRequest) -> OpenedSnapshotter:
        return OpenedSnapshotter(lambda: self._reach(request), self._setup, request.directory, request.limit)

    def _try_mounts(self, request: OpenRequest) -> None:
        """Raise DriverRefused if the mounts of this snapshotter cannot be made here, before a test meets them."""
        place = Path(tempfile.mkdtemp(prefix="mounts-", dir=request.directory))
        try:
            store = self._store(replace(request, directory=place))
            try:
                store.create("base", "")
                store.create("child", "base")
                for layer_id in ("base", "child"):
                    store.get(layer_id)
                    store.put(layer_id)
            except CannotMount as error:
                name = self._setup.snapshotter
                raise DriverRefused(
                    f"the mounts of containerd's snapshotter {name} cannot be made: {error}"
                ) from error
            except (DriverRefused, DriverFailed):
                pass  # of the driver, which tests will judge
            finally:
                store.close()
        finally:
            remove_tree(place)

    def _reach(self, request: OpenRequest) -> tuple[str, Daemon | Lease | None]:
        if self._address:
            return self._address, None
        if self._shared:
            lease = self._shared.lease()
            return lease.address, lease
        daemon = Daemon(self._setup, request.directory, request.limit, request.umask)
        self._daemons = [*(one for one in self._daemons if one.running), daemon]
        return daemon.address, daemon

    def _close(self) -> None:
        for daemon in self._daemons:
            if daemon.running:
                daemon.stop()
        if self._shared:
            self._shared.stop()
        if self._place:
            remove_tree(self._place)


def _found(command: str) -> tuple[str, str]:
    """The command's path and version."""
    binary = shutil.which(command)
    if binary is None:
        raise OSError(f"there is no command {command!r}; on Debian and Ubuntu: apt-get install containerd")
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"(?<=[ v])[0-9]+\.[0-9]+\.[^ ]+", said)  # Debian's versions have no v before them
    return binary, match[0] if match else "unknown"


def _unpacking(connection: Connection) -> Unpacking | None:
    how, parallel = connection.value("unpack", "diff"), connection.value("parallel")
    if how not in ("diff", "transfer"):
        raise ValueError(f"unpack={how}: archives become layers by diff or by transfer")
    if parallel and how == "diff":
        raise ValueError("parallel= is for unpack=transfer; the service diff applies one archive")
    if parallel and (not parallel.isdigit() or int(parallel) < 1):
        raise ValueError(f"parallel={parallel} is no number of layers, 1 or more")
    return Unpacking(int(parallel or 1)) if how == "transfer" else None


def _dialect(command: str, setup: Setup) -> Containerd:
    """The commands as the connection string names them: by a path, or for the PATH of whoever runs a script."""
    beside = Path(command).with_name("ctr")  # a daemon is asked by the ctr of its own version
    ctr = str(beside) if "/" in command and beside.exists() else "ctr"
    if setup.unpacking is None:
        return Containerd(command, setup.snapshotter, ctr, setup.config)
    config = "\n".join([setup.config, setup.unpacking.configuration(setup.snapshotter)]).lstrip()
    return Containerd(command, setup.snapshotter, ctr, config, "transfer")


def _version_at(address: str) -> str:
    client = Client(address, "conformance")
    try:
        return client.call("version/Version", messages.Empty(), messages.Version).version
    except DriverRefused as refused:
        raise OSError(f"no containerd answers at {address}: {refused}") from refused
    finally:
        client.close()


def _roots_at(address: str, snapshotter: str) -> tuple[Path, ...]:
    """Where the snapshotter of a running daemon keeps its layers, if it says so: mounts of them write to it."""
    client = Client(address, "conformance")
    try:
        root = plugin_of(client, snapshotter).exports.get("root")
    except DriverRefused:  # which is for whoever opens a store to say
        root = None
    finally:
        client.close()
    return (Path(root),) if root and Path(root).is_dir() else ()


def _declined(setup: Setup, address: str) -> dict[str, str]:
    declined = dict(_DECLINED)
    if setup.snapshotter in _NO_OVERLAY:
        how = f"the {setup.snapshotter} snapshotter {_NO_OVERLAY[setup.snapshotter]}; it mounts no overlay"
        declined |= {"overlay": how, "kernel-overlay": how}
        declined["replaced-symlinks"] = (
            "containerd follows a symlink of a lower layer within the tree, except on overlay"
        )
    if setup.snapshotter == "fuse-overlayfs":
        declined["kernel-overlay"] = "fuse-overlayfs stands in for the kernel's overlay"
    if address or setup.proxy:
        declined["own-home"] = _OUTSIDE
    return declined


KIND: Final = Kind("containerd", (("SNAPSHOTTER", "overlayfs"),), source, KEYS)
