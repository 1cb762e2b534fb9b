"""Snapshotters of containerd, over its gRPC API (Debian package containerd, extra ``containerd``)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import parse_qsl

from conformance.adapters.containerd import messages
from conformance.adapters.containerd.client import Client, load_grpc
from conformance.adapters.containerd.daemon import Daemon, Setup
from conformance.adapters.containerd.driver import Store
from conformance.adapters.containerd.services import plugin_of
from conformance.dialects.containerd import Containerd
from conformance.driver import DriverInfo, DriverRefused, DriverSource, OpenRequest

_OUTSIDE = "the home belongs to a process outside of the store's directory"
_DECLINED = {
    "changes": "containerd lists no changes; it only makes archives of them",
    "diff-size": "containerd's Usage counts disk blocks and directories, not the bytes of a difference",
    "applied-size": "containerd says of an archive what it is, not what it brought",
    "bare-home": "containerd knows its snapshots by a database beside them",
    "busy-parents": "containerd's parents are committed snapshots, and what is mounted for writing is none",
    "counted-gets": "containerd leaves mounting to its clients, and keeps no books of it",
    "fine-times": "containerd cuts the times in its archives to whole seconds",
    "ids-are-paths": "containerd's keys are names in a database; directories have numbers",
    "status": "containerd's API says nothing of the filesystem that it found",
    "user-xattrs": "of all attributes containerd's archives carry security.capability only",
    "gates-backing": "containerd tries whether overlay works and compares no names of filesystems",
    "gates-kernel": "containerd tries whether overlay works and compares no releases",
    "home-layout": "containerd lays snapshots out in its own way",
    "processes": "one daemon owns the database of a home",
    "shared-home": "the adapter's own books of what is mounted are for one caller at a time",
    "layer-options": "containerd's snapshots take labels, and no storage options",
    "id-maps": "containerd maps owners when a container starts, not in its snapshots",
    "image-stores": "containerd's snapshotters read no other store's layers",
    "labels": "containerd's snapshotters take no SELinux label for a mount",
    "limit-128": "containerd sets no limit of its own to a chain; the kernel's is 500 lowers (OVL_MAX_STACK)",
    "metadata": "containerd does not say where a snapshot's directories are",
    "options": "containerd's snapshotters are configured by the daemon's file, not by KEY=VALUE words",
}


def source(arguments: str) -> DriverSource:
    """``SNAPSHOTTER[?binary=PATH&address=SOCKET&proxy=ADDRESS]``; raises OSError, ImportError or ValueError.

    Each store has a containerd of its own (that takes a seventh of a second), with its root below the store's
    directory; ``address`` names one that is running instead, and has to see the same mounts. ``proxy`` is the
    socket of a snapshotter outside of containerd, which is plugged in as SNAPSHOTTER.
    """
    snapshotter, _, query = arguments.partition("?")
    options = dict(parse_qsl(query, strict_parsing=bool(query)))
    unknown = options.keys() - {"binary", "address", "proxy"}
    if unknown:
        raise ValueError(f"{sorted(unknown)} is none of binary, address and proxy")
    load_grpc()
    address, proxy = options.get("address", ""), options.get("proxy", "")
    if address and options.keys() > {"address"}:
        raise ValueError("address names a containerd that is running; binary and proxy are for one of our own")
    binary, version = ("", _version_at(address)) if address else _found(options.get("binary", "containerd"))
    setup = Setup(binary, snapshotter or "overlayfs", proxy)
    info = DriverInfo(f"containerd:{arguments}", version, _declined(setup, address))
    return _Opener(setup, address).source(info)


class _Opener:
    """Opens stores, and closes at the end those that nobody did."""

    def __init__(self, setup: Setup, address: str) -> None:
        self._setup = setup
        self._address = address
        self._daemons: list[Daemon] = []

    def source(self, info: DriverInfo) -> DriverSource:
        setup = self._setup
        # One that runs already has layers that a script has no business with.
        dialect = None if self._address or setup.proxy else Containerd(setup.binary, setup.snapshotter)
        writable = _roots_at(self._address, setup.snapshotter) if self._address else ()
        return DriverSource(info, self._open, self._close, dialect=dialect, writable=writable)

    def _open(self, request: OpenRequest) -> Store:
        for what in (request.options, request.id_map, request.image_stores):
            if what:
                raise DriverRefused(f"containerd's snapshotters cannot be opened with {what}")
        return Store(lambda: self._reach(request.directory), self._setup, request.directory)

    def _reach(self, directory: Path) -> tuple[str, Daemon | None]:
        if self._address:
            return self._address, None
        daemon = Daemon(self._setup, directory)
        self._daemons = [*(one for one in self._daemons if one.running), daemon]
        return daemon.address, daemon

    def _close(self) -> None:
        for daemon in self._daemons:
            if daemon.running:
                daemon.stop()


def _found(command: str) -> tuple[str, str]:
    """The command's path and version."""
    binary = shutil.which(command)
    if binary is None:
        raise OSError(f"there is no command {command!r}; on Debian and Ubuntu: apt-get install containerd")
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\b[0-9]+\.[0-9]+\.[^ ]+", said)
    return binary, match[0] if match else "unknown"


def _version_at(address: str) -> str:
    client = Client(address, "conformance")
    try:
        return client.call("version/Version", messages.Empty(), messages.Version).version
    except DriverRefused as refused:
        raise OSError(f"no containerd answers at {address}: {refused}") from refused
    finally:
        client.close()


def _roots_at(address: str, snapshotter: str) -> tuple[Path, ...]:
    """Where a snapshotter of a running daemon keeps its layers, if it says so: mounts made here write there."""
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
    if setup.snapshotter == "native":
        copies = "the native snapshotter copies layers; it mounts no overlay"
        declined |= {"overlay": copies, "kernel-overlay": copies}
    if address or setup.proxy:
        declined["own-home"] = _OUTSIDE
    return declined
