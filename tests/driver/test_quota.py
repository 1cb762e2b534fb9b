"""Project ids on a real xfs; limits only where the kernel has xfs quota (the others run in virtual machines)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from refdriver import Driver, errors
from refdriver.linux import libc, projectquota
from refdriver.linux.projectquota import ProjectId
from refdriver.quota import ProjectQuota

pytestmark = pytest.mark.mounts


@pytest.fixture
def xfs(scratch: Path) -> Iterator[Path]:
    """An xfs on a loop device, with project quota if the kernel has it."""
    image, target = scratch / "image", scratch / "xfs"
    target.mkdir()
    with image.open("wb") as file:
        file.truncate(320 * 2**20)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    # -o loop makes a device that the kernel frees with the last user of the mount, even after a kill.
    for options in ("loop,pquota", "loop"):
        done = subprocess.run(
            ["mount", "-t", "xfs", "-o", options, image, target], check=False, capture_output=True
        )
        if done.returncode == 0:
            break
    else:
        pytest.skip("this kernel cannot mount xfs")
    yield target
    libc.umount(str(target), libc.MNT_DETACH)


def project_of(path: Path) -> ProjectId:
    fd = os.open(path, os.O_RDONLY)
    try:
        return projectquota.get_project(fd)
    finally:
        os.close(fd)


def set_project(path: Path, project: ProjectId) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        projectquota.set_project(fd, project)
    finally:
        os.close(fd)


def quota_without_limits(home: Path, limits: dict[int, int]) -> ProjectQuota:
    """Real project ids; the limits are only noted, because this kernel may not have them."""

    def note(_device: str, project: int, limit: int, /) -> None:
        limits[project] = limit

    return ProjectQuota(str(home), set_limit=note)


def test_projects_are_inherited_and_distinct_over_restarts(xfs: Path) -> None:
    limits: dict[int, int] = {}
    set_project(xfs, ProjectId(100, inherit=False))
    for number in range(3):
        layer = xfs / f"layer-{number}"
        layer.mkdir()
        quota_without_limits(xfs, limits).limit(str(layer), 2**20)
        (layer / "diff").mkdir()
        assert project_of(layer) == project_of(layer / "diff") == ProjectId(101 + number, inherit=True)
    assert project_of(xfs) == ProjectId(100, inherit=False)
    assert limits == {101: 2**20, 102: 2**20, 103: 2**20, 104: 0} or limits == {101: 2**20, 102: 2**20, 103: 2**20}


def test_a_staged_directory_moves_into_the_project_that_it_adopted(xfs: Path) -> None:
    limits: dict[int, int] = {}
    quota = quota_without_limits(xfs, limits)
    layer, area = xfs / "layer", xfs / "area"
    layer.mkdir()
    area.mkdir()
    quota.limit(str(layer), 2**20)
    (area / "foreign").mkdir()
    with pytest.raises(OSError, match="cross-device"):
        os.rename(area / "foreign", layer / "diff")
    quota.adopt(str(area), str(layer))
    (area / "diff").mkdir()
    os.rename(area / "diff", layer / "diff")
    quota.release(str(layer))
    assert limits[project_of(layer).number] == 0


def test_the_device_node_is_made_anew(xfs: Path) -> None:
    (xfs / "backingFsBlockDev").write_text("stale")
    quota_without_limits(xfs, {})
    status = (xfs / "backingFsBlockDev").stat()
    assert status.st_rdev == xfs.stat().st_dev
    assert oct(status.st_mode) == "0o60600"


def has_quota(home: Path) -> bool:
    try:
        ProjectQuota(str(home))
    except errors.QuotaFailed:
        return False
    return True


def test_a_size_is_enforced(xfs: Path) -> None:
    if not has_quota(xfs):
        pytest.skip("this kernel has no xfs quota; the limit is tested in virtual machines")
    with Driver(xfs / "home", ["overlay.size=4M"]) as driver:
        driver.create_read_write("limited")
        target = Path(driver.get("limited"), "file")
        target.write_bytes(bytes(3 * 2**20))
        with pytest.raises(OSError, match=r"No space left|quota exceeded"):
            target.write_bytes(bytes(5 * 2**20))
        driver.create("image")
        Path(driver.get("image"), "file").write_bytes(bytes(5 * 2**20))
        driver.cleanup()


def test_a_size_without_quota_is_refused_and_leaves_nothing_mounted(xfs: Path) -> None:
    if has_quota(xfs):
        pytest.skip("this kernel has xfs quota")
    with pytest.raises(errors.QuotaFailed, match="pquota"):
        Driver(xfs / "home", ["overlay.size=4M"])
    assert not (xfs / "home" / "backingFsBlockDev").exists()
    assert f" {xfs}/home " not in Path("/proc/self/mountinfo").read_text()
    with Driver(xfs / "home") as driver:
        with pytest.raises(errors.QuotaFailed, match="pquota"):
            driver.create_read_write("limited", storage_options={"size": "1M"})
        driver.create_read_write("unlimited")
        driver.cleanup()


def test_a_size_without_xfs_names_the_filesystem(scratch: Path) -> None:
    with pytest.raises(errors.BadOption, match=r"overlay\.size needs xfs.* on (extfs|tmpfs|btrfs)"):
        Driver(scratch / "home", ["overlay.size=4M"])
    assert not (scratch / "home").exists()


def test_no_d_type_is_a_warning(scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    image, target = scratch / "image", scratch / "old"
    target.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    # ext4 without filetype is the same to a reader of directories as xfs with ftype=0, which mkfs no longer makes.
    subprocess.run(["mkfs.ext4", "-q", "-O", "^filetype", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, target], check=True)
    try:
        with Driver(target / "home") as driver:
            assert dict(driver.status())["Supports d_type"] == "false"
            driver.cleanup()
        assert "d_type" in caplog.text
    finally:
        libc.umount(str(target), libc.MNT_DETACH)
