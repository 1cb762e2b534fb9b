from __future__ import annotations

import errno
import io
import os
import re
import shutil
from pathlib import Path

import pytest
from helpers import build_chain, chain_content, everything_in, mounted_below, read, write

from refdriver import Driver, errors, trees
from refdriver.linux import libc
from refdriver.mounts import PAGE_SIZE, MountRequest, option_data

pytestmark = pytest.mark.mounts


def data_of(home: Path, layer_id: str) -> bytes:
    """The absolute option data of a layer of a plain home."""
    lowers = tuple(f"{home}/{lower}" for lower in (home / layer_id / "lower").read_text().split(":"))
    return option_data(MountRequest(lowers, f"{home}/{layer_id}/diff", f"{home}/{layer_id}/work", ""))


def test_a_base_layer_is_its_diff(driver: Driver, home: Path) -> None:
    driver.create("base")
    assert driver.get("base") == f"{home}/base/diff"
    driver.put("base")


def test_gets_and_puts_are_counted(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    merged = driver.get("layer-1")
    assert merged == f"{home}/layer-1/merged"
    assert driver.get("layer-1") == merged
    assert mounted_below(home) == [merged]
    driver.put("layer-1")
    assert mounted_below(home) == [merged]
    driver.put("layer-1")
    assert mounted_below(home) == []


def test_a_put_without_a_get_is_harmless(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    driver.put("layer-1")
    merged = driver.get("layer-1")
    assert mounted_below(home) == [merged]
    driver.put("layer-1")
    assert mounted_below(home) == []


def test_counts_outlive_the_process_that_made_them(home: Path) -> None:
    with Driver(home) as driver:
        build_chain(driver, 2)
        driver.get("layer-1")
        merged = driver.get("layer-1")
    with Driver(home) as driver:
        driver.put("layer-1")
        assert mounted_below(home) == [merged]
        driver.put("layer-1")
        assert mounted_below(home) == []


def test_a_mount_that_nobody_counted_counts_as_one(home: Path) -> None:
    with Driver(home) as driver:
        build_chain(driver, 2)
        merged = driver.get("layer-1")
    assert list(home.glob(".refdriver.uses-*")) == []
    with Driver(home) as driver:
        driver.get("layer-1")
        driver.put("layer-1")
        assert mounted_below(home) == [merged]
        driver.put("layer-1")
        assert mounted_below(home) == []


def test_an_unmount_from_outside_is_noticed(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    libc.umount(driver.get("layer-1"))
    driver.get("layer-1")
    assert len(mounted_below(home)) == 1
    driver.put("layer-1")
    assert mounted_below(home) == []


@pytest.mark.parametrize("call", ["put", "remove"])
def test_a_failed_unmount_is_refused_and_counted(
    driver: Driver, home: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    build_chain(driver, 2)
    merged = driver.get("layer-1")

    def refuse(target: str, _flags: int = 0) -> None:
        raise OSError(16, "busy", target)

    # The kernel does not refuse a lazy unmount, so this one failure is made up.
    monkeypatch.setattr(libc, "umount", refuse)
    with pytest.raises(errors.MountFailed, match=re.escape(merged)):
        getattr(driver, call)("layer-1")
    monkeypatch.undo()
    assert mounted_below(home) == [merged]
    driver.get("layer-1")
    driver.put("layer-1")
    assert mounted_below(home) == [merged]
    driver.put("layer-1")
    assert mounted_below(home) == []
    assert read(driver, "layer-1") == chain_content(2)


def test_a_failed_mount_counts_nothing(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    (home / "layer-1" / "diff").rename(home / "aside")
    (home / "layer-1" / "diff").touch()
    with pytest.raises(errors.MountFailed, match="layer-1"):
        driver.get("layer-1")
    (home / "layer-1" / "diff").unlink()
    (home / "aside").rename(home / "layer-1" / "diff")
    driver.get("layer-1")
    driver.put("layer-1")
    assert mounted_below(home) == []


def test_a_get_that_cannot_be_counted_mounts_nothing(
    driver: Driver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_chain(driver, 2)

    def refuse(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    # A file that is not there is removed without a disk; the suite makes the system call fail.
    monkeypatch.setattr(trees, "remove_file", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        driver.get("layer-1")
    monkeypatch.undo()
    assert mounted_below(home) == []


def test_a_missing_mount_point_and_work_directory_are_made_again(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    (home / "layer-1" / "merged").rmdir()
    shutil.rmtree(home / "layer-1" / "work")
    assert read(driver, "layer-1") == chain_content(2)


@pytest.mark.parametrize(
    "name", ["a:b", "a,b", "a\\b", "a b", ":", "\\,:", "tail\\", "\udcff", 'quo"te', "new\nline"]
)
@pytest.mark.parametrize("length", [2, 129])
def test_any_byte_may_be_in_the_path_of_the_home(scratch: Path, name: str, length: int) -> None:
    home = scratch / name
    with Driver(home) as driver:
        build_chain(driver, length)
        assert read(driver, f"layer-{length - 1}") == chain_content(length)
        driver.cleanup()


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_the_page_boundary(scratch: Path, spare: int) -> None:
    # An odd number of lowers, so that homes of odd and even length together reach every length of data.
    lowers = 31
    wanted = PAGE_SIZE - 1 - spare
    fixed = len("lowerdir=,upperdir=,workdir=") + 2 * len("//diff") + lowers * len("/l/" + "x" * 26) + lowers - 1
    copies, padding = divmod(wanted - fixed - 2 * len("top"), lowers + 2)
    if padding % 2:
        copies, padding = copies - 1, padding + lowers + 2
    home = scratch / "h"
    home = Path(str(home) + "h" * (copies - len(str(home))))
    with Driver(home) as driver:
        ids = build_chain(driver, lowers)
        top = "top".ljust(3 + padding // 2, "t")
        driver.create(top, ids[-1])
        assert len(data_of(home, top)) == wanted
        merged = driver.get(top)
        assert (Path(merged) / "top").read_text() == f"{lowers - 1}"
        driver.put(top)
        driver.cleanup()


def test_a_long_home_falls_back_to_relative_paths(scratch: Path) -> None:
    home = scratch / ("h" * 200)
    with Driver(home) as driver:
        ids = build_chain(driver, 129)
        assert len(data_of(home, ids[-1])) > PAGE_SIZE
        before = os.getcwd()
        assert read(driver, ids[-1]) == chain_content(129)
        assert os.getcwd() == before
        driver.cleanup()


def test_a_label_that_cannot_fit_is_refused_by_its_size(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    with pytest.raises(errors.MountFailed, match=r"mount label too large \d+"):
        driver.get("layer-1", "x" * 5000)
    assert mounted_below(home) == []


def test_a_label_needs_selinux(driver: Driver) -> None:
    if "selinuxfs" in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has SELinux and takes labels")
    build_chain(driver, 2)
    with pytest.raises(errors.MountFailed, match="no SELinux"):
        driver.get("layer-1", "system_u:object_r:container_file_t:s0:c1,c2")
    assert driver.get("layer-0", "ignored on a base layer")


def test_a_label_cannot_smuggle_options(driver: Driver) -> None:
    build_chain(driver, 2)
    with pytest.raises(errors.BadOption, match="label"):
        driver.get("layer-1", 'a",lowerdir="/')


def test_the_home_is_private_until_cleanup(home: Path) -> None:
    with Driver(home) as driver:
        assert f"{home} " in Path("/proc/self/mountinfo").read_text()
        line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {home} " in line)
        assert "shared:" not in line
        build_chain(driver, 2)
        driver.get("layer-1")
        with pytest.raises(errors.LayerInUse, match="layer-1/merged"):
            driver.cleanup()
        driver.put("layer-1")
        driver.cleanup()
        assert f" {home} " not in Path("/proc/self/mountinfo").read_text()
        driver.cleanup()


def test_cleanup_leaves_a_filesystem_that_was_there_before(home: Path) -> None:
    home.mkdir()
    libc.mount("tmpfs", str(home), "tmpfs", 0, b"")
    with Driver(home) as driver:
        driver.cleanup()
    assert f" {home} " in Path("/proc/self/mountinfo").read_text()
    libc.umount(str(home))


def make_store(directory: Path, length: int) -> list[str]:
    """An image store: another driver's home, called by the driver's name."""
    with Driver(directory / "overlay") as driver:
        ids = build_chain(driver, length)
        driver.cleanup()
    return ids


@pytest.mark.parametrize("length", [2, 127])
@pytest.mark.parametrize("store_name", ["s", "s" * 150])
def test_layers_of_image_stores_are_lowers_too(scratch: Path, home: Path, store_name: str, length: int) -> None:
    store = scratch / store_name
    ids = make_store(store, length)
    before = everything_in(store)
    with Driver(home, [f"overlay.imagestore={store}"]) as driver:
        assert driver.additional_image_stores() == (str(store),)
        driver.create("own", ids[-1])
        write(driver, "own", own="1")
        driver.create("above", "own")
        assert read(driver, "above") == chain_content(length) | {"own": "1"}
        assert driver.metadata("own")["LowerDir"].startswith(f"{store}/overlay/{ids[-1]}/diff:")
        assert read(driver, ids[-1]) == chain_content(length)
        with driver.diff("own", ids[-1]) as archive:
            assert b"own" in archive.read()
        for call in (lambda: driver.remove(ids[-1]), lambda: driver.apply_diff(ids[0], "", io.BytesIO())):
            with pytest.raises(errors.ReadOnlyLayer, match=str(store)):
                call()
        driver.cleanup()
    assert everything_in(store) == before
    assert mounted_below(scratch) == []


def test_the_home_comes_before_its_stores(scratch: Path, home: Path) -> None:
    make_store(scratch / "store", 2)
    with Driver(home, [f"overlay.imagestore={scratch}/store"]) as driver:
        with pytest.raises(errors.LayerExists):
            driver.create("layer-0")
        assert driver.exists("layer-0")
        assert not driver.exists("layer-7")
