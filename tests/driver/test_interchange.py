"""The layout on disk is that of containers-storage: each opens what the other made."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from refdriver import Driver

pytestmark = [
    pytest.mark.mounts,
    pytest.mark.skipif(
        shutil.which("containers-storage") is None, reason="needs the containers-storage command (Debian package)"
    ),
]


class ContainersStorage:
    """A store of containers-storage; the home of its driver is ``<root>/overlay``."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "graph"
        self._run = directory / "run"

    def __call__(self, *words: str) -> str:
        command = ["containers-storage", "--graph", str(self.root), "--run", str(self._run)]
        done = subprocess.run(
            [*command, "--storage-driver", "overlay", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    @property
    def home(self) -> Path:
        return self.root / "overlay"


@pytest.fixture
def store(scratch: Path) -> ContainersStorage:
    return ContainersStorage(scratch)


def plain(name: str) -> str:
    """The name of an entry without what writers put around it."""
    return name.removeprefix("./").rstrip("/")


def tree(root: str | Path) -> dict[str, tuple[object, ...]]:
    """What a layer shows: kind and mode, owner, content or target or device, xattrs; times in seconds for files."""
    seen: dict[str, tuple[object, ...]] = {}
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            path = Path(directory, name)
            status = path.lstat()
            content: object = status.st_rdev
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            capability = [
                attribute for attribute in os.listxattr(path, follow_symlinks=False) if "capability" in attribute
            ]
            seen[str(path.relative_to(root))] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                content,
                capability,
                0 if path.is_dir() else int(status.st_mtime),
            )
    return seen


def populate(root: Path) -> None:
    (root / "directory").mkdir(mode=0o2750)
    (root / "directory" / "below").write_text("below")
    (root / "kept").write_text("kept")
    (root / "gone").write_text("gone")
    (root / "link").symlink_to("/etc/passwd")
    os.link(root / "kept", root / "hard")
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", 0o020600, os.makedev(1, 3))
    (root / "program").write_text("#!/bin/sh\n")
    os.setxattr(root / "program", "security.capability", bytes.fromhex("0000000200000000") + bytes(12))
    os.chown(root / "program", 1000, 1001)
    (root / "program").chmod(0o4755)


def change(root: Path) -> None:
    (root / "gone").unlink()
    shutil.rmtree(root / "directory")
    (root / "directory").mkdir()
    (root / "directory" / "new").write_text("new")
    (root / "kept").chmod(0o600)
    (root / "link").unlink()
    (root / "link").mkdir()


def test_the_reference_driver_opens_layers_of_containers_storage(store: ContainersStorage, scratch: Path) -> None:
    store("create-layer", "-i", "base")
    populate(Path(store("mount", "base").splitlines()[-1]))
    store("unmount", "base")
    store("create-layer", "-i", "child", "base")
    mounted = Path(store("mount", "child").splitlines()[-1])
    change(mounted)
    expected = tree(mounted)
    store("unmount", "child")
    store("diff", "-u", "-f", str(scratch / "theirs.tar"), "child", "base")

    with Driver(store.home) as driver:
        assert driver.exists("child")
        assert tree(driver.get("child")) == expected
        driver.put("child")
        with driver.diff("child", "base") as archive:
            ours = archive.read()
        assert {change.path for change in driver.changes("child", "base")} >= {b"/gone", b"/directory", b"/link"}
        driver.create("ours", "child")
        assert tree(driver.get("ours")) == expected
        driver.put("ours")
        driver.remove("ours")
        driver.cleanup()
    with tarfile.open(fileobj=io.BytesIO(ours)) as mine, tarfile.open(scratch / "theirs.tar") as theirs:
        assert set(map(plain, mine.getnames())) == set(map(plain, theirs.getnames()))

    assert store("layers").count("child") == 1
    assert tree(store("mount", "child").splitlines()[-1]) == expected
    store("unmount", "child")
    store("delete-layer", "child")
    store("shutdown")


@pytest.mark.parametrize("parent_for_apply", ["base", ""], ids=["native", "merged"])
def test_containers_storage_opens_layers_that_the_reference_driver_filled(
    store: ContainersStorage, scratch: Path, parent_for_apply: str
) -> None:
    with Driver(scratch / "home") as source:
        source.create("base")
        populate(Path(source.get("base")))
        source.create("child", "base")
        change(Path(source.get("child")))
        expected = tree(source.get("child"))
        source.put("child")
        source.put("child")
        with source.diff("base") as archive:
            base = archive.read()
        with source.diff("child", "base") as archive:
            child = archive.read()
        source.cleanup()

    store("create-layer", "-i", "base")
    store("create-layer", "-i", "child", "base")
    with Driver(store.home) as driver:
        driver.apply_diff("base", "", io.BytesIO(base))
        driver.apply_diff("child", parent_for_apply, io.BytesIO(child))
        driver.cleanup()

    assert tree(store("mount", "child").splitlines()[-1]) == expected
    store("unmount", "child")
    store("diff", "-u", "-f", str(scratch / "theirs.tar"), "child", "base")
    with tarfile.open(scratch / "theirs.tar") as theirs, tarfile.open(fileobj=io.BytesIO(child)) as mine:
        # Through a merged tree a cleared directory gets a whiteout for each entry instead of one opaque mark.
        equivalent = {"directory/.wh.below": "directory/.wh..wh..opq"} if not parent_for_apply else {}
        assert {equivalent.get(name, name) for name in map(plain, theirs.getnames())} == set(
            map(plain, mine.getnames())
        )
    store("shutdown")
