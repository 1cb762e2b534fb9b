"""Unpacking: whatever the archive and the layer hold, nothing outside is touched."""

from __future__ import annotations

import io
import os
import resource
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from refdriver import errors
from refdriver.archive.unpack import Merged, Native, unpack
from refdriver.idmap import IdMap, IdMaps
from refdriver.overlayxattr import TRUSTED

pytestmark = pytest.mark.mounts
IDENTITY = IdMaps()


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", data: bytes = b"", **fields: int
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def directory(name: str, **fields: int) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, "", b"", **fields)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.LNKTYPE, target)


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def layer(scratch: Path) -> Iterator[Path]:
    """A layer beside things that are none of its business."""
    (scratch / "layer").mkdir()
    (scratch / "outside").mkdir(mode=0o700)
    (scratch / "outside" / "secret").write_text("secret")
    before = snapshot(scratch / "outside")
    host = {path: os.stat(path).st_mode for path in ("/etc/passwd", "/etc", "/")}
    yield scratch / "layer"
    assert snapshot(scratch / "outside") == before
    assert {path: os.stat(path).st_mode for path in host} == host
    assert {path.name for path in scratch.iterdir()} == {"layer", "outside"}


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    """What lies below the layer: a, d/x and the file d/file."""
    (tmp_path / "lower" / "d").mkdir(parents=True)
    for name in ("a", "d/x", "d/file"):
        (tmp_path / "lower" / name).touch()
    return tmp_path / "lower"


