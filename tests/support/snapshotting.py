"""A containerd to test the adapter with, what is left of it, and a snapshotter outside of it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conformance.drivers.containerd import client, messages, services, wire
from conformance.drivers.containerd.daemon import Daemon
from conformance.drivers.protocol import DriverUnderTest

# Another version is tried by a PATH that begins with its directory.
BINARY = shutil.which("containerd")
GRPC = importlib.util.find_spec("grpc") is not None
needs_grpc = pytest.mark.skipif(not GRPC, reason="needs grpcio; install overlay-conformance[containerd]")
needs_containerd = [
    pytest.mark.mounts,
    needs_grpc,
    pytest.mark.skipif(BINARY is None, reason="needs containerd; apt-get install containerd"),
]


def with_containerd(test: Callable[..., None]) -> Callable[..., None]:
    for mark in needs_containerd:
        test = mark(test)
    return test


def nothing_left(scratch: Path) -> None:
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()
    assert daemons_of(scratch) == []
    for store in scratch.iterdir():
        assert not (store / "run").exists()
        assert list((store / "mnt").glob("*")) == []


def daemons_of(scratch: Path) -> list[int]:
    """Processes of containerd that hold something below a directory open; a daemon always has its directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "exe")).name != "containerd":
                continue
            held = [os.readlink(one) for one in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(one.startswith(f"{scratch}/") for one in held):
            found.append(int(process.name))
    return found


@contextmanager
def tree(driver: DriverUnderTest, layer_id: str) -> Iterator[Path]:
    path = driver.get(layer_id)
    try:
        yield Path(path)
    finally:
        driver.put(layer_id)


def fill_and_branch(driver: DriverUnderTest) -> None:
    """A base with a, d/b and d/c, and a child without a and d/b and with new."""
    driver.create("base", "")
    with tree(driver, "base") as root:
        (root / "a").write_text("a")
        (root / "d").mkdir()
        for name in ("b", "c"):
            (root / "d" / name).write_text(name)
    driver.create("child", "base")
    with tree(driver, "child") as root:
        (root / "a").unlink()
        (root / "d/b").unlink()
        (root / "new").write_text("new")


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def kept(driver: DriverUnderTest) -> set[str]:
    """What is in the home, but for what the kernel leaves in an overlay's work directory until its next mount."""
    return {name for name in names(Path(driver.home)) if "/work/work/" not in name}


BASE = {"a", "d", "d/b", "d/c"}
CHILD = {"d", "d/c", "new"}


Rewrite = Callable[[messages.Mount], messages.Mount]


def unchanged(mount: messages.Mount) -> messages.Mount:
    return mount


@contextmanager
def relay(address: str, socket: Path, snapshotter: str, rewrite: Rewrite = unchanged) -> Iterator[None]:
    """A snapshotter that is a process of its own: it passes every call on to another containerd's.

    ``rewrite`` is done to the mounts that it answers.
    """
    grpc: Any = importlib.import_module("grpc")
    channel = grpc.insecure_channel(f"unix:{address}", options=(("grpc.default_authority", "localhost"),))

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # of a module without types
        def service(self, details: Any) -> Any:
            # Snapshotters outside keep no namespaces apart, and containerd's own collection of garbage names none.
            metadata = [("containerd-namespace", "relayed"), ("containerd-lease", "relay")]
            # The name is field 1 of every request, and the last of two is the one that counts.
            name = wire.encode(messages.SnapshotKey(snapshotter))

            def unary(request: bytes, context: Any) -> Any:
                try:
                    answer: bytes = channel.unary_unary(details.method)(request + name, metadata=metadata)
                    if details.method.endswith(("/Prepare", "/View", "/Mounts")):
                        mounts = wire.decode(messages.Mounts, answer).mounts
                        return wire.encode(messages.Mounts([rewrite(mount) for mount in mounts]))
                    return answer
                except grpc.RpcError as error:
                    context.abort(error.code(), error.details())

            def stream(request: bytes, context: Any) -> Iterator[bytes]:
                del context
                yield from channel.unary_stream(details.method)(request + name, metadata=metadata)

            if details.method.endswith("/List"):
                return grpc.unary_stream_rpc_method_handler(stream)
            return grpc.unary_unary_rpc_method_handler(unary)

    # The containerd behind knows nothing of the leases of the one in front: a lease of its own keeps all there.
    behind = client.Client(address, "relayed")
    behind.call("leases/Create", messages.NewLease("relay"), messages.Empty)
    server = grpc.server(ThreadPoolExecutor(4), handlers=(Handler(),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()
        channel.close()
        behind.close()


def collect_behind(daemon: Daemon) -> None:
    """A collection of garbage where the snapshots are; containerd has them at times of its own as well."""
    connection = client.Client(daemon.address, "relayed")
    services.collect_garbage(connection)
    connection.close()
