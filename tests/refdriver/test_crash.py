"""Killed at any moment, the driver leaves a whole layer or none, and the next open clears the rest away.

A forked child is killed at its n-th audited operation (sys.addaudithook): opening, making, linking, renaming and
removing files, and every call into the C library, mounts among them. n goes up until the child gets through.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import build_chain, chain_content, everything_in, mounted_below, read

from refdriver import Driver

pytestmark = pytest.mark.mounts

# "ctypes.call_function" is missing on purpose: CPython raises it only for calls made through raw addresses.
FATAL = ("os.", "open", "shutil.", "ctypes.dlsym")


def killed_at(moment: int, work: Callable[[], None]) -> bool:
    """Run ``work`` in a child that dies at its ``moment``-th operation; whether it died of that."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, _: tuple[object, ...]) -> None:
            nonlocal seen
            if event.startswith(FATAL):
                seen += 1
                if seen == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def layer_archive() -> bytes:
    """An archive of some entries, one of which replaces a file of :func:`build_chain`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("directory/a", "directory/b", "top"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return buffer.getvalue()


def every_moment(home: Path, work: Callable[[], None], check: Callable[[], None]) -> int:
    """Kill ``work`` at each of its moments in turn; ``check`` what a new driver finds, and put it back."""
    moment = 1
    while killed_at(moment, work):
        check()
        assert not (home / "staging").exists()
        assert all(path.exists() for path in (home / "l").iterdir()), "a short link leads nowhere"
        assert mounted_below(home) == []
        moment += 1
    return moment


def test_a_killed_create(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    before = everything_in(home)

    def create() -> None:
        with Driver(home) as own:
            own.create("new", "layer-1")

    def check() -> None:
        with Driver(home) as after:
            if after.exists("new"):
                assert read(after, "new") == chain_content(2)
                after.remove("new")
            assert everything_in(home) == before

    assert every_moment(home, create, check) > 20


def test_a_layer_on_one_that_a_kill_left_without_short_link(driver: Driver, home: Path) -> None:
    """The short link is there before the layer that names it."""
    driver.create("base")
    short = home / "l" / (home / "base" / "link").read_text()
    short.unlink()
    driver.create("child", "base")
    assert os.readlink(short) == "../base/diff"


def test_a_killed_remove(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    before = everything_in(home)

    def remove() -> None:
        with Driver(home) as own:
            own.remove("new")

    def check() -> None:
        with Driver(home) as after:
            if after.exists("new"):
                assert read(after, "new") == chain_content(2)
                after.remove("new")
            assert everything_in(home) == before
            after.create("new", "layer-1")

    driver.create("new", "layer-1")
    assert every_moment(home, remove, check) > 15


@pytest.mark.parametrize("parent", ["layer-1", ""], ids=["native", "merged"])
@pytest.mark.parametrize("filled", [False, True], ids=["empty layer", "filled layer"])
def test_a_killed_apply(driver: Driver, home: Path, parent: str, filled: bool) -> None:
    build_chain(driver, 2)
    driver.create("new", "layer-1")
    if filled:
        (home / "new" / "diff" / "old").write_text("old")
        (home / "new" / "diff" / "directory").mkdir()
        (home / "new" / "diff" / "directory" / "kept").touch()
    before = everything_in(home / "new" / "diff")
    archive = layer_archive()

    def apply() -> None:
        with Driver(home) as own:
            own.apply_diff("new", parent, io.BytesIO(archive))

    apply()
    whole = everything_in(home / "new" / "diff")
    assert whole > before

    def check() -> None:
        with Driver(home) as after:
            found = everything_in(home / "new" / "diff")
            assert found in (before, whole)
            if found == whole:
                assert read(after, "new")["top"] == "top"
            make_again(after)

    def make_again(after: Driver) -> None:
        after.remove("new")
        after.create("new", "layer-1")
        if filled:
            (home / "new" / "diff" / "old").write_text("old")
            (home / "new" / "diff" / "directory").mkdir()
            (home / "new" / "diff" / "directory" / "kept").touch()

    make_again(driver)
    assert every_moment(home, apply, check) > 30


def test_what_a_live_process_is_making_is_not_swept(driver: Driver, home: Path) -> None:
    """An apply that is still reading its archive survives another process opening the home."""
    driver.create("base")
    archive = layer_archive()

    class SlowArchive(io.RawIOBase):
        def __init__(self) -> None:
            self._rest = io.BytesIO(archive)
            self._opened = False

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the type of a raw stream
            if not self._opened:
                self._opened = True
                with Driver(home):
                    pass
            return self._rest.readinto(buffer)

    driver.apply_diff("base", "", SlowArchive())
    assert read(driver, "base") == {"top": "top"}
