"""Whiteouts in a layer's diff and in a mounted tree: what is shown is the same, and work grows with the archive."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from refdriver import Driver, IdMap, errors, trees
from refdriver.archive.roots import Root
from refdriver.archive.unpack import Merged, Native, unpack
from refdriver.idmap import IdMaps
from refdriver.overlayxattr import TRUSTED

pytestmark = pytest.mark.mounts
POOL = ("a", "a/b", "d", "d/a", "d/e", "d/e/a", "f", "f/a")
TYPES = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}
MARKED = tuple(f"{name.rpartition('/')[0]}/.wh.{name.rpartition('/')[2]}".lstrip("/") for name in POOL)
OPAQUE = (".wh..wh..opq", "d/.wh..wh..opq", "d/e/.wh..wh..opq", "f/.wh..wh..opq")
KINDS = ("file", "directory", "symlink")
entries = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(POOL), st.sampled_from(KINDS)),
        st.tuples(st.sampled_from(MARKED + OPAQUE), st.just("file")),
    ),
    max_size=7,
)
LINK_TARGET = "/d"  # of every symlink; followed inside the layer's tree only
ROOT_OPAQUE = (".wh..wh..opq", "file")


def archive(*wanted: tuple[str, str], **fields: int) -> bytes:
    """Entries (name, kind) with distinct content, so that one entry is not taken for another."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, (name, kind) in enumerate(wanted):
            info = tarfile.TarInfo(name)
            info.type = TYPES[kind]
            info.linkname = LINK_TARGET if kind == "symlink" else ""
            info.mode, info.mtime = 0o755, number
            data = b"" if kind != "file" or ".wh." in name else b"%d" % number
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def shown(driver: Driver, layer_id: str) -> dict[str, str]:
    """What a layer's tree holds: "d", the target of a symlink, or the content of a file."""
    root = Path(driver.get(layer_id))
    try:
        return {str(path.relative_to(root)): described(path) for path in root.rglob("*")}
    finally:
        driver.put(layer_id)


def described(path: Path) -> str:
    if path.is_symlink():
        return os.readlink(path)
    return "d" if path.is_dir() else path.read_text() if path.is_file() else "device"


def dated(driver: Driver, layer_id: str) -> dict[str, str]:
    """:func:`shown`, with the modification time of directories to which an archive gave one, in seconds."""
    found = shown(driver, layer_id)
    root = Path(driver.get(layer_id))
    try:
        for name, what in found.items():
            status = (root / name).lstat()
            if what == "d" and status.st_mtime < time.time() - 10**6:
                found[name] += f", {status.st_mtime_ns // 10**9}"
    finally:
        driver.put(layer_id)
    return found