def snapshot(root: Path) -> dict[str, tuple[int, int, bytes]]:
    paths = [root, *root.rglob("*")]
    return {
        str(p): (p.lstat().st_mode, p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in paths
    }


NATIVE = Native(TRUSTED)
UP = "../outside"
HOSTILE = {
    "name with ..": [entry("../outside/new", data=b"x")],
    "name with .. inside": [entry("a/../../outside/new", data=b"x")],
    "hard link out": [hard_link("a", "../outside/secret")],
    "hard link out, absolute": [hard_link("a", "/../../etc/passwd")],
    "hard link to nothing": [hard_link("a", "missing")],
    "hard link to a directory": [directory("d"), hard_link("a", "d")],
    "hard link through a symlink": [symlink("s", UP), hard_link("a", "s/secret")],
    "root as symlink": [symlink(".", UP), entry("new", data=b"x")],
    "root as file": [entry("./", data=b"x")],
    "whiteout of the parent": [entry("d/.wh...")],
    "whiteout of the directory": [entry("d/.wh..")],
    "whiteout of nothing": [entry("d/.wh.")],
    "whiteout with ..": [entry("../outside/.wh.secret")],
    "file as directory": [entry("a"), entry("a/b", data=b"x")],
    "symlink loop": [symlink("a", "b"), symlink("b", "a"), entry("a/x", data=b"x")],
    "name of 256 bytes": [entry("n" * 256)],
    "device out of range": [entry("a", tarfile.CHRTYPE, devmajor=4096)],
    "device that is a whiteout": [entry("a", tarfile.CHRTYPE)],
    "link to AUFS's own": [entry(".wh..wh.plnk/1.2", data=b"x"), hard_link("a", ".wh..wh.plnk/1.2")],
}


@pytest.mark.parametrize("target", ["native", "merged"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(layer: Path, name: str, target: str) -> None:
    with pytest.raises(errors.BadArchive):
        unpack(
            io.BytesIO(archive(*HOSTILE[name])),
            str(layer),
            IDENTITY,
            NATIVE if target == "native" else Merged(),
        )


INSIDE = {
    "relative symlink": ([symlink("s", UP), entry("s/new", data=b"x")], "outside/new"),
    "absolute symlink": ([symlink("s", "/outside"), entry("s/new", data=b"x")], "outside/new"),
    "symlink to the root": ([symlink("s", "/"), entry("s/new", data=b"x")], "new"),
    "many ..": ([symlink("s", "../" * 50 + "outside"), entry("s/new", data=b"x")], "outside/new"),
    "symlink to a symlink": ([symlink("a", UP), symlink("b", "a"), entry("b/new", data=b"x")], "outside/new"),
    "absolute name": ([entry("/outside/new", data=b"x")], "outside/new"),
    "leading ./": ([entry("./outside/new", data=b"x")], "outside/new"),
}


@pytest.mark.parametrize("name", INSIDE)
def test_symlinks_lead_to_places_inside_the_layer(layer: Path, name: str) -> None:
    entries, reached = INSIDE[name]
    unpack(io.BytesIO(archive(*entries)), str(layer), IDENTITY, NATIVE)
    assert (layer / reached).read_bytes() == b"x"


def test_symlinks_of_the_layer_itself_lead_nowhere_either(layer: Path) -> None:
    (layer / "s").symlink_to(UP)
    (layer / "file").symlink_to(f"{UP}/secret")
    data = archive(entry("s/new", data=b"x"), entry("file", data=b"y"), entry("s2/.wh.x"))
    unpack(io.BytesIO(data), str(layer), IDENTITY, NATIVE)
    assert (layer / "outside" / "new").read_bytes() == b"x"
    assert not (layer / "file").is_symlink()


@pytest.mark.parametrize("name", ["s/.wh.secret", "s/.wh..wh..opq"])
@pytest.mark.parametrize("target", ["native", "merged"])
def test_a_whiteout_behind_a_symlink_names_nothing(layer: Path, name: str, target: str) -> None:
    (layer / "real").mkdir()
    (layer / "real" / "secret").touch()
    (layer / "s").symlink_to("real")
    before = snapshot(layer)
    unpack(io.BytesIO(archive(entry(name))), str(layer), IDENTITY, NATIVE if target == "native" else Merged())
    assert snapshot(layer) == before


@pytest.mark.parametrize("name", ["s/.wh.secret", "s/.wh..wh..opq"])
@pytest.mark.parametrize("target", ["native", "merged"])
def test_a_whiteout_behind_a_symlink_to_itself_names_nothing(layer: Path, name: str, target: str) -> None:
    (layer / "s").symlink_to("s/s")
    before = snapshot(layer)
    unpack(io.BytesIO(archive(entry(name))), str(layer), IDENTITY, NATIVE if target == "native" else Merged())
    assert snapshot(layer) == before


def marks(layer: Path) -> dict[str, str]:
    """What each path of a diff is, in a word."""
    found = {}
    for path in layer.rglob("*"):
        status = path.lstat()
        if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
            word = "whiteout"
        elif path.is_dir() and "trusted.overlay.opaque" in os.listxattr(path):
            word = "opaque"
        else:
            word = "directory" if path.is_dir() else "file"
        found[str(path.relative_to(layer))] = word
    return found


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry(".wh.a")], {"a": "whiteout"}),
        ([entry("a"), entry(".wh.a")], {"a": "file"}),
        ([entry(".wh.a"), entry("a")], {"a": "file"}),
        ([entry(".wh.d"), directory("d")], {"d": "opaque"}),
        ([directory("d"), entry(".wh.d")], {"d": "opaque"}),
        ([entry(".wh.d"), entry("d/x")], {"d": "opaque", "d/x": "file"}),
        ([directory("d"), entry("d/.wh..wh..opq")], {"d": "opaque"}),
        ([entry("d/.wh..wh..opq"), directory("d"), entry("d/x")], {"d": "opaque", "d/x": "file"}),
        ([entry(".wh.d"), entry("d/.wh.x")], {"d": "whiteout"}),
        ([directory("d"), entry("d/.wh.x")], {"d": "directory", "d/x": "whiteout"}),
        ([entry("d/.wh..wh..opq"), entry("d/.wh.x")], {"d": "opaque"}),
        ([entry("d/.wh.x"), entry("d/.wh..wh..opq")], {"d": "opaque"}),
        ([directory("new"), entry("new/.wh.x")], {"new": "directory"}),
        ([entry("new/.wh.x")], {}),
        ([entry("d/file/.wh.x")], {}),
        ([entry(".wh..wh.aufs"), entry(".wh..wh.plnk/1.2")], {}),
        ([entry("a"), directory("a")], {"a": "directory"}),
        ([directory("a"), entry("a/x"), entry("a")], {"a": "file"}),
        ([entry(".wh." + "n" * 255)], {"n" * 255: "whiteout"}),
    ],
)
def test_whiteouts_of_one_archive_speak_of_the_lowers(
    layer: Path, lower: Path, entries: list[tuple[tarfile.TarInfo, bytes]], expected: dict[str, str]
) -> None:
    unpack(io.BytesIO(archive(*entries)), str(layer), IDENTITY, Native(TRUSTED, (str(lower),)))
    assert marks(layer) == expected


