"""The adapter for containerd's snapshotters, against a containerd of its own for each store."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commanding import command
from reading import verdicts
from snapshotting import (
    BASE,
    BINARY,
    CHILD,
    daemons_of,
    fill_and_branch,
    kept,
    names,
    needs_grpc,
    nothing_left,
    tree,
    with_containerd,
)

from conformance.drivers import registry
from conformance.drivers.containerd import client, messages, mounting, wire
from conformance.drivers.containerd.daemon import Daemon, Setup
from conformance.drivers.protocol import DriverRefused, DriverUnderTest, IdRange, OpenRequest
from conformance.drivers.source import DriverSource
from conformance.spec import conventions, load_capabilities, load_requirements

Open = Callable[[str], DriverUnderTest]


@pytest.fixture(params=["overlayfs", "native"])
def source(request: pytest.FixtureRequest, scratch: Path) -> Iterator[DriverSource]:
    """A snapshotter; nothing may be left of it: no process, no mount, no directory of a daemon."""
    found = registry.connect(f"containerd:{request.param}")
    yield found
    found.close()
    nothing_left(scratch)


@pytest.fixture
def open_store(source: DriverSource, scratch: Path) -> Open:
    def opened(name: str) -> DriverUnderTest:
        (scratch / name).mkdir(parents=True)
        return source.open(OpenRequest(scratch / name))

    return opened


@with_containerd
def test_layers_from_their_making_to_their_end(open_store: Open) -> None:
    driver = open_store("store")
    fill_and_branch(driver)
    with tree(driver, "base") as root:
        assert names(root) == BASE
    with tree(driver, "child") as root:
        assert names(root) == CHILD
    before = kept(driver)
    with pytest.raises(DriverRefused, match="child"):
        driver.remove("base")
    for refused in (("child", ""), ("base", ""), ("other", "missing")):
        with pytest.raises(DriverRefused):
            driver.create(*refused)
    assert kept(driver) == before
    driver.remove("child")
    assert not driver.exists("child")
    driver.remove("base")
    assert kept(driver) == set()
    driver.close()


@with_containerd
def test_a_diff_makes_the_same_layer_elsewhere(open_store: Open, scratch: Path) -> None:
    driver, copy = open_store("store"), open_store("copy")
    fill_and_branch(driver)
    before = kept(driver)
    for layer_id, parent in (("base", ""), ("child", "base")):
        archive = scratch / "store" / f"{layer_id}.tar"
        driver.diff(layer_id, parent, archive)
        copy.create(layer_id, parent)
        assert copy.apply_diff(layer_id, parent, archive) is None
        with tree(driver, layer_id) as ours, tree(copy, layer_id) as theirs:
            assert names(ours) == names(theirs)
    with tarfile.open(scratch / "store/child.tar") as tar:
        assert set(tar.getnames()) == {"d", "d/.wh.b", ".wh.a", "new"}
    driver.diff("child", "", scratch / "store/whole.tar")
    with tarfile.open(scratch / "store/whole.tar") as tar:
        assert set(tar.getnames()) == CHILD
    assert kept(driver) == before
    assert not list((scratch / "copy/root/io.containerd.content.v1.content").rglob("sha256/*"))
    driver.close()
    copy.close()


@with_containerd
def test_an_archive_larger_than_a_message_and_one_cut_short(open_store: Open, scratch: Path) -> None:
    driver = open_store("store")
    driver.create("base", "")
    content = os.urandom(20 << 20)
    with tree(driver, "base") as root:
        (root / "big").write_bytes(content)
    archive = scratch / "store/big.tar"
    driver.diff("base", "", archive)
    for layer_id in ("copy", "again"):
        driver.create(layer_id, "")
        driver.apply_diff(layer_id, "", archive)
        with tree(driver, layer_id) as root:
            assert (root / "big").read_bytes() == content
    archive.write_bytes(archive.read_bytes()[: 1 << 20])
    driver.create("cut", "")
    with pytest.raises(DriverRefused):
        driver.apply_diff("cut", "", archive)
    driver.close()


@with_containerd
def test_a_tree_is_mounted_until_the_last_put(open_store: Open) -> None:
    driver = open_store("store")
    fill_and_branch(driver)
    for layer_id in ("base", "child"):  # one committed, one active
        paths = {driver.get(layer_id), driver.get(layer_id)}
        assert len(paths) == 1
        driver.put(layer_id)
        path = paths.pop()
        assert os.listdir(path)
        with pytest.raises(DriverRefused, match="mounted"):
            driver.remove(layer_id)
        driver.put(layer_id)
        assert not os.path.exists(path)
        with pytest.raises(DriverRefused, match="not mounted"):
            driver.put(layer_id)
    with pytest.raises(DriverRefused, match="missing"):
        driver.get("missing")
    with tree(driver, "child"), pytest.raises(DriverRefused, match="mounted"):
        driver.create("grandchild", "child")
    with tree(driver, "base") as root, pytest.raises(OSError, match="Read-only"):
        (root / "written").touch()
    driver.close()


@with_containerd
def test_a_reopened_store_and_one_opened_again_show_the_same(
    source: DriverSource, open_store: Open, scratch: Path
) -> None:
    driver = open_store("store")
    fill_and_branch(driver)
    driver.get("child")  # and never put
    before = daemons_of(scratch)
    driver = driver.reopen()
    assert daemons_of(scratch) != before
    with tree(driver, "child") as root:
        assert names(root) == CHILD
    driver.close()
    driver = source.open(OpenRequest(scratch / "store"))
    driver.create("grandchild", "child")
    with tree(driver, "grandchild") as root:
        assert names(root) == CHILD
    assert driver.status()["Containerd"] == source.info.version
    # No close: the source ends what is still there.


@with_containerd
def test_a_chain_of_130_layers_below_a_long_home(scratch: Path) -> None:
    home = scratch / ("h" * 200) / ("i" * 200)
    home.mkdir(parents=True)
    source = registry.connect("containerd:overlayfs")
    driver = source.open(OpenRequest(home))
    for number in range(130):  # so the last has 129 lowers, and containerd refuses none
        driver.create(f"layer-{number}", f"layer-{number - 1}" if number else "")
        if number % 32 == 0:
            with tree(driver, f"layer-{number}") as root:
                (root / f"file-{number}").touch()
    with tree(driver, "layer-129") as root:
        assert names(root) == {f"file-{number}" for number in (0, 32, 64, 96, 128)}
        (root / "written").touch()
        (root / "file-64").unlink()
    driver.diff("layer-129", "layer-128", scratch / "top.tar")
    with tarfile.open(scratch / "top.tar") as tar:
        assert set(tar.getnames()) == {"written", ".wh.file-64"}
    driver.close()
    source.close()
    assert daemons_of(scratch) == []


@with_containerd
@pytest.mark.parametrize("name", ["a b", 'quote"', "\\", "ü", os.fsdecode(b"\xff")])
def test_a_strange_home_is_the_snapshotters_business(open_store: Open, name: str) -> None:
    try:
        driver = open_store(f"store/{name}")
    except DriverRefused:  # 1.6 does not start below a backslash, and no configuration can name what is not UTF-8
        assert name in ("\\", os.fsdecode(b"\xff"))
        return
    driver.create("base", "")
    assert name in driver.home
    driver.close()


@with_containerd
def test_a_daemon_dies_with_the_process_that_started_it(scratch: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from conformance.drivers.registry import connect;"
        "from conformance.drivers.protocol import OpenRequest; source = connect('containerd:overlayfs');"
        "driver = source.open(OpenRequest(Path(sys.argv[1]))); driver.create('base', '');"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(scratch)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (daemon,) = daemons_of(scratch)
        watched = os.pidfd_open(daemon)
        process.kill()
    try:
        assert select.select([watched], [], [], 30)[0]  # readable when the process has ended (pidfd_open(2))
    finally:
        os.close(watched)
    assert daemons_of(scratch) == []
    # What it left is no obstacle to the next one.
    source = registry.connect("containerd:overlayfs")
    driver = source.open(OpenRequest(scratch))
    assert driver.exists("base")
    driver.close()
    source.close()


@with_containerd
def test_a_containerd_that_is_running_already(scratch: Path) -> None:
    (scratch / "daemon").mkdir()
    daemon = Daemon(Setup(str(BINARY), "native"), scratch / "daemon")
    try:
        source = registry.connect(f"containerd:native?address={daemon.address}")
        assert source.info.declined.keys() >= {"own-home", "overlay"}
        drivers = []
        for name in ("one", "two"):  # of the same layers, in a namespace each
            (scratch / name).mkdir()
            drivers.append(source.open(OpenRequest(scratch / name)))
            fill_and_branch(drivers[-1])
        for driver in drivers:
            with tree(driver, "child") as root:
                assert names(root) == CHILD
            driver.close()
        assert not list((scratch / "daemon/root/io.containerd.snapshotter.v1.native/snapshots").iterdir())
        source.close()
    finally:
        daemon.stop()
    nothing_left(scratch)


@with_containerd
def test_what_a_store_cannot_be_opened_with_is_refused(source: DriverSource, scratch: Path) -> None:
    for request in (
        OpenRequest(scratch, options=("size=1g",)),
        OpenRequest(scratch, id_map=(IdRange(0, 1000, 1),)),
        OpenRequest(scratch, image_stores=(scratch,)),
    ):
        with pytest.raises(DriverRefused):
            source.open(request)
    (scratch / "store").mkdir()
    driver = source.open(OpenRequest(scratch / "store"))
    with pytest.raises(DriverRefused):
        driver.create("base", "", {"size": "1g"})
    driver.create("base", "")
    with pytest.raises(DriverRefused):
        driver.get("base", "system_u:object_r:container_file_t:s0")
    driver.close()


@with_containerd
def test_a_snapshotter_that_is_not_to_be_had_is_refused(scratch: Path) -> None:
    source = registry.connect("containerd:nonsense")
    with pytest.raises(DriverRefused, match="no snapshotter 'nonsense'"):
        source.open(OpenRequest(scratch))
    nothing_left(scratch)


@needs_grpc
@pytest.mark.parametrize(
    ("connection", "advice"),
    [
        ("containerd:overlayfs?binary=/no/such/binary", "apt-get install containerd"),
        ("containerd:overlayfs?address=/no/such/socket", "no containerd answers"),
        ("containerd:overlayfs?address=/a&proxy=/b", "one of our own"),
        ("containerd:overlayfs?proxy=/dev/null", "a snapshotter 'overlayfs' of its own; write another name"),
        ("containerd:mine?proxy=/no/such/socket", "there is no socket '/no/such/socket'"),
        ("containerd:overlayfs?root=/a", "there is no option .root."),
    ],
)
def test_what_cannot_be_reached_says_why(connection: str, advice: str) -> None:
    with pytest.raises(registry.UnknownDriver, match=advice):
        registry.connect(connection)


def test_without_grpc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(registry.UnknownDriver, match=r"pip install 'overlay-conformance\[containerd\]'"):
        registry.connect("containerd:overlayfs")
    with pytest.raises(ImportError):
        client.load_grpc()


def test_messages_survive_the_wire() -> None:
    mount = messages.Mount("overlay", "overlay", "", ["lowerdir=/a:/b", os.fsdecode(b"upperdir=/\xff")])
    request = messages.DiffRequest([], [mount, messages.Mount()], "tar", "ref", {"key": "value", "empty": ""})
    assert wire.decode(messages.DiffRequest, wire.encode(request)) == request
    written = messages.WriteContent(messages.COMMIT, "ref", 1 << 40, offset=300, data=b"\x00\xff")
    assert wire.decode(messages.WriteContent, wire.encode(written)) == written
    # protoc's own example of a number, and a number, a fixed64 and a fixed32 that Empty does not know
    assert wire.encode(messages.Status(150)) == b"\x08\x96\x01"
    assert wire.decode(messages.Empty, b"\x08\x96\x01\x11" + bytes(8) + b"\x1d" + bytes(4)) == messages.Empty()


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x08\x96", b"\x0b", b"\x08" + b"\xff" * 11])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no message"):
        wire.decode(messages.SnapshotKey, data)


def test_options_of_mount_are_flags_or_data() -> None:
    assert mounting.flags_and_data(["rbind", "ro"]) == (4096 | 16384 | 1, "")
    assert mounting.flags_and_data(["ro", "rw", "index=off", "lowerdir=/a:/b"]) == (0, "index=off,lowerdir=/a:/b")


def test_lowers_are_named_from_what_they_have_in_common() -> None:
    data = "index=off,lowerdir=/s/10/fs:/s/2/fs,workdir=/s/3/work"
    assert mounting.with_relative_lowers(data) == ("/s", "index=off,lowerdir=10/fs:2/fs,workdir=/s/3/work")
    assert mounting.with_relative_lowers("lowerdir=a:/b") == ("/", "lowerdir=a:/b")


@with_containerd
def test_what_the_adapter_declines_is_asked_by_no_machine(scratch: Path) -> None:
    """A snapshot that is mounted for writing is nobody's parent, and histories of stores do without."""
    words = ["run", "containerd:overlayfs", "--requirement", "OVL-LIFE-HISTORY", "--examples", "20", "--seed", "3"]
    done = command(*words, "--no-evidence", "--scratch", str(scratch))
    assert done.returncode in (0, 1), done.stdout + done.stderr  # what containerd gets wrong is another matter
    assert "can be committed" not in done.stdout
    assert "Read-only file system" not in done.stdout


@with_containerd
def test_conventions_of_other_stores_are_declined() -> None:
    """What no specification asks of every layer store is no MUST for a snapshotter."""
    source = registry.connect("containerd:overlayfs")
    source.close()
    capabilities = load_capabilities()
    found = [one for one in load_requirements().values() if conventions(one, capabilities)]
    assert found
    for requirement in found:
        assert set(requirement.needs) & source.info.declined.keys(), requirement.id


@with_containerd
@pytest.mark.mounts
def test_a_convention_that_a_snapshotter_breaks_is_no_failure(scratch: Path) -> None:
    """Whiteouts below a deleted directory fail in containerd: containerd/containerd#4659."""
    results = scratch / "results.jsonl"
    words = ["run", "containerd:overlayfs", "--requirement", "OVL-APPLY-WHITEOUT-INSIDE", "--no-evidence"]
    done = command(*words, "--results", str(results), "--scratch", str(scratch))
    assert verdicts(results) == {"OVL-APPLY-WHITEOUT-INSIDE": "DECLINED"}, done.stdout + done.stderr
    assert "the image specification, which does not decide" in done.stdout