@pytest.fixture
def memory() -> Iterator[Path]:
    """Not on a disk, where each archive that is applied is written out with all that others wrote."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="overlay-conformance-test-"))
    yield path
    trees.remove_tree(str(path))


@pytest.fixture
def driver(memory: Path) -> Driver:
    """Over a parent with all names of the pool, in two layers."""
    opened = Driver(memory / "home")
    opened.create("bottom")
    opened.apply_diff("bottom", "", io.BytesIO(archive(*((name, "file") for name in ("a", "d/a", "f/a")))))
    opened.create("parent", "bottom")
    opened.apply_diff("parent", "bottom", io.BytesIO(archive(("d/e/a", "file"))))
    opened.create("other")
    return opened


def applied(
    driver: Driver,
    parent: str,
    data: bytes,
    look: Callable[[Driver, str], dict[str, str]] = shown,
    earlier: bytes = b"",
) -> dict[str, str]:
    """The tree of a new layer on "parent" after an archive was applied to it, as if its parent were this one.

    ``earlier`` is an archive that is applied before it, natively.
    """
    driver.create("child", "parent")
    try:
        if earlier:
            driver.apply_diff("child", "parent", io.BytesIO(earlier))
        driver.apply_diff("child", parent, io.BytesIO(data))
        return look(driver, "child")
    finally:
        driver.remove("child")


@pytest.mark.parametrize("parent", ["parent", "other"])
@pytest.mark.parametrize("earlier", [b"", archive(("own", "file"))], ids=["empty", "filled"])
def test_a_directory_is_deleted_after_whiteouts_in_it(driver: Driver, parent: str, earlier: bytes) -> None:
    data = archive(("d/e/.wh.a", "file"), ("d/.wh.a", "file"), (".wh.d", "file"))
    found = applied(driver, parent, data, earlier=earlier)
    assert not [name for name in found if name.startswith("d")]
    assert {"a", "f/a"} <= set(found)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(entries)
@example([(".wh.d", "file"), ("d/.wh.a", "file")])
@example([ROOT_OPAQUE])
@example([("d/a", "file"), ROOT_OPAQUE])
@example([ROOT_OPAQUE, ("d/a", "file")])
@example([ROOT_OPAQUE, ("d", "directory")])
@example([ROOT_OPAQUE, (".wh.a", "file"), ("f", "file")])
@example([("d", "file"), ("d", "directory")])
@example([("d", "file"), ("d/.wh..wh..opq", "file"), ("d", "directory"), ("d/.wh.a", "file")])
@example([("f", "file"), ("f/.wh.a", "file")])
@example([("a/b", "file")])
@example([("f", "symlink"), ("f/a", "directory"), ("f", "directory")])
@example([("d/e", "directory"), ("d", "file"), ("d", "directory"), ("d/e/a", "file")])
@example([("d/.wh.a", "file"), ("d/a", "file"), (".wh.d", "file")])
@example([("d/.wh.a", "file"), ("d/a", "directory"), (".wh.d", "file")])
@example([("d/e/.wh.a", "file"), ("d", "directory"), (".wh.d", "file")])
@example([("d", "directory"), ("d/e/.wh.a", "file"), ROOT_OPAQUE])
def test_direct_parent_and_another_give_the_same_tree(driver: Driver, wanted: list[tuple[str, str]]) -> None:
    data = archive(*wanted)
    try:
        native = applied(driver, "parent", data, dated)
    except errors.BadArchive:
        with pytest.raises(errors.BadArchive):
            applied(driver, "other", data)
        return
    assert "device" not in native.values()
    assert applied(driver, "other", data, dated) == native


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(entries, entries)
@example([("d", "file")], [("d", "directory")])
@example([("d", "directory")], [("d", "file"), ("d/.wh.a", "file")])
@example([("f", "file")], [("f/a", "file")])
@example([("d/.wh.e", "file")], [("d/e", "directory")])
def test_a_layer_that_holds_something_gets_the_same_tree(
    driver: Driver, before: list[tuple[str, str]], wanted: list[tuple[str, str]]
) -> None:
    """Not its directories' times: a deletion in a mounted tree changes that of the directory."""
    earlier, data = archive(*before), archive(*wanted)
    try:
        native = applied(driver, "parent", data, shown, earlier)
    except errors.BadArchive:
        with pytest.raises(errors.BadArchive):
            applied(driver, "other", data, shown, earlier)
        return
    assert "device" not in native.values()
    assert applied(driver, "other", data, shown, earlier) == native


@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
def test_an_opaque_whiteout_at_the_root_hides_the_parent(driver: Driver, parent: str) -> None:
    data = archive(("d/new", "file"), ROOT_OPAQUE, ("g", "file"))
    assert applied(driver, parent, data) == {"d": "d", "d/new": "0", "g": "2"}


def test_what_a_root_hides_stays_hidden_in_diffs_and_children(driver: Driver) -> None:
    driver.create("child", "parent")
    driver.apply_diff("child", "parent", io.BytesIO(archive(ROOT_OPAQUE, ("g", "file"))))
    driver.create("copy", "parent")
    with driver.diff("child", "parent") as stream:
        driver.apply_diff("copy", "parent", stream)
    driver.create("grandchild", "child")
    assert shown(driver, "copy") == shown(driver, "grandchild") == {"g": "1"}


@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
@pytest.mark.parametrize("mark", ["d/.wh..wh..opq", ".wh.d", ".wh..wh..opq"])
def test_an_opaque_whiteout_hides_what_the_layer_held_before(driver: Driver, parent: str, mark: str) -> None:
    driver.create("child", "parent")
    for data in (archive(("d/old/x", "file"), ("d/old2", "file")), archive(("d/new", "file"), (mark, "file"))):
        driver.apply_diff("child", parent, io.BytesIO(data))
    found = shown(driver, "child")
    assert {name: value for name, value in found.items() if name.startswith("d")} == {"d": "d", "d/new": "0"}