@pytest.mark.parametrize("hidden_by", ["whiteout", "opaque", "file"])
def test_a_directory_that_another_lower_hides_is_not_below(layer: Path, lower: Path, hidden_by: str) -> None:
    middle = lower.parent / "middle"
    middle.mkdir()
    (lower / "d" / "e").mkdir()
    if hidden_by == "whiteout":
        os.mknod(middle / "d", stat.S_IFCHR)
    elif hidden_by == "file":
        (middle / "d").touch()
    else:
        (middle / "d").mkdir()
        os.setxattr(middle / "d", "trusted.overlay.opaque", b"y")
    data = archive(directory("d"), directory("d/e"), entry("d/e/.wh.x"))
    unpack(io.BytesIO(data), str(layer), IDENTITY, Native(TRUSTED, (str(middle), str(lower))))
    assert marks(layer) == {"d": "directory", "d/e": "directory"}


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ([entry(".wh.a")], {"d", "d/x", "d/e", "d/e/y"}),
        ([entry(".wh.d")], {"a"}),
        ([entry("d/.wh..wh..opq")], {"a", "d"}),
        ([entry("d/new"), entry("d/.wh..wh..opq")], {"a", "d", "d/new"}),
        ([entry("d/e/new"), entry(".wh.d")], {"a", "d", "d/e", "d/e/new"}),
        ([entry(".wh.missing")], {"a", "d", "d/x", "d/e", "d/e/y"}),
        ([entry("a", data=b"new"), entry(".wh.a")], {"a", "d", "d/x", "d/e", "d/e/y"}),
    ],
)
def test_in_a_merged_tree_whiteouts_remove_what_was_there(
    layer: Path, entries: list[tuple[tarfile.TarInfo, bytes]], left: set[str]
) -> None:
    (layer / "d" / "e").mkdir(parents=True)
    for name in ("a", "d/x", "d/e/y"):
        (layer / name).touch()
    unpack(io.BytesIO(archive(*entries)), str(layer), IDENTITY, Merged())
    assert {str(path.relative_to(layer)) for path in layer.rglob("*")} == left


def test_metadata_is_exact_whatever_the_umask(layer: Path) -> None:
    info = entry("program", data=b"x", mode=0o6755, uid=1000, gid=1001)
    info[0].pax_headers = {"mtime": "1400000000.123456789", "SCHILY.xattr.user.colour": "red"}
    before = os.umask(0o077)
    try:
        data = archive(
            directory("d", mode=0o3777, mtime=5),
            info,
            entry("d/x"),
            entry("missing/x"),
            entry("p", tarfile.FIFOTYPE),
        )
        unpack(io.BytesIO(data), str(layer), IDENTITY, NATIVE)
    finally:
        os.umask(before)
    status = (layer / "program").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o6755, 1000, 1001)
    assert status.st_mtime_ns == status.st_atime_ns == 1400000000123456789
    assert os.getxattr(layer / "program", "user.colour") == b"red"
    assert (layer / "d").stat().st_mtime_ns == 5 * 10**9
    modes = {name: stat.S_IMODE((layer / name).lstat().st_mode) for name in ("d", "d/x", "missing", "p")}
    assert modes == {"d": 0o3777, "d/x": 0o644, "missing": 0o755, "p": 0o644}


def test_a_directory_that_is_merged_keeps_no_attribute_that_the_archive_lacks(layer: Path) -> None:
    (layer / "d").mkdir()
    os.setxattr(layer / "d", "user.old", b"")
    info = directory("d")
    info[0].pax_headers = {"SCHILY.xattr.user.new": "1"}
    unpack(io.BytesIO(archive(info)), str(layer), IDENTITY, Merged())
    assert os.listxattr(layer / "d") == ["user.new"]


