"""Diff, apply, changes and sizes of layers that were made through real mounts."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from helpers import build_chain, chain_content, everything_in, mounted_below, read, write
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refdriver import Driver, IdMap, errors, probes
from refdriver.changes import Change, ChangeKind
from refdriver.overlayxattr import OverlayXattrs

pytestmark = pytest.mark.mounts


def names_in(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def diff_of(driver: Driver, layer_id: str, parent: str = "") -> bytes:
    with driver.diff(layer_id, parent) as archive:
        return archive.read()


def tree(root: str) -> dict[str, tuple[object, ...]]:
    """All that a diff carries of a tree; hard links by the names that share an inode."""
    seen: dict[str, tuple[object, ...]] = {}
    inodes: dict[tuple[int, int], str] = {}
    for directory, directories, files in os.walk(root):
        directories.sort()
        for name in sorted((*directories, *files)):
            path = Path(directory, name)
            status = path.lstat()
            content: object = status.st_rdev
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = path.read_bytes()
            relative = str(path.relative_to(root))
            first = inodes.setdefault((status.st_dev, status.st_ino), relative)
            xattrs = {key: os.getxattr(path, key) for key in os.listxattr(path, follow_symlinks=False)}
            seen[relative] = (
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                content,
                status.st_mtime_ns,
                first,
                xattrs,
            )
    return seen


def tree_of(driver: Driver, layer_id: str) -> dict[str, tuple[object, ...]]:
    root = driver.get(layer_id)
    try:
        return tree(root)
    finally:
        driver.put(layer_id)


POOL = ["a", "b", "d", "d/a", "d/b", "d/d", "d/d/a", "e", "e/a", "d-", "l"]
ACTIONS = [
    "file",
    "edit",
    "mkdir",
    "remove",
    "symlink",
    "link",
    "chmod",
    "chown",
    "mknod",
    "rename",
    "xattr",
    "recreate",
]
actions = st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(POOL), st.sampled_from(POOL)), max_size=8)


def act(root: Path, action: str, name: str, other: str) -> None:
    """One change of a layer; what the kernel refuses changes nothing."""
    path, second = root / name, root / other
    try:
        match action:
            case "file":
                path.write_text(f"{name} {other}")
            case "edit" if path.is_file() and not path.is_symlink():
                path.write_text(path.read_text() + other)
            case "mkdir":
                path.mkdir(mode=0o750)
            case "remove":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            case "recreate" if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                path.mkdir()
            case "symlink":
                path.symlink_to(other)
            case "link":
                os.link(path, second, follow_symlinks=False)
            case "chmod" if not path.is_symlink():
                path.chmod(0o4711)
            case "chown":
                os.chown(path, 7, 8, follow_symlinks=False)
            case "mknod":
                os.mknod(path, 0o020640, os.makedev(5, 300))
            case "rename":
                path.rename(second)
            case "xattr" if not path.is_symlink():
                os.setxattr(path, "user.colour", other.encode())
    except OSError:
        return


class FreshHomes:
    """A new home for each example that hypothesis makes."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._made = 0

    def open(self) -> Driver:
        self._made += 1
        return Driver(self._scratch / f"home-{self._made}")


@pytest.fixture
def homes(scratch: Path) -> FreshHomes:
    return FreshHomes(scratch)


# The fixture only counts homes; each example opens its own.
real_mounts = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@real_mounts
@given(st.lists(actions, min_size=1, max_size=3))
# A lower file gets a second name; so does one that had two; a name comes to another file, or where a symlink was.
@example([[("file", "a", "")], [("link", "a", "b")]])
@example([[("file", "a", ""), ("link", "a", "b")], [("link", "b", "l")]])
@example([[("file", "a", ""), ("file", "b", "")], [("remove", "b", ""), ("link", "a", "b")]])
@example(
    [
        [("mkdir", "d", ""), ("file", "d/a", ""), ("symlink", "e", "d")],
        [("remove", "e", ""), ("mkdir", "e", ""), ("link", "d/a", "e/a")],
    ]
)
def test_the_laws_of_diffs(homes: FreshHomes, layers: list[list[tuple[str, str, str]]]) -> None:
    with homes.open() as driver, homes.open() as other:
        parent = ""
        for number, layer in enumerate(layers):
            layer_id = f"layer-{number}"
            driver.create(layer_id, parent)
            root = Path(driver.get(layer_id))
            for action in layer:
                act(root, *action)
            driver.put(layer_id)

            # Apply(Diff(x, p), p) = x, in another home.
            data = diff_of(driver, layer_id, parent)
            other.create(layer_id, parent)
            size = other.apply_diff(layer_id, parent, io.BytesIO(data))
            truth = tree_of(driver, layer_id)
            assert tree_of(other, layer_id) == truth
            assert size == driver.diff_size(layer_id, parent)
            # The same tree gives the same bytes; applying twice is applying once.
            assert diff_of(driver, layer_id, parent) == data
            assert other.apply_diff(layer_id, parent, io.BytesIO(data)) == size
            assert tree_of(other, layer_id) == truth
            # Diff(x, x) is empty; Diff(x, "") rebuilds x.
            assert names_in(diff_of(driver, layer_id, layer_id)) == []
            other.create(f"flat-{number}")
            other.apply_diff(f"flat-{number}", "", io.BytesIO(diff_of(driver, layer_id)))
            assert tree_of(other, f"flat-{number}") == truth
            # A naive diff (here against the grandparent's child: not the direct parent) leads to the same tree.
            if parent:
                driver.create(f"twin-{number}", parent)
                naive = diff_of(driver, layer_id, f"twin-{number}")
                other.create(f"naive-{number}", parent)
                other.apply_diff(f"naive-{number}", f"flat-{number}", io.BytesIO(naive))
                # Two trees are compared without the times of directories, so a naive diff may not carry them.
                assert without_directory_times(tree_of(other, f"naive-{number}")) == without_directory_times(truth)
                explain_by_changes(driver, layer_id, parent)
                assert driver.changes(layer_id, layer_id) == []
            parent = layer_id
        driver.cleanup()
        other.cleanup()


