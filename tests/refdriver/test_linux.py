from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdriver.linux import libc, mountinfo, projectquota
from refdriver.quota import next_project_id

MOUNTINFO = rb"""21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 21 8:1 /var/lib/home /var/lib/home rw,relatime - ext4 /dev/sda1 rw
31 30 0:50 / /var/lib/home/x/merged rw shared:1 master:2 - overlay overlay rw,lowerdir=a\040b
32 21 8:2 / /mnt/a\040b\134 rw - xfs /dev/sdb rw
33 32 8:2 /home /mnt/a\040b\134/home rw - xfs /dev/sdb rw
34 21 0:60 / /var/lib/own rw - tmpfs tmpfs rw
"""


def test_mountinfo_is_read() -> None:
    mounts = mountinfo.parse_mountinfo(MOUNTINFO)
    assert [mount.target for mount in mounts][3] == "/mnt/a b\\"
    assert mounts[2].fstype == "overlay"
    top = mountinfo.topmost_at(mounts, "/var/lib/home")
    assert top is not None
    assert top.mount_id == 30
    assert [mount.mount_id for mount in mountinfo.below(mounts, "/mnt")] == [33, 32]
    assert mountinfo.below(mounts, "/var/lib/hom") == []


def test_a_bind_of_a_directory_on_itself_is_told_from_other_mounts() -> None:
    mounts = mountinfo.parse_mountinfo(MOUNTINFO)
    assert [mount.mount_id for mount in mounts if mountinfo.is_self_bind(mounts, mount)] == [30, 33]


def test_the_types_of_directory_entries(scratch: Path) -> None:
    names = {f"file-{number}".encode() for number in range(2000)}
    for name in names:
        (scratch / os.fsdecode(name)).touch()
    (scratch / "directory").mkdir()
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    try:
        entries = dict(libc.directory_entry_types(fd))
    finally:
        os.close(fd)
    assert entries.keys() == names | {b"directory", b".", b".."}
    assert entries[b"directory"] == stat.S_IFDIR >> 12
    assert {entries[name] for name in names} == {stat.S_IFREG >> 12}


def test_renames_that_replace_nothing_or_exchange(scratch: Path) -> None:
    (scratch / "a").mkdir()
    (scratch / "b").mkdir()
    (scratch / "a" / "in-a").touch()
    with pytest.raises(FileExistsError):
        libc.renameat2(str(scratch / "a"), str(scratch / "b"), libc.RENAME_NOREPLACE)
    libc.renameat2(str(scratch / "a"), str(scratch / "b"), libc.RENAME_EXCHANGE)
    assert (scratch / "b" / "in-a").exists()


def test_the_magic_of_proc() -> None:
    assert libc.filesystem_magic("/proc") == 0x9FA0


def test_the_numbers_of_the_ioctls_are_those_of_the_headers() -> None:
    assert projectquota.ioctl_number(2, 31, "x86_64") == 0x801C581F
    assert projectquota.ioctl_number(1, 32, "x86_64") == 0x401C5820
    assert projectquota.ioctl_number(2, 31, "ppc64le") == 0x401C581F
    assert projectquota.ioctl_number(1, 32, "ppc64le") == 0x801C5820


@given(st.integers(1, 2**32 - 1), st.integers(0, 2**50))
def test_a_limit_is_read_back_in_whole_blocks(project: int, limit: int) -> None:
    data = projectquota.pack_limit(project, limit)
    assert len(data) == 112
    assert projectquota.unpack_record(data).hard_limit == limit - limit % 512
    assert data[:4] == bytes([1, 2, 12, 0])
    assert data[8:16] == data[16:24]


@given(st.integers(0, 1000), st.lists(st.integers(0, 1000)))
def test_a_new_project_id_is_after_the_homes_and_all_others(base: int, in_use: list[int]) -> None:
    new = next_project_id(base, iter(in_use))
    assert new > base
    assert new not in in_use
    assert next_project_id(base, iter([*in_use, new])) > new