def test_overlays_own_attributes_are_not_taken(layer: Path) -> None:
    info = directory("d")
    info[0].pax_headers = {
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.opaque": "y",
    }
    unpack(io.BytesIO(archive(info)), str(layer), IDENTITY, NATIVE)
    assert os.listxattr(layer / "d") == []


def test_owners_are_mapped_and_unmapped_ones_refused(layer: Path, lower: Path) -> None:
    ids = IdMaps.of([IdMap(0, 100000, 10)], [IdMap(0, 200000, 10)])
    native = Native(TRUSTED, (str(lower),))
    unpack(io.BytesIO(archive(entry("a", uid=5, gid=6), entry("d/x"), entry(".wh.gone"))), str(layer), ids, native)
    owners = {name: ((layer / name).lstat().st_uid, (layer / name).lstat().st_gid) for name in ("a", "d", "gone")}
    assert owners == {"a": (100005, 200006), "d": (100000, 200000), "gone": (100000, 200000)}
    with pytest.raises(errors.BadArchive, match="11:0"):
        unpack(io.BytesIO(archive(entry("b", uid=11))), str(layer), ids, NATIVE)


def test_a_writer_on_a_pipe_can_finish(layer: Path) -> None:
    data = archive(entry("a", data=os.urandom(300_000))) + bytes(200_000)
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with io.FileIO(reading, "rb") as source:
        assert unpack(source, str(layer), IDENTITY, NATIVE) == 300_000
    writer.join()
    assert (layer / "a").stat().st_size == 300_000


MEMORY = """
import io, os, sys
from refdriver import Driver
kind, home = sys.argv[1:]
with Driver(home) as driver:
    driver.create("a")
    driver.create("b")
    root = driver.get("a")
    if kind == "large":
        with open(root + "/large", "wb") as file:
            file.truncate(1 << 30)
    else:
        for number in range(200):
            os.mkdir(f"{root}/{number:03}")
            for below in range(100):
                path = f"{root}/{number:03}/{below:02}"
                os.mkdir(path) if kind == "directories" else open(path, "wb").close()
    with driver.diff("a") as stream:
        driver.apply_diff("b", "", stream)
    driver.cleanup()
# Not getrusage: its maximum begins with that of the process that started this one.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("kind", ["large", "files", "directories"])
def test_memory_does_not_grow_with_the_layer(kind: str) -> None:
    # In memory, because a disk would take minutes for nothing; sparse, so that it holds no more than the copy.
    home = Path("/dev/shm") / f"overlay-conformance-test-{os.getpid()}"
    try:
        command = [sys.executable, "-c", MEMORY, kind, str(home)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 64 * 1024, "KiB of memory"
    finally:
        subprocess.run(["rm", "-rf", str(home)], check=True)


def test_descriptors_are_all_closed(layer: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert before < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    deep = [entry("/".join(["d"] * depth) + "/x") for depth in range(1, 150)]
    unpack(io.BytesIO(archive(*deep)), str(layer), IDENTITY, NATIVE)
    with pytest.raises(errors.BadArchive):
        unpack(io.BytesIO(archive(*deep)[:70_001]), str(layer), IDENTITY, NATIVE)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("there", ["a file", "a directory", "the directory of the target"])
def test_a_hard_link_takes_the_place_of_what_is_there(layer: Path, there: str) -> None:
    """What it replaces may be a directory that is open for the target."""
    (layer / "d").mkdir()
    (layer / "d" / "target").write_text("x")
    name = "d" if there == "the directory of the target" else "e/name"
    if there == "a file":
        (layer / "e").mkdir()
        (layer / "e" / "name").write_text("other")
    elif there == "a directory":
        (layer / "e" / "name").mkdir(parents=True)
    data = archive(entry("d/opened", data=b"o"), hard_link(name, "d/target"))
    if name == "d":
        with pytest.raises(errors.BadArchive, match="takes the place of the directory of its target"):
            unpack(io.BytesIO(data), str(layer), IDENTITY, NATIVE)
        return
    unpack(io.BytesIO(data), str(layer), IDENTITY, NATIVE)
    assert (layer / "e" / "name").samefile(layer / "d" / "target")
