"""What the driver makes of errors: of a disk that is full, of calls that fail, of processes that are killed."""

from __future__ import annotations

import errno
import io
import logging
import multiprocessing
import os
import resource
import signal
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from helpers import build_chain, chain_content, everything_in, mounted_below, read

from refdriver import Driver, errors, files, trees
from refdriver.linux import libc
from refdriver.refcounts import ReferenceCounts
from refdriver.staging import Staging

pytestmark = pytest.mark.mounts

MINUTE = 60.0


def in_child(work: Callable[[], None]) -> None:
    """Run ``work`` in a forked child, for what it does to its process; it must end well."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(MINUTE)
    assert process.exitcode == 0


def killed_in(work: Callable[[Callable[[], None]], None]) -> None:
    """Run ``work`` in a child with a function that kills it there."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=work, args=(die,))
    process.start()
    process.join(MINUTE)
    assert process.exitcode == -signal.SIGKILL


def errno_of(call: Callable[[], object]) -> int:
    """The number of the OSError that a call raises, 0 if it raises nothing."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def open_until_it_fails(held: list[int]) -> None:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))


@pytest.mark.parametrize("limit", [0, 10, 1000])
def test_a_short_write_fails_the_create(driver: Driver, home: Path, limit: int) -> None:
    """RLIMIT_FSIZE cuts a write as a full disk does: write(2) takes a part, and only the next one fails."""
    ids = build_chain(driver, 60)  # 60 lowers are 1,739 bytes
    before = everything_in(home)

    def create() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with pytest.raises(OSError, match="File too large"):
            driver.create("new", ids[-1])

    in_child(create)
    assert everything_in(home) == before
    driver.create("new", ids[-1])
    assert len((home / "new" / "lower").read_bytes()) == 60 * 29 - 1


def test_a_full_disk_fails_the_create(scratch: Path) -> None:
    home = scratch / "full" / "home"
    home.parent.mkdir()
    # Of 64 inodes, so that each create meets the limit at another of its steps.
    libc.mount("none", str(home.parent), "tmpfs", 0, b"size=4m,nr_inodes=64")
    with Driver(home) as driver:
        driver.create("base")
        number = 0
        while True:
            before = everything_in(home)
            if errno_of(partial(driver.create, f"layer-{number}", "base")) == errno.ENOSPC:
                break
            number += 1
            (home / "base" / "diff" / f"{number}").touch()  # an odd number of inodes a turn
        assert number > 3
        assert everything_in(home) == before
        driver.cleanup()
    libc.umount(str(home.parent))


def calls(driver: Driver, layer_id: str) -> list[Callable[[], object]]:
    return [
        lambda: driver.exists(layer_id),
        lambda: driver.get(layer_id),
        lambda: driver.put(layer_id),
        lambda: driver.remove(layer_id),
        lambda: driver.diff(layer_id, "layer-0"),
        lambda: driver.diff_size(layer_id, "layer-0"),
        lambda: driver.changes(layer_id, "layer-0"),
        lambda: driver.metadata(layer_id),
        lambda: driver.create("new", layer_id),
        lambda: driver.apply_diff(layer_id, "layer-0", io.BytesIO(bytes(1024))),
    ]


def test_what_may_not_be_looked_at_is_not_taken_for_missing(driver: Driver) -> None:
    """EACCES, of a process that gave up its rights after it had opened the home."""
    build_chain(driver, 2)

    def lose_rights() -> None:
        os.setresuid(65534, 65534, 65534)
        for call in calls(driver, "layer-1"):
            with pytest.raises(PermissionError):
                call()

    in_child(lose_rights)
    assert read(driver, "layer-1") == chain_content(2)


@pytest.mark.parametrize("name", ["lower", "lower-layers"])
def test_a_chain_that_cannot_be_looked_at_is_no_base_layer(driver: Driver, home: Path, name: str) -> None:
    """ELOOP: a symlink to itself. The bare upper would be a tree without its lowers."""
    build_chain(driver, 2)
    (home / "layer-1" / "lower").unlink()
    (home / "layer-1" / name).symlink_to(name)
    for call in (lambda: driver.get("layer-1"), lambda: driver.put("layer-1")):
        with pytest.raises(OSError, match="Too many levels"):
            call()
    with pytest.raises(errors.BrokenLayer, match="layer-1"):
        driver.diff("layer-1", "layer-0")


def test_too_many_open_files_are_an_error(driver: Driver) -> None:
    """EMFILE: neither a layer without a parent nor a damaged one."""
    build_chain(driver, 2)

    def open_all() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held: list[int] = []
        assert errno_of(lambda: open_until_it_fails(held)) == errno.EMFILE
        for call in calls(driver, "layer-1"):  # exists and a put of what is not mounted open nothing
            assert errno_of(call) in (0, errno.EMFILE)
        assert errno_of(lambda: driver.get("layer-1")) == errno.EMFILE
        for descriptor in held:
            os.close(descriptor)
        assert read(driver, "layer-1") == chain_content(2)

    in_child(open_all)


def test_a_short_link_is_not_left_by_a_swallowed_error(
    driver: Driver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_chain(driver, 2)

    def refuse(path: str) -> None:
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(trees, "remove_file", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        driver.remove("layer-1")
    monkeypatch.undo()
    assert read(driver, "layer-1") == chain_content(2)
    driver.remove("layer-1")
    assert all(path.exists() for path in (home / "l").iterdir())


def test_a_failed_short_link_fails_the_create(driver: Driver, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.create("base")
    before = everything_in(home)

    def refuse(_: str, path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(os, "symlink", refuse)
    with pytest.raises(OSError, match="No space"):
        driver.create("new", "base")
    monkeypatch.undo()
    assert everything_in(home) == before
    driver.create("new", "base")


@pytest.mark.parametrize("call", ["create", "remove", "apply_diff"])
def test_what_is_done_is_no_failure_when_clearing_up_fails(
    driver: Driver, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    build_chain(driver, 2)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))

    def refuse(*area: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(area))

    monkeypatch.setattr(Staging, "_discard", refuse)
    with caplog.at_level(logging.WARNING):
        match call:
            case "create":
                driver.create("new", "layer-1")
            case "remove":
                driver.remove("layer-1")
            case _:
                driver.apply_diff("layer-1", "layer-0", io.BytesIO(buffer.getvalue()))
    assert "cannot clear away" in caplog.text
    monkeypatch.undo()
    assert driver.exists("new") == (call == "create")
    assert driver.exists("layer-1") == (call != "remove")
    assert (home / "staging").exists()
    with Driver(home):
        assert not (home / "staging").exists()


def test_a_killed_count_is_the_one_before_or_the_one_after(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    for _ in range(100):
        driver.get("layer-1")

    def put(die: Callable[[], None]) -> None:
        original = os.write

        def write(fd: int, data: bytes) -> int:
            written = original(fd, data)
            die()
            return written

        os.write = write  # type: ignore[assignment]
        driver.put("layer-1")

    killed_in(put)
    for _ in range(98):
        driver.put("layer-1")
    assert len(mounted_below(home)) == 1
    driver.put("layer-1")
    assert mounted_below(home) == []


@pytest.mark.parametrize("left", range(21))
def test_a_count_that_was_cut_short_is_not_misread(driver: Driver, home: Path, left: int) -> None:
    """A first write that is cut: the mount had one use. A later one is over 20 bytes that are there."""
    build_chain(driver, 2)
    driver.get("layer-1")
    counts = ReferenceCounts(str(home))
    counts.store("layer-1", 1234567890123456789)
    (path,) = home.glob(".refdriver.uses-*")
    assert path.stat().st_size == 20
    os.truncate(path, left)
    assert counts.count("layer-1", f"{home}/layer-1/merged") == (1234567890123456789 if left == 20 else 1)
    path.unlink()
    driver.put("layer-1")


def read_and_die(driver: Driver, what: str, die: Callable[[], None]) -> None:
    """Begin to diff, list or measure a layer's whole tree, and be killed while it is mounted for that."""
    match what:
        case "diff":
            stream = driver.diff("layer-1")
            stream.read(1)
            die()
        case "changes":
            from refdriver import reading as module

            module.tree_changes = lambda *_: die()  # type: ignore[attr-defined, assignment]
            driver.changes("layer-1")
        case _:
            from refdriver import reading as module

            module.changes_size = lambda *_: die()  # type: ignore[attr-defined, assignment]
            driver.diff_size("layer-1")


