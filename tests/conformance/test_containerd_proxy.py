"""Snapshotters outside of containerd, and those that take a configuration or mounts of other kinds."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from snapshotting import (
    BINARY,
    CHILD,
    Rewrite,
    collect_behind,
    fill_and_branch,
    names,
    nothing_left,
    relay,
    tree,
    unchanged,
    with_containerd,
)

from conformance.drivers import registry
from conformance.drivers.containerd.daemon import Daemon, Setup, unused_plugins
from conformance.drivers.containerd.messages import Mount
from conformance.drivers.protocol import DriverRefused, OpenRequest
from conformance.drivers.source import DriverSource

needs_fuse = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this machine has no /dev/fuse")


@contextmanager
def relayed(
    scratch: Path, rewrite: Rewrite = unchanged, name: str = "relayed"
) -> Iterator[tuple[DriverSource, Daemon]]:
    """A proxy snapshotter, and the containerd behind it."""
    (scratch / "daemon").mkdir()
    with ExitStack() as stack:
        daemon = Daemon(Setup(str(BINARY), "overlayfs"), scratch / "daemon")
        stack.callback(daemon.stop)
        stack.enter_context(relay(daemon.address, scratch / "socket", "overlayfs", rewrite))
        source = registry.connect(f"containerd:{name}?proxy={scratch}/socket")
        stack.callback(source.close)
        yield source, daemon


@with_containerd
def test_a_snapshotter_behind_a_proxy(scratch: Path) -> None:
    (scratch / "store").mkdir()
    with relayed(scratch) as (source, daemon):
        assert "own-home" in source.info.declined
        driver = source.open(OpenRequest(scratch / "store"))
        fill_and_branch(driver)
        collect_behind(daemon)
        with tree(driver, "child") as root:
            assert names(root) == CHILD
        driver.diff("child", "base", scratch / "child.tar")
        driver.close()


@with_containerd
def test_two_stores_behind_a_proxy_leave_each_other_alone(scratch: Path) -> None:
    """A containerd for each would remove the other's layers when it collects its garbage."""
    for name in ("first", "second"):
        (scratch / name).mkdir()
    with relayed(scratch) as (source, _):
        assert source.alone
        first = source.open(OpenRequest(scratch / "first"))
        fill_and_branch(first)
        second = source.open(OpenRequest(scratch / "second"))
        fill_and_branch(second)
        second.remove("child")
        first.create("third", "child")
        with tree(first, "third") as root:
            assert names(root) == CHILD
        first = first.reopen()
        second.remove("base")
        second.close()
        with tree(first, "third") as root:
            assert names(root) == CHILD
        again = first.reopen()  # the last store: a containerd is started again, on what the former one had
        with tree(again, "third") as root:
            assert names(root) == CHILD
        again.close()
    nothing_left(scratch)


def by_fuse(mount: Mount) -> Mount:
    """As fuse-overlayfs-snapshotter says it; an overlay has no options there but directories."""
    if mount.type != "overlay":
        return mount
    return Mount("fuse3.fuse-overlayfs", "overlay", "", [one for one in mount.options if "dir=" in one])


@needs_fuse
@with_containerd
def test_a_snapshotter_of_fuse(scratch: Path) -> None:
    (scratch / "store").mkdir()
    with relayed(scratch, by_fuse, "fuse-overlayfs") as (source, _):
        assert "kernel-overlay" in source.info.declined
        driver = source.open(OpenRequest(scratch / "store"))
        fill_and_branch(driver)
        with tree(driver, "child") as root:
            assert names(root) == CHILD
            assert f"{root} " in Path("/proc/self/mountinfo").read_text()
            assert "fuse.fuse-overlayfs" in Path("/proc/self/mountinfo").read_text()
        driver.diff("child", "base", scratch / "child.tar")
        driver.close()
    nothing_left(scratch)


@with_containerd
@pytest.mark.parametrize("lowest", [True, False], ids=["no-layer", "no-child"])
def test_mounts_that_cannot_be_made_are_said_when_a_store_is_opened(scratch: Path, lowest: bool) -> None:
    """No test is to fail on a driver whose mounts this host cannot make."""
    (scratch / "store").mkdir()

    def strange(mount: Mount) -> Mount:
        return replace(mount, type="nonsensefs") if lowest or mount.type == "overlay" else mount

    with (
        relayed(scratch, strange) as (source, _),
        pytest.raises(DriverRefused, match="relayed cannot be made: this kernel has no filesystem 'nonsensefs'"),
    ):
        source.open(OpenRequest(scratch / "store"))
    nothing_left(scratch)
    assert list((scratch / "store").iterdir()) == []


@with_containerd
def test_a_file_of_configuration_is_handed_on(scratch: Path) -> None:
    """The snapshotter devmapper is not loaded in either case, and containerd's reason is another."""
    file = scratch / "added.toml"
    file.write_text(
        'version = 2\n[plugins."io.containerd.snapshotter.v1.devmapper"]\npool_name = "no-such-pool"\n'
        f'root_path = "{scratch}/devmapper"\nbase_image_size = "nonsense"\n'
    )
    (scratch / "store").mkdir()
    with pytest.raises(DriverRefused, match="did not load the snapshotter 'devmapper': devmapper not configured"):
        registry.connect("containerd:devmapper").open(OpenRequest(scratch / "store"))
    with pytest.raises(DriverRefused, match=r"did not load the snapshotter 'devmapper': .*nonsense"):
        registry.connect(f"containerd:devmapper?config={file}").open(OpenRequest(scratch / "store"))


@with_containerd
@pytest.mark.parametrize(
    ("text", "advice"),
    [('root = "/elsewhere"', "sets root, which the adapter sets"), ("= 1", "is no TOML"), (None, "No such file")],
)
def test_a_file_that_cannot_be_added_says_why(scratch: Path, text: str | None, advice: str) -> None:
    file = scratch / "added.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(registry.UnknownDriver, match=advice):
        registry.connect(f"containerd:overlayfs?config={file}")


def test_the_snapshotter_under_test_is_not_disabled() -> None:
    name = "io.containerd.snapshotter.v1.zfs"
    assert name in unused_plugins("overlayfs")
    assert name not in unused_plugins("zfs")


@with_containerd
def test_mounts_of_a_snapshotter_outside_may_show_the_root_that_is_named(scratch: Path) -> None:
    """What is mounted in a store is below the store, or below a path of the source (harness/contained.py)."""
    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(f"{scratch}/socket")
        outside.listen()
        source = registry.connect(f"containerd:relayed?proxy={scratch}/socket&writable={scratch}")
    assert source.writable == (scratch,)
    assert registry.connect(f"containerd:overlayfs?writable={scratch}").writable == ()
