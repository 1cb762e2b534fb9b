"""The layout on disk is that of containers-storage: each opens what the other made.

The tests run with the installed containers-storage, and with each of other versions whose paths are in the variable
CONTAINERS_STORAGE_BINARIES, separated by colons.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from helpers import build_chain, chain_content, mounted_below, read

from refdriver import Driver, errors

BINARIES = [
    shutil.which("containers-storage") or "containers-storage",
    *filter(None, os.environ.get("CONTAINERS_STORAGE_BINARIES", "").split(":")),
]
pytestmark = [
    pytest.mark.mounts,
    pytest.mark.skipif(
        shutil.which("containers-storage") is None, reason="needs the containers-storage command (Debian package)"
    ),
]


class ContainersStorage:
    """A store of containers-storage; the home of its driver is ``<root>/overlay``."""

    def __init__(self, directory: Path, binary: str) -> None:
        self.root = directory / "graph"
        self._command = [binary, "--graph", str(self.root), "--run", str(directory / "run")]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command, whatever its exit status."""
        return subprocess.run(
            [*self._command, "--storage-driver", "overlay", *words], capture_output=True, text=True, check=False
        )

    def __call__(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def tree(self, layer_id: str) -> dict[str, tuple[object, ...]]:
        """What it shows of a layer."""
        try:
            return tree(self("mount", layer_id).splitlines()[-1])
        finally:
            self("unmount", layer_id)

    def check_if_it_can(self) -> None:
        """Its own check of the whole store, which version 1.43 does not have."""
        done = self.run("check")
        assert done.returncode == 0 or "unrecognized command" in done.stdout + done.stderr, done.stdout

    @property
    def home(self) -> Path:
        return self.root / "overlay"


@pytest.fixture(params=BINARIES, ids=str)
def store(scratch: Path, request: pytest.FixtureRequest) -> ContainersStorage:
    return ContainersStorage(scratch, request.param)


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


def make_again(store: ContainersStorage) -> dict[str, dict[str, tuple[object, ...]]]:
    """Let the reference driver make the layers "base" and "child" of a store, filled; the tree of each.

    containers-storage lists its layers outside of the driver's home, so it makes them first.
    """
    store("create-layer", "-i", "base")
    store("create-layer", "-i", "child", "base")
    store("shutdown")
    with Driver(store.home) as driver:
        driver.remove("child")
        driver.remove("base")
        driver.create("base")
        populate(Path(driver.get("base")))
        driver.create("child", "base")
        change(Path(driver.get("child")))
        trees = {layer_id: tree(driver.get(layer_id)) for layer_id in ("base", "child")}
        driver.put("child")
        driver.put("child")
        driver.cleanup()
    return trees


def test_containers_storage_opens_layers_that_the_reference_driver_made(store: ContainersStorage) -> None:
    made = make_again(store)
    assert {layer_id: store.tree(layer_id) for layer_id in made} == made
    store.check_if_it_can()
    directories = {path.name for path in store.home.iterdir() if path.is_dir()}
    assert directories == {"l", "base", "child"}

    store("create-layer", "-i", "grandchild", "child")
    assert store.tree("grandchild") == made["child"]
    with Driver(store.home) as driver:
        assert tree(driver.get("grandchild")) == made["child"]
        driver.put("grandchild")
        with pytest.raises(errors.LayerInUse, match="grandchild"):
            driver.remove("child")
        driver.create("above", "grandchild")
        assert tree(driver.get("above")) == made["child"]
        driver.put("above")
        driver.remove("above")
        driver.cleanup()
    store.check_if_it_can()
    for layer_id in ("grandchild", "child", "base"):
        store("delete-layer", layer_id)
    store("shutdown")


@pytest.mark.parametrize("layer_id", ["base", "child"])
def test_each_repairs_a_missing_short_link(store: ContainersStorage, layer_id: str) -> None:
    made = make_again(store)
    store("create-layer", "-i", "grandchild", "child")
    short = store.home / "l" / (store.home / layer_id / "link").read_text()
    short.unlink()
    assert store.tree("grandchild") == made["child"]
    # Version 1.64 writes the ids of the lowers, needs no short link then, and makes none again.
    assert short.is_symlink() or (store.home / "grandchild" / "lower-layers").exists()

    short.unlink(missing_ok=True)
    with Driver(store.home) as driver:
        assert tree(driver.get("grandchild")) == made["child"]
        driver.put("grandchild")
        assert os.readlink(short) == f"../{layer_id}/diff"
        driver.cleanup()
    assert {layer_id: store.tree(layer_id) for layer_id in made} == made
    store.check_if_it_can()
    store("shutdown")


def test_what_a_killed_call_leaves_is_no_layer_for_containers_storage(store: ContainersStorage) -> None:
    """A create that is killed between its area and its short link, and a remove before its area is cleared."""
    made = make_again(store)
    area = store.home / "staging" / "refdriver-0123456789abcdef" / "layers" / "left"
    (area / "diff").mkdir(parents=True)
    (area / "link").write_text("L" * 26)
    store.check_if_it_can()
    store("shutdown")
    (store.home / "l" / (store.home / "base" / "link").read_text()).unlink()  # so that it looks at everything
    with Driver(store.home) as driver:
        assert not (store.home / "staging").exists()
        assert tree(driver.get("child")) == made["child"]
        driver.put("child")
        driver.cleanup()
    assert store.tree("child") == made["child"]
    store("shutdown")


def chain_file(driver: Driver, home: Path) -> Path:
    """The file ``lower-layers`` of layer-2 of a chain, as containers-storage 1.64 writes it."""
    build_chain(driver, 3)
    (home / "layer-2" / "lower-layers").write_text("layer-1:layer-0")
    return home / "layer-2" / "lower-layers"


def test_ids_of_lowers_are_read(driver: Driver, home: Path) -> None:
    chain_file(driver, home)
    assert read(driver, "layer-2") == chain_content(3)
    (home / "layer-2" / "lower").unlink()
    assert read(driver, "layer-2") == chain_content(3)
    assert driver.metadata("layer-2")["LowerDir"] == f"{home}/layer-1/diff:{home}/layer-0/diff"
    with pytest.raises(errors.LayerInUse, match="layer-1, layer-2"):
        driver.remove("layer-0")


UNUSABLE = ["", "../layer-1:layer-0", "layer-1:gone", "l:l", "layer-1\n"]


@pytest.mark.parametrize(
    ("content", "without_lower"),
    # Without 'lower' nothing on disk says that a chain which could be is another one.
    [(content, False) for content in (*UNUSABLE, "layer-1", "layer-0:layer-1")]
    + [(text, True) for text in UNUSABLE],
)
def test_ids_of_other_lowers_are_refused_by_name(
    driver: Driver, home: Path, content: str, without_lower: bool
) -> None:
    chain_file(driver, home).write_text(content)
    if without_lower:
        (home / "layer-2" / "lower").unlink()
    with pytest.raises(errors.BrokenLayer, match=r"'layer-2'.*lower-layers"):
        driver.get("layer-2")
    assert mounted_below(home) == []


def test_a_short_link_that_two_layers_claim_is_not_made_again(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    short = (home / "layer-0" / "link").read_text()
    driver.create("liar")
    (home / "liar" / "link").write_text(short)
    (home / "l" / short).unlink()
    with pytest.raises(errors.BrokenLayer, match=short):
        driver.get("layer-1")
    assert not (home / "l" / short).is_symlink()


def test_a_home_of_an_earlier_version_is_taken_over(home: Path, scratch: Path) -> None:
    """With a layer mounted twice, one of an image store mounted once, and the rest of a killed create."""
    with Driver(scratch / "images" / "overlay") as images:
        build_chain(images, 2)
        images.cleanup()
    option = [f"overlay.imagestore={scratch}/images"]
    with Driver(home, option) as driver:
        driver.create("own", "layer-1")
        own, image = driver.get("own"), driver.get("layer-1")
    earlier = home / ".refdriver"
    for name in ("counts", "merged/layer-1", f"staging/{'a' * 16}/layers/left/diff"):
        (earlier / name).mkdir(parents=True)
    (earlier / "counts" / "own").write_text("2")
    (earlier / "counts" / "gone").write_text("3")
    (earlier / "lock").touch()
    left = "L" * 26
    (earlier / "staging" / ("a" * 16) / "layers" / "left" / "link").write_text(left)
    (home / "l" / left).symlink_to("../left/diff")
    subprocess.run(["mount", "--move", image, earlier / "merged" / "layer-1"], check=True)
    os.rmdir(image)
    (home / "staging" / "refdriver.mounts").rmdir()

    with Driver(home, option) as driver:
        assert not (home / "l" / left).is_symlink()
        driver.put("own")
        assert mounted_below(home) == [str(earlier / "merged" / "layer-1"), own]
        driver.put("own")
        assert driver.get("layer-1") == str(earlier / "merged" / "layer-1")
        driver.put("layer-1")
        driver.put("layer-1")
        assert mounted_below(home) == []
        driver.cleanup()
    with Driver(home) as driver:
        assert not earlier.exists()
        assert {path.name for path in home.iterdir()} == {"l", "own", ".refdriver.lock"}
        driver.cleanup()
