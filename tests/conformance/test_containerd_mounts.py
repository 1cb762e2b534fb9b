"""Mounts that containerd describes, made here: loop devices, mount helpers, the mount manager's types, btrfs."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.drivers.containerd import mounting
from conformance.drivers.containerd.formatting import Active, CannotMount, Completed, Directory, completed
from conformance.drivers.containerd.messages import Mount
from conformance.lab import backing
from conformance.lab.removal import make_subvolumes_writable, remove_tree

needs_fuse = [
    pytest.mark.mounts,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this machine has no /dev/fuse"),
    pytest.mark.skipif(
        not shutil.which("fuse-overlayfs"), reason="needs fuse-overlayfs: apt-get install fuse-overlayfs"
    ),
]


@pytest.fixture
def point(scratch: Path) -> Path:
    """A mount point as a store has them."""
    path = scratch / "mnt" / "point"
    path.mkdir(parents=True)
    return path


def directories(below: Path, *names: str) -> list[str]:
    for name in names:
        (below / name).mkdir()
    return [str(below / name) for name in names]


def loops() -> list[str]:
    """Files that loop devices are over."""
    return [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]


def mounted_below(directory: Path) -> list[str]:
    return [point for point, _ in mounting.mount_points() if point.startswith(f"{directory}/")]


@pytest.mark.mounts
@pytest.mark.parametrize("options", [["loop"], ["ro", "loop", "direct-io", "noatime"]])
def test_a_file_is_mounted_by_a_loop_device(scratch: Path, point: Path, options: list[str]) -> None:
    image = scratch / "image"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    mounted = mounting.mount_all([Mount("ext4", str(image), "", options)], point)
    assert os.listdir(point) == ["lost+found"]
    assert bool(os.statvfs(point).f_flag & os.ST_RDONLY) is ("ro" in options)
    assert loops().count(str(image)) == 1
    mounted.unmount()
    assert str(image) not in loops()


@pytest.mark.mounts
def test_the_mount_manager_s_types_are_completed(scratch: Path, point: Path) -> None:
    """As the erofs snapshotter's: a filesystem with the upper, one lower each, and an overlay that names them."""
    lowers = directories(scratch, "one", "two")
    for number, lower in enumerate(lowers):
        Path(lower, f"file-{number}").touch()
    mounts = [
        Mount("tmpfs", "tmpfs", "", ["size=1m"]),
        *(Mount("bind", lower, "", ["rbind", "ro"]) for lower in lowers),
        Mount(
            "format/mkdir/overlay",
            "overlay",
            "",
            [
                "X-containerd.mkdir.path={{ mount 0 }}/upper:0751",
                "X-containerd.mkdir.path={{ mount 0 }}/work:0700:0:0",
                "lowerdir={{ overlay 2 1 }}",
                "upperdir={{ mount 0 }}/upper",
                "workdir={{ mount 0 }}/work",
            ],
        ),
    ]
    mounted = mounting.mount_all(mounts, point)
    assert sorted(os.listdir(point)) == ["file-0", "file-1"]
    assert stat.S_IMODE(point.stat().st_mode) == 0o751
    (point / "written").touch()
    assert os.listdir(point.with_name("point.0") / "upper") == ["written"]
    mounted.unmount()
    assert mounted_below(scratch) == []
    assert list((scratch / "mnt").iterdir()) == [point]


@pytest.mark.mounts
@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        (Mount("mkfs/ext4", "/a", "", ["X-containerd.mkfs.size=1"]), "mkfs"),
        (Mount("nonsensefs", "none", "", []), "this kernel has no filesystem 'nonsensefs'"),
        (Mount("fuse3.no-such-program", "none", "", []), "mount.fuse3|no-such-program"),
        (Mount("overlay", "overlay", "", ["uidmap=0:1000:1", "gidmap=0:1000:1"]), "id-mapped"),
        (Mount("overlay", "overlay", "", ["X-containerd.other=1"]), "X-containerd.other"),
        (Mount("mkdir/bind", "/a", "", ["X-containerd.mkdir.path=/etc/made"]), "outside of the store: /etc/made"),
        (Mount("format/bind", "{{ mount 7 }}", "", ["rbind"]), "not among the 1 before it"),
        (Mount("format/bind", "{{ printf }}", "", ["rbind"]), "a template"),
    ],
)
def test_what_cannot_be_made_here_is_no_fault_of_the_driver(point: Path, mount: Mount, reason: str) -> None:
    with pytest.raises(CannotMount, match=reason):
        mounting.mount_all([Mount("tmpfs", "tmpfs", "", []), mount], point)
    assert mounted_below(point.parent) == []
    assert list(point.parent.iterdir()) == [point]
    assert not os.path.exists("/etc/made")