@pytest.mark.parametrize("what", ["diff", "changes", "diff_size"])
@pytest.mark.parametrize("after", ["apply", "cleanup", "get", "diff"])
def test_a_killed_reader_leaves_no_use(driver: Driver, home: Path, what: str, after: str) -> None:
    build_chain(driver, 2)
    driver.create("archive")
    with driver.diff("layer-1", "layer-0") as stream:
        archive = stream.read()
    killed_in(lambda die: read_and_die(driver, what, die))
    assert mounted_below(home) == [f"{home}/layer-1/merged"]
    match after:
        case "apply":
            driver.apply_diff("layer-1", "layer-0", io.BytesIO(archive))
        case "cleanup":
            driver.cleanup()
            assert f" {home} " not in Path("/proc/self/mountinfo").read_text()
        case "get":
            assert read(driver, "layer-1") == chain_content(2)
        case _:
            with driver.diff("layer-1") as stream:
                stream.read()
    assert mounted_below(home) == []


def test_a_reader_that_lives_keeps_its_mount(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    with Driver(home) as other, driver.diff("layer-1") as stream:
        first = stream.read(512)
        with pytest.raises(errors.LayerInUse):
            other.apply_diff("layer-1", "layer-0", io.BytesIO())
        with pytest.raises(errors.LayerInUse):
            other.cleanup()
        other.get("layer-1")
        with other.diff("layer-1") as beside:
            whole = beside.read()
        other.put("layer-1")
        other.put("layer-1")  # one too many
        assert mounted_below(home) == [f"{home}/layer-1/merged"]
        assert first + stream.read() == whole
    assert mounted_below(home) == []
    driver.get("layer-1")
    with driver.diff("layer-1") as stream:
        stream.read()
    assert mounted_below(home) == [f"{home}/layer-1/merged"]
    driver.put("layer-1")
    assert mounted_below(home) == []


def test_a_write_that_takes_less_goes_on(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: original(fd, data[:3]))
    files.create_synced(f"{scratch}/file", b"0123456789", 0o644)
    assert (scratch / "file").read_bytes() == b"0123456789"
    assert files.read_whole(f"{scratch}/file", 20) == b"0123456789"
    assert files.read_whole(f"{scratch}/file", 4) == b"01234"
    assert files.read_whole(f"{scratch}/file/below", 4) is None
