"""Project ids on a real xfs; limits only where the kernel has xfs quota (the others run in virtual machines)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from refdriver import Driver, errors
from refdriver.linux import libc, projectquota
from refdriver.linux.projectquota import ProjectId, Record
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


class Noted:
    """Real project ids of one filesystem; the limits are only noted, because this kernel may not have them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.limits: dict[int, int] = {}

    def set_limit(self, _device: str, project: int, limit: int, /) -> None:
        self.limits[project] = limit

    def get_record(self, _device: str, project: int, /) -> Record:
        directories = [path for path in (self.root, *self.root.rglob("*")) if path.is_dir()]
        inodes = sum(project_of(path).number == project for path in directories)
        return Record(self.limits.get(project, 0), 0, inodes)


def quota_of(home: Path, noted: Noted) -> ProjectQuota:
    area = home / "area-of-opening"
    area.mkdir(exist_ok=True)
    return ProjectQuota(str(home), str(area), noted)


def limited(quota: ProjectQuota, layer: Path) -> int:
    layer.mkdir()
    quota.limit(str(layer), 2**20)
    return project_of(layer).number


def test_projects_are_inherited_and_distinct_over_restarts(xfs: Path) -> None:
    noted = Noted(xfs)
    set_project(xfs, ProjectId(100, inherit=False))
    for number in range(3):
        layer = xfs / f"layer-{number}"
        assert limited(quota_of(xfs, noted), layer) == 101 + number
        (layer / "diff").mkdir()
        assert project_of(layer) == project_of(layer / "diff") == ProjectId(101 + number, inherit=True)
    assert project_of(xfs) == ProjectId(100, inherit=False)
    assert {number: limit for number, limit in noted.limits.items() if limit} == dict.fromkeys(
        range(101, 104), 2**20
    )


def test_two_homes_take_no_id_twice_and_leave_limits_alone(xfs: Path) -> None:
    noted = Noted(xfs)
    homes = [xfs / "one", xfs / "other"]
    found = []
    for number in range(6):
        home = homes[number % 2]
        home.mkdir(exist_ok=True)
        found.append(limited(quota_of(home, noted), home / f"layer-{number}"))
        assert all(noted.limits[project] == 2**20 for project in found)
    assert len(set(found)) == len(found)


def test_an_id_that_somebody_takes_at_the_same_moment_is_left_to_them(xfs: Path) -> None:
    class Racing(Noted):
        """Somebody else puts a directory into the first project that is looked up, just after that."""

        raced = 0

        def get_record(self, device: str, project: int, /) -> Record:
            record = super().get_record(device, project)
            if not self.raced:
                self.raced = project
                set_project(theirs, ProjectId(project, inherit=True))
            return record

    theirs, home = xfs / "theirs", xfs / "home"
    theirs.mkdir()
    home.mkdir()
    racing = Racing(xfs)
    quota = quota_of(home, racing)
    assert racing.raced
    assert limited(quota, home / "layer") != racing.raced
    assert racing.limits.get(racing.raced, 0) == 0


def test_opening_gives_the_id_back_that_it_tried(xfs: Path) -> None:
    noted = Noted(xfs)
    quota_of(xfs, noted)
    assert all(noted.get_record("", number) == Record() for number in noted.limits)
    assert limited(quota_of(xfs, noted), xfs / "layer") == 1


def test_a_crowd_of_ids_is_passed_over(xfs: Path) -> None:
    noted = Noted(xfs)
    noted.limits = dict.fromkeys(range(1, 10_000), 2**20)
    assert limited(quota_of(xfs, noted), xfs / "layer") >= 10_000


def test_without_a_free_id_a_layer_is_refused(xfs: Path) -> None:
    class Full(Noted):
        def get_record(self, _device: str, _project: int, /) -> Record:
            return Record(2**20, 0, 1)

    with pytest.raises(errors.QuotaFailed, match="others took"):
        quota_of(xfs, Full(xfs))


@pytest.mark.parametrize("inherit", [False, True])
def test_layers_move_into_a_home_of_a_project_and_out_of_it(xfs: Path, inherit: bool) -> None:
    noted = Noted(xfs)
    home, staging = xfs / "home", xfs / "staging"
    home.mkdir()
    staging.mkdir()
    quota = quota_of(home, noted)
    (home / "old").mkdir()
    set_project(home, ProjectId(100, inherit=inherit))
    for size, name in ((2**20, "limited"), (0, "free")):
        staged = staging / name
        staged.mkdir()
        quota.limit(str(staged), size)
        (staged / "diff").mkdir()
        made = project_of(staged)
        assert (made.number == 101) == bool(size)
        quota.move_in(str(staged), str(home / name))
        assert project_of(home / name) == made == project_of(home / name / "diff")
    for name in ("limited", "free", "old"):
        area = staging / f"area-{name}"
        area.mkdir()
        set_project(area, ProjectId(100, inherit=inherit))
        quota.let_in(str(area))
        os.rename(home / name, area / name)


def test_a_staged_directory_moves_into_the_project_that_it_adopted(xfs: Path) -> None:
    noted = Noted(xfs)
    quota = quota_of(xfs, noted)
    layer, area = xfs / "layer", xfs / "area"
    area.mkdir()
    limited(quota, layer)
    (area / "foreign").mkdir()
    with pytest.raises(OSError, match="cross-device"):
        os.rename(area / "foreign", layer / "diff")
    quota.adopt(str(area), str(layer))
    (area / "diff").mkdir()
    os.rename(area / "diff", layer / "diff")
    quota.release(str(layer))
    assert noted.limits[project_of(layer).number] == 0


@pytest.mark.parametrize("stale", ["file", "node"])
def test_the_device_node_is_made_anew(xfs: Path, stale: str) -> None:
    node = xfs / "backingFsBlockDev"
    if stale == "file":
        node.write_text("stale")
    else:
        os.mknod(node, 0o60600, os.makedev(500, 5))
    quota_of(xfs, Noted(xfs))
    status = node.stat()
    assert status.st_rdev == xfs.stat().st_dev
    assert oct(status.st_mode) == "0o60600"


def has_quota(home: Path) -> bool:
    area = home / "area-of-opening"
    area.mkdir()
    try:
        ProjectQuota(str(home), str(area))
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
        driver.create_read_write("full", "image")
        with pytest.raises(OSError, match=r"No space left|quota exceeded"):
            Path(driver.get("full"), "own").write_bytes(bytes(5 * 2**20))
        driver.put("full")
        # There is no room for overlay's work directory now, so this mount is read-only.
        assert Path(driver.get("full"), "file").stat().st_size == 5 * 2**20
        driver.put("full")
        driver.remove("full")
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