@pytest.mark.parametrize("name", [".", "./", "/"])
@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
def test_the_entry_of_the_root_is_ignored(driver: Driver, parent: str, name: str) -> None:
    driver.create("child", "parent")
    before = os.lstat(driver.metadata("child")["UpperDir"])
    data = archive((name, "directory"), mode=0o700, uid=7, gid=8, mtime=5)
    driver.apply_diff("child", parent, io.BytesIO(data))
    root = os.lstat(driver.get("child"))
    driver.put("child")
    assert (stat.S_IMODE(root.st_mode), root.st_uid, root.st_gid) == (0o755, 0, 0)
    assert root.st_mtime_ns >= before.st_mtime_ns


def test_the_owner_of_the_root_need_not_be_mapped(scratch: Path) -> None:
    (scratch / "layer").mkdir()
    ids = IdMaps.of([IdMap(0, 100000, 10)], [IdMap(0, 100000, 10)])
    unpack(io.BytesIO(archive(("./", "directory"), uid=1000)), str(scratch / "layer"), ids, Native(TRUSTED))


class Counted:
    """Counts the directories that are listed and the entries in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries = 0
        self._listdir = os.listdir
        monkeypatch.setattr(os, "listdir", self.listdir)

    def listdir(self, path: int | str = ".") -> list[str]:
        names = self._listdir(path)
        self.entries += 1 + len(names)
        return names


@pytest.mark.parametrize("target", ["native", "native, not empty", "merged", "merged, not empty"])
@pytest.mark.parametrize("shape", ["one directory", "nested", "whiteouts of a directory"])
def test_work_grows_with_files_and_opaque_whiteouts_and_not_with_their_product(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, target: str, shape: str
) -> None:
    layer = scratch / "layer"
    layer.mkdir()
    if "not empty" in target:
        (layer / "old").touch()
    if shape == "nested":
        marks = ["/".join(["d"] * depth) + "/.wh..wh..opq" for depth in range(60, 0, -1)]
        files = ["/".join(["d"] * 60) + f"/{number}" for number in range(60)]
    else:
        marks = [".wh.d" if shape == "whiteouts of a directory" else "d/.wh..wh..opq"] * 60
        files = [f"d/{number}" for number in range(60)]
    data = archive(*((name, "file") for name in (*files, *marks)))
    counted = Counted(monkeypatch)
    goal = Native(TRUSTED) if "native" in target else Merged()
    unpack(io.BytesIO(data), str(layer), IdMaps(), goal)
    assert counted.entries < 600


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("name", ["trusted.overlay.opaque", "trusted.overlay.whiteout"])
def test_an_error_is_not_taken_for_no_whiteout(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    driver.create("child", "parent")
    driver.apply_diff(
        "child", "parent", io.BytesIO(archive(("d", "directory"), ("d/.wh..wh..opq", "file"), ("a", "file")))
    )
    Path(driver.metadata("child")["UpperDir"], "a").write_text("")  # an empty file may be a whiteout in xattr form
    driver.changes("child", "parent")  # so that the probe for native diff is done
    real = os.getxattr

    def failing(path: int | str | bytes, attribute: str, *, follow_symlinks: bool = True) -> bytes:
        if attribute == name:
            raise OSError(number, os.strerror(number))
        return real(path, attribute, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "getxattr", failing)
    with pytest.raises(errors.UnreadableLayer):
        driver.changes("child", "parent")
    if name.endswith("opaque"):
        with pytest.raises(errors.UnreadableLayer), driver.diff("child", "parent") as stream:
            stream.read()
        with pytest.raises(OSError, match=os.strerror(number)):
            driver.apply_diff("child", "parent", io.BytesIO(archive(("d/.wh.a", "file"))))
    assert {"a", "d"} <= set(shown(driver, "child"))


def test_an_error_while_a_directorys_time_is_set_fails_the_apply(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Root, "plain_directory", failing)  # as open(2) may fail
    driver.create("child", "parent")
    with pytest.raises(OSError, match="Input/output"):
        driver.apply_diff("child", "parent", io.BytesIO(archive(("d", "directory"))))


@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
def test_a_directory_that_replaces_a_file_shows_nothing_of_the_lower(driver: Driver, parent: str) -> None:
    data = archive(("d", "file"), ("d", "directory"), ("d/new", "file"))
    assert below("d", applied(driver, parent, data)) == {"d": "d", "d/new": "2"}


@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
def test_a_directory_that_replaces_a_file_of_an_earlier_archive_shows_nothing_of_the_lower(
    driver: Driver, parent: str
) -> None:
    driver.create("child", "parent")
    driver.apply_diff("child", parent, io.BytesIO(archive(("d", "file"), ("f", "file"))))
    driver.apply_diff("child", parent, io.BytesIO(archive(("d", "directory"), ("f/new", "file"))))
    found = shown(driver, "child")
    assert below("d", found) | below("f", found) == {"d": "d", "f": "d", "f/new": "1"}


@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
@pytest.mark.parametrize("mark", ["f/.wh.a", "f/.wh..wh..opq"])
def test_a_whiteout_below_a_file_deletes_nothing(driver: Driver, parent: str, mark: str) -> None:
    data = archive(("f", "file"), (mark, "file"))
    assert below("f", applied(driver, parent, data)) == {"f": "0"}


@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
def test_an_entry_below_a_file_of_the_lower_makes_a_directory(driver: Driver, parent: str) -> None:
    assert below("a", applied(driver, parent, archive(("a/b", "file")))) == {"a": "d", "a/b": "0"}


@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
def test_an_entry_below_a_file_of_the_same_archive_is_refused(driver: Driver, parent: str) -> None:
    for data in (archive(("a", "file"), ("a/b", "file")), archive(("d", "file"), ("d/b", "file"))):
        with pytest.raises(errors.BadArchive):
            applied(driver, parent, data)


@pytest.mark.parametrize("parent", ["parent", "other"], ids=["native", "naive"])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([("f", "directory"), ("d/new", "file"), ("f", "symlink")], {}),
        ([("f/d", "directory"), ("f", "symlink"), ("d/d/new", "file")], {}),
        ([("d/new", "directory"), ("d", "file"), ("d", "directory"), ("d/new/file", "file")], {"d": "d, 2"}),
        ([("d/new", "directory"), ("d/new", "file"), ("d/f", "directory")], {"d/f": "d, 2"}),
    ],
    ids=["symlink", "parent became a symlink", "parent made again", "file"],
)
def test_the_time_of_a_directory_that_was_replaced_is_not_set(
    driver: Driver, parent: str, wanted: list[tuple[str, str]], expected: dict[str, str]
) -> None:
    """Entry number N has the time N seconds."""
    found = applied(driver, parent, archive(*wanted), dated)
    assert {name: what for name, what in found.items() if what.startswith("d, ")} == expected


def below(name: str, found: dict[str, str]) -> dict[str, str]:
    return {path: what for path, what in found.items() if (path + "/").startswith(name + "/")}


def test_a_file_that_came_where_a_directory_was_needs_no_time(driver: Driver) -> None:
    assert "a" in applied(
        driver, "parent", archive(("d", "directory"), ("d/e", "directory"), ("d", "file"), ("a", "file"))
    )


DEEP = """
import io, os, resource, sys
from refdriver import Driver
home, depth = sys.argv[1], int(sys.argv[2])
with Driver(home) as driver:
    driver.create("base")
    driver.create("child", "base")
    driver.create("other")
    fd = os.open(driver.get("child"), os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    driver.put("child")
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    sys.setrecursionlimit(400)  # what is done grows with the square of the depth, so that this is lowered instead
    assert len(driver.changes("child", "base")) == depth + 1
    assert len(driver.changes("child", "other")) == depth + 1
    with driver.diff("child", "base") as stream:
        data = stream.read()
    with driver.diff("child", "other") as stream:
        assert len(stream.read()) >= depth * 512
    driver.diff_size("child", "base")
    driver.diff_size("child", "other")
    driver.create("native", "base")
    driver.apply_diff("native", "base", io.BytesIO(data))
    driver.apply_diff("native", "base", io.BytesIO(data))
    driver.create("naive", "base")
    driver.apply_diff("naive", "other", io.BytesIO(data))
    driver.apply_diff("naive", "other", io.BytesIO(data))
    assert len(driver.changes("native", "naive")) == len(driver.changes("naive", "native")) == 0
    for layer in ("native", "naive", "child", "other", "base"):
        driver.remove(layer)
    assert not driver.exists("child")
    driver.cleanup()
"""


def test_deep_trees_take_no_more_descriptors(memory: Path) -> None:
    command = [sys.executable, "-c", DEEP, str(memory / "home"), "280"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