def without_directory_times(shown: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    return {
        name: (*fields[:4], None, *fields[5:]) if str(fields[0]).startswith("0o4") else fields
        for name, fields in shown.items()
    }


def explain_by_changes(driver: Driver, layer_id: str, parent: str) -> None:
    """Changes name exactly what differs: nothing added, deleted or of another kind in between."""
    before, after = tree_of(driver, parent), tree_of(driver, layer_id)
    changes = {os.fsdecode(change.path[1:]): change.kind for change in driver.changes(layer_id, parent)}
    assert len(changes) == len(driver.changes(layer_id, parent))
    deleted = {name for name, kind in changes.items() if kind is ChangeKind.DELETE}
    added = {name for name, kind in changes.items() if kind is ChangeKind.ADD}
    assert added == after.keys() - before.keys()
    assert deleted <= before.keys() - after.keys()
    for name in before.keys() - after.keys():
        above = {str(path) for path in Path(name).parents}
        replaced = any(
            above_name in after and not str(after[above_name][0]).startswith("0o4") for above_name in above
        )
        assert name in deleted or above & deleted or replaced, name
    for name in before.keys() & after.keys():
        # Without the times of directories, which change with what is in them, and without link groups.
        pick = (0, 1, 2, 3, 6)
        if [before[name][one] for one in pick] != [after[name][one] for one in pick]:
            assert name in changes, name
        if name in changes:
            assert changes[name] is ChangeKind.MODIFY, name


def test_a_diff_against_another_than_the_parent_is_naive(driver: Driver) -> None:
    build_chain(driver, 3)
    assert set(names_in(diff_of(driver, "layer-2", "layer-0"))) == {"file-1", "file-2", "top"}
    assert set(names_in(diff_of(driver, "layer-2", "layer-1"))) == {"file-2", "top"}
    assert set(names_in(diff_of(driver, "layer-0", "layer-2"))) == {".wh.file-1", ".wh.file-2", "top"}
    assert set(names_in(diff_of(driver, "layer-2"))) == {"file-0", "file-1", "file-2", "top"}


def test_a_diff_that_is_closed_early_leaves_nothing_mounted_or_open(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    before = len(os.listdir("/proc/self/fd"))
    for parent in ("", "layer-0", "layer-1"):
        stream = driver.diff("layer-1", parent)
        stream.read(100)
        stream.close()
        stream.close()
        driver.diff("layer-1", parent).close()
    assert mounted_below(home) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_unknown_layers_are_named(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    for call in (
        lambda: driver.diff("layer-1", "missing"),
        lambda: driver.diff("missing"),
        lambda: driver.changes("layer-1", "missing"),
        lambda: driver.diff_size("layer-1", "missing"),
        lambda: driver.apply_diff("missing", "", io.BytesIO()),
        lambda: driver.apply_diff("layer-1", "missing", io.BytesIO()),
        lambda: driver.get("missing"),
        lambda: driver.put("missing"),
    ):
        with pytest.raises(errors.LayerNotFound, match="'missing'"):
            call()
    assert mounted_below(home) == []


@pytest.mark.parametrize("parent", ["layer-0", ""], ids=["native", "merged"])
def test_a_bad_archive_changes_nothing(driver: Driver, home: Path, parent: str) -> None:
    build_chain(driver, 2)
    good = diff_of(driver, "layer-1", "layer-0")
    before = everything_in(home)
    content = chain_content(2)
    for cut in range(0, len(good) - 512, 100):
        with pytest.raises(errors.BadArchive):
            driver.apply_diff("layer-1", parent, io.BytesIO(good[:cut]))
    assert everything_in(home) == before
    assert read(driver, "layer-1") == content


def test_an_archive_whose_reader_fails_changes_nothing(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    before = everything_in(home)

    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _: object) -> int:
            raise ConnectionResetError("the other end went away")

    with pytest.raises(ConnectionResetError):
        driver.apply_diff("layer-1", "layer-0", Broken())
    assert everything_in(home) == before


def test_a_mounted_layer_takes_no_archive(driver: Driver) -> None:
    build_chain(driver, 2)
    data = diff_of(driver, "layer-1", "layer-0")
    driver.get("layer-1")
    with pytest.raises(errors.LayerInUse, match="layer-1"):
        driver.apply_diff("layer-1", "layer-0", io.BytesIO(data))
    driver.put("layer-1")


def test_sizes_count_each_inode_once_and_no_whiteouts(driver: Driver) -> None:
    driver.create("base")
    write(driver, "base", gone="x" * 1000, kept="y")
    driver.create("child", "base")
    root = Path(driver.get("child"))
    (root / "gone").unlink()
    (root / "new").write_text("z" * 300)
    os.link(root / "new", root / "same")
    (root / "empty").touch()
    (root / "directory").mkdir()
    driver.put("child")
    assert driver.diff_size("child", "base") == 300
    assert driver.diff_size("child") == 301
    assert driver.diff_size("base") == 1001


def test_owners_are_mapped_both_ways(home: Path) -> None:
    maps = [IdMap(0, 100000, 1000)]
    with Driver(home, uid_maps=maps, gid_maps=maps) as driver:
        driver.create("base")
        path = Path(driver.get("base"), "file")
        path.touch()
        os.chown(path, 100007, 100008)
        Path(driver.get("base"), "gone").touch()
        os.chown(Path(driver.get("base"), "gone"), 100000, 100000)
        driver.create("child", "base")
        Path(driver.get("child"), "gone").unlink()
        driver.put("child")
        with tarfile.open(fileobj=io.BytesIO(diff_of(driver, "base"))) as archive:
            member = archive.getmember("file")
            assert (member.uid, member.gid) == (7, 8)
        # The kernel makes whiteouts as real root, which these maps do not map.
        assert names_in(diff_of(driver, "child", "base")) == [".wh.gone"]
        driver.create("copy")
        driver.apply_diff("copy", "", io.BytesIO(diff_of(driver, "base")))
        status = Path(driver.get("copy"), "file").stat()
        assert (status.st_uid, status.st_gid) == (100007, 100008)
        os.chown(path, 5, 5)
        with pytest.raises(errors.UnreadableLayer, match="file"):
            diff_of(driver, "base")
        driver.cleanup()


def test_native_diff_is_decided_by_the_features_of_the_mount(driver: Driver, scratch: Path) -> None:
    """The probe notices redirects and metadata-only copies where they are switched on, and only there."""
    parameters = Path("/sys/module/overlay/parameters")
    for parameter, reason in (("redirect_dir", "redirect"), ("metacopy", "metacopy")):
        before = (parameters / parameter).read_text()
        try:
            (parameters / parameter).write_text("Y")
        except OSError:
            pytest.skip("the kernel does not let its overlay parameters be changed")
        try:
            with Driver(scratch / parameter) as other:
                assert dict(other.status())["Native Overlay Diff"] == "false"
                build_chain(other, 1)
                os.mkdir(other.get("layer-0") + "/old")
                Path(other.get("layer-0"), "old", "below").write_text("below")
                other.create("child", "layer-0")
                root = Path(other.get("child"))
                (root / "old").rename(root / "new")
                (root / "top").chmod(0o600)
                other.put("child")
                data = diff_of(other, "child", "layer-0")
                # The diff carries the renamed subtree and real data all the same.
                assert {"new/below", ".wh.old", "top"} <= set(names_in(data))
                with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                    member = archive.extractfile("top")
                    assert member is not None
                    assert member.read() == b"0"
                assert {change.path for change in other.changes("child", "layer-0")} >= {b"/new/below", b"/old"}
                other.cleanup()
            probe = scratch / f"probe-{parameter}"
            probe.mkdir()
            assert reason in (probes.why_native_diff_is_wrong(str(probe), OverlayXattrs("trusted.overlay.")) or "")
        finally:
            (parameters / parameter).write_text(before)
    # This driver was open all along; its answer is its own.
    assert dict(driver.status())["Native Overlay Diff"] == "true"


def test_changes_are_sorted_with_the_slash_lowest(driver: Driver) -> None:
    driver.create("base")
    root = Path(driver.get("base"))
    (root / "foo").mkdir()
    (root / "foo" / "x").touch()
    (root / "foo-").touch()
    assert driver.changes("base") == [
        Change(b"/foo", ChangeKind.ADD),
        Change(b"/foo/x", ChangeKind.ADD),
        Change(b"/foo-", ChangeKind.ADD),
    ]


def test_a_deep_tree_has_changes_and_a_diff(driver: Driver) -> None:
    depth = 600
    driver.create("base")
    fd = os.open(driver.get("base"), os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    driver.create("other")
    assert len(driver.changes("base")) == len(driver.changes("base", "other")) == depth
    driver.apply_diff("other", "", io.BytesIO(diff_of(driver, "base")))
    assert driver.changes("base", "other") == []


def test_reading_a_layer_leaves_its_access_times(driver: Driver) -> None:
    driver.create("base")
    path = Path(driver.get("base"), "file")
    path.write_text("text")
    os.utime(path, ns=(0, 10**18))  # long ago, so that reading would set it even where that is done rarely
    diff_of(driver, "base")
    assert path.stat().st_atime_ns == 0