@pytest.mark.mounts
@pytest.mark.parametrize(
    "mount",
    [
        Mount("bind", "/no/such/directory", "", ["rbind"]),
        Mount("ext4", "/no/such/file", "", ["loop"]),
        Mount("overlay", "overlay", "", ["lowerdir=/no/such/directory"]),
        Mount("tmpfs", "tmpfs", "../../outside", []),
    ],
)
def test_what_is_wrong_with_a_mount_is_an_error_of_it(point: Path, mount: Mount) -> None:
    with pytest.raises(OSError, match=r"No such|no file|outside of the mount point"):
        mounting.mount_all([mount], point)
    assert mounted_below(point.parent) == []


def marked_fuse(test: object) -> object:
    for mark in needs_fuse:
        test = mark(test)
    return test


@marked_fuse
def test_fuse_is_mounted_by_its_helper(scratch: Path, point: Path) -> None:
    lower, upper, work = directories(scratch, "lower", "upper", "work")
    Path(lower, "below").touch()
    options = [f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}"]
    mounted = mounting.mount_all([Mount("fuse3.fuse-overlayfs", "overlay", "", options)], point)
    assert os.listdir(point) == ["below"]
    (point / "written").touch()
    assert os.listdir(upper) == ["written"]
    mounted.unmount()
    assert mounted_below(scratch) == []


@marked_fuse
def test_a_helper_that_fails_is_quoted(point: Path) -> None:
    with pytest.raises(OSError, match=r"(?s)mount\.fuse3 exited with 1: .*fuse-overlayfs: "):
        mounting.mount_all([Mount("fuse3.fuse-overlayfs", "overlay", "", ["upperdir=/no"])], point)


def test_templates_and_directories() -> None:
    made = [Active(Mount("ext4", "/images/0", "/t", []), Path("/m/0")), Active(Mount("bind"), Path("/m/1"))]
    mount = Mount("format/mkdir/overlay", "{{ source 0 }}", "{{target 0}}", ["lowerdir={{ overlay 0 1 }}:/z"])
    assert completed(mount, made) == Completed(Mount("overlay", "/images/0", "/t", ["lowerdir=/m/0:/m/1:/z"]))
    mount = Mount("mkdir/bind", "/a", "", ["X-containerd.mkdir.path=/a:0755:1:2", "rbind"])
    assert completed(mount, []) == Completed(
        Mount("bind", "/a", "", ["rbind"]), (Directory(Path("/a"), 0o755, 1, 2),)
    )


@pytest.fixture
def btrfs(scratch: Path) -> Iterator[Path]:
    if "btrfs" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "-q", "btrfs"], check=False)
    if "btrfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no btrfs")
    (scratch / "disk").mkdir()
    target = backing.mount_backing(backing.backing_named("btrfs"), scratch / "disk")
    yield target
    mounting.unmount(target)


@pytest.mark.mounts
def test_read_only_subvolumes_are_removed(btrfs: Path) -> None:
    store = btrfs / "store"
    (store / "plain").mkdir(parents=True)
    for name in ("one", "two"):
        subprocess.run(["btrfs", "subvolume", "create", store / name], check=True, capture_output=True)
        (store / name / "file").touch()
        subprocess.run(
            ["btrfs", "subvolume", "snapshot", "-r", store / name, store / f"{name}-ro"],
            check=True,
            capture_output=True,
        )
    with pytest.raises(OSError, match="Read-only"):
        shutil.rmtree(store)
    remove_tree(store)
    assert os.listdir(btrfs) == []


@pytest.mark.mounts
def test_only_read_only_subvolumes_are_changed(btrfs: Path) -> None:
    (btrfs / "store").mkdir()
    subprocess.run(["btrfs", "subvolume", "create", btrfs / "store/one"], check=True, capture_output=True)
    assert make_subvolumes_writable(btrfs / "store") == []
    subprocess.run(["btrfs", "property", "set", btrfs / "store/one", "ro", "true"], check=True)
    assert make_subvolumes_writable(btrfs / "store") == [btrfs / "store/one"]
    (btrfs / "store/one/file").touch()


@pytest.mark.mounts
def test_a_block_device_of_the_store_is_within_it_and_one_of_the_host_is_not(btrfs: Path) -> None:
    (btrfs / "store").mkdir()
    (btrfs / "store/link").symlink_to("/")
    devices = dict(mounting.mount_points())
    assert mounting.is_within(devices[str(btrfs)], btrfs / "store")
    assert mounting.is_within(str(btrfs / "store/any"), btrfs / "store")
    assert not mounting.is_within(str(btrfs / "store/link/etc"), btrfs / "store")
    assert not mounting.is_within("/", btrfs / "store")
    if devices["/"].startswith("/dev/") and os.path.exists(devices["/"]):
        assert not mounting.is_within(devices["/"], btrfs / "store")
