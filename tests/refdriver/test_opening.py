"""Opening, cleanup and mounting by several processes: the home is mounted once, and no tree is torn away.

Each race is made certain: one process stops at a system call, by a patched function, until the other is done or
waits for a lock.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from helpers import build_chain, chain_content, mounted_below, read

from refdriver import Driver, errors
from refdriver.linux import libc, mountinfo

pytestmark = pytest.mark.mounts

PROCESSES = 8
ROUNDS = 10
MINUTE = 60.0  # seconds; nothing here takes that long


def binds_of(home: Path) -> int:
    """How many mounts lie on the home itself."""
    return sum(mount.target == str(home) for mount in mountinfo.read_mounts())


class Stopped:
    """A child that does ``work``, and stops in it where ``libc.NAME`` is called with ``matching`` arguments."""

    def __init__(self, work: Callable[[], None], name: str, matching: Callable[[tuple[object, ...]], bool]) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=self._run, args=(theirs, work, name, matching)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @staticmethod
    def _run(
        pipe: Connection, work: Callable[[], None], name: str, matching: Callable[[tuple[object, ...]], bool]
    ) -> None:
        original = getattr(libc, name)

        def stopping(*args: object) -> object:
            if matching(args):
                pipe.send("here")
                pipe.recv()
            return original(*args)

        setattr(libc, name, stopping)
        work()
        pipe.send("done")

    def reach(self) -> bool:
        """Wait until it stops, or is done; whether it stopped."""
        assert self._ours.poll(MINUTE)
        return bool(self._ours.recv() == "here")

    def finish(self) -> None:
        self._ours.send("go on")
        while self.reach():
            self._ours.send("go on")
        self._process.join(MINUTE)
        assert self._process.exitcode == 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._process.join(MINUTE)


def run_beside(stopped: Stopped, work: Callable[[], None]) -> None:
    """Run ``work`` in a child while another is stopped, as far as it comes; then let both finish."""
    beside = multiprocessing.get_context("fork").Process(target=work)
    beside.start()
    assert beside.pid is not None
    end = time.monotonic() + MINUTE
    while beside.is_alive() and not is_blocked(beside.pid):
        assert time.monotonic() < end
        os.sched_yield()
    stopped.finish()
    beside.join(MINUTE)
    assert beside.exitcode == 0


def is_blocked(pid: int) -> bool:
    """Whether a process is in fcntl(2), where it waits for a lock (/proc/locks names no process for such locks)."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[:1] == [str(FCNTL)]


FCNTL = {"x86_64": 72, "aarch64": 25}[os.uname().machine]


def test_two_openings_mount_the_home_once(home: Path) -> None:
    def open_it() -> None:
        Driver(home).close()

    first = Stopped(open_it, "mount", lambda args: args[1] == str(home) and args[3] == libc.MS_BIND)
    assert first.reach()
    run_beside(first, open_it)
    assert binds_of(home) == 1
    with Driver(home) as driver:
        driver.cleanup()
    assert binds_of(home) == 0


def test_an_opening_waits_for_a_get(home: Path) -> None:
    """A second mount of the home would hide the first one's layers, and a get there mount them again."""
    with Driver(home) as driver:
        build_chain(driver, 2)
        driver.cleanup()

    def get() -> None:
        with Driver(home) as driver:
            driver.get("layer-1")

    first = Stopped(get, "mount", lambda args: args[1] == str(home) and args[3] == libc.MS_BIND)
    assert first.reach()
    run_beside(first, get)
    assert mounted_below(home) == [f"{home}/layer-1/merged"]
    with Driver(home) as driver:
        driver.put("layer-1")
        assert mounted_below(home) == [f"{home}/layer-1/merged"]
        driver.put("layer-1")
        driver.cleanup()


def test_cleanup_tears_no_tree_away(home: Path) -> None:
    with Driver(home) as driver:
        build_chain(driver, 2)

    def clean_up() -> None:
        with Driver(home) as driver:
            try:
                driver.cleanup()
            except errors.LayerInUse:
                return

    def get() -> None:
        with Driver(home) as driver:
            assert (Path(driver.get("layer-1")) / "top").read_text() == "1"

    # It has seen that no layer is mounted, and is about to unmount the home.
    first = Stopped(clean_up, "umount", lambda args: args[0] == str(home))
    assert first.reach()
    run_beside(first, get)
    assert mounted_below(home) == [f"{home}/layer-1/merged"]
    assert binds_of(home) == 1
    with Driver(home) as driver:
        driver.put("layer-1")
        driver.cleanup()


def test_a_get_after_a_cleanup_by_another_mounts_privately(home: Path) -> None:
    with Driver(home) as driver:
        build_chain(driver, 2)
        with Driver(home) as other:
            other.cleanup()
        assert binds_of(home) == 0
        assert read(driver, "layer-1") == chain_content(2)
        assert binds_of(home) == 1
        driver.cleanup()


def test_an_opening_that_is_killed_while_it_holds_the_home_blocks_nobody(home: Path) -> None:
    def open_it() -> None:
        Driver(home).close()

    for name in ("mount", "umount"):
        first = Stopped(open_it, name, lambda args: args[0] != "none")
        if first.reach():
            first.kill()
    with Driver(home) as driver:
        assert binds_of(home) == 1
        driver.cleanup()


def test_an_opening_that_fails_takes_no_mount_from_one_beside_it(home: Path) -> None:
    """It undoes the mount of the home that it made, but not under the feet of one that was opened meanwhile."""
    with Driver(home) as driver:
        build_chain(driver, 2)
        driver.cleanup()

    def fail() -> None:
        original = os.listdir

        def refuse(path: str) -> list[str]:
            if path == str(home / "staging"):
                libc.unshare(0)  # where the test stops it
                raise OSError(5, "Input/output error", path)
            return original(path)

        os.listdir = refuse  # type: ignore[assignment]
        with pytest.raises(OSError, match="Input/output"):
            Driver(home)

    def get() -> None:
        with Driver(home) as driver:
            driver.get("layer-1")

    first = Stopped(fail, "unshare", lambda args: args[0] == 0)
    assert first.reach()
    run_beside(first, get)
    assert binds_of(home) == 1
    assert mounted_below(home) == [f"{home}/layer-1/merged"]
    with Driver(home) as driver:
        driver.put("layer-1")
        driver.cleanup()


def test_many_processes_open_a_fresh_home(scratch: Path) -> None:
    """The same without a hand in it: all at once, each with a get and a put."""
    context = multiprocessing.get_context("fork")
    for turn in range(ROUNDS):
        home = scratch / f"home-{turn}"
        with Driver(home) as driver:
            build_chain(driver, 2)
            driver.cleanup()
        barrier = context.Barrier(PROCESSES)

        def use(home: Path = home, barrier: object = barrier) -> None:
            barrier.wait()  # type: ignore[attr-defined]
            with Driver(home) as driver:
                assert read(driver, "layer-1") == chain_content(2)

        processes = [context.Process(target=use) for _ in range(PROCESSES)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(MINUTE)
            assert process.exitcode == 0
        assert binds_of(home) == 1
        with Driver(home) as driver:
            driver.cleanup()
        assert binds_of(home) == 0
