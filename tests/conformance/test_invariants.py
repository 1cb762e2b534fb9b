"""What is compared after every call, as functions of what was there before and after."""

from __future__ import annotations

import mmap
import os
import signal
import threading
from pathlib import Path

import pytest

from conformance.drivers.processes import forget_peak, memory_of, state_of
from conformance.harness.invariants import FILES, MOUNTS, Broken, Found, files_broken, mounts_broken
from conformance.harness.stores import Uppers
from conformance.history.calls import Call, Create, Exists, Get, Put, Remove
from conformance.lab import namespace

DIRECTORY = (0o040755, 0, 0, 0)
FILE = (0o100644, 0, 0, 7, 1, 26, 0, 0)
HOME = {"l": DIRECTORY, "one": DIRECTORY, "one/diff": DIRECTORY, "one/link": FILE}


def mounts(call: Call, before: list[str], after: list[str], kind: str = "done") -> list[str]:
    found = mounts_broken(call, kind, "it", before, after, {"/h/a": "a", "/h/b": "b"})
    return [one.kind.partition(": ")[2] for one in found]


def files(call: Call, after: dict[str, tuple[int, ...]], kind: str = "done") -> list[str]:
    return [one.kind.partition(": ")[2] for one in files_broken(call, kind, "it", HOME, after)]


def test_only_get_adds_a_mount_and_only_put_and_remove_end_one() -> None:
    assert mounts(Get("a"), [], ["/h/a"]) == []
    assert mounts(Get("a"), [], ["/h/a", "/h/b"]) == ["mounts"]
    assert mounts(Get("a"), ["/h/a"], ["/h/a", "/h/a"]) == ["twice"]
    assert mounts(Get("a"), [], ["/h/a"], "refused") == ["mounts"]
    assert mounts(Put("a"), ["/h/a"], []) == []
    assert mounts(Put("a"), ["/h/a", "/h/b"], []) == ["unmounts", "another"]
    assert mounts(Put("a"), ["/h/a", "/h/b"], ["/h/a"]) == ["another"]
    assert mounts(Remove("a"), ["/h/unknown"], []) == []
    assert mounts(Exists("a"), ["/h/a"], []) == ["unmounts"]
    assert mounts(Remove("a"), ["/h/a/merged"], []) == []
    assert mounts(Remove("a"), ["/h/a/merged"], ["/h/a/merged"]) == ["still"]


def test_a_call_touches_its_own_layer_only() -> None:
    two = {"two": DIRECTORY, "two/diff": DIRECTORY, "l/TWO": FILE}
    assert files(Create("two"), HOME | two) == []
    assert [*files_broken(Create("two"), "done", "it", {}, {"l": DIRECTORY} | two)] == []
    assert files(Create("two"), HOME | two | {"l/MORE": FILE}) == ["added"]
    assert files(Create("two"), HOME | two, "refused") == ["added"]
    assert files(Exists("one"), HOME | {"one/link": (*FILE[:-1], 1)}) == ["changed"]
    assert files(Remove("two"), {"l": DIRECTORY}) == ["removed"]
    assert files(Get("one"), HOME | {"staging": DIRECTORY, "staging/one": DIRECTORY}) == []
    assert files(Exists("one"), HOME | {"staging": DIRECTORY}) == ["added"]


def test_a_path_that_is_taken_as_an_id_is_judged_elsewhere() -> None:
    """OVL-LIFE-BAD-ID says that it is refused; the files that then come or go are no second finding."""
    two = {"two": DIRECTORY, "two/diff": DIRECTORY}
    assert files(Create("/two"), HOME | two) == []
    assert files(Create("../two"), HOME | two) == []
    assert files(Remove("one/"), {"l": DIRECTORY}) == []
    assert files(Create("/two"), HOME | two, "refused") == ["added"]


def test_one_cause_is_reported_by_the_test_that_found_it() -> None:
    found, first, second = Found(), object(), object()
    assert found.is_news(Broken(FILES, "Get: added", "it"), first)
    assert not found.is_news(Broken(FILES, "Get: added", "again"), second)
    assert found.is_news(Broken(FILES, "Get: added", "when it shrinks"), first)
    assert found.is_news(Broken(MOUNTS, "Get: added", "another"), second)


def test_what_the_process_keeps_is_compared() -> None:
    """The kernel and the host say it; a serving process's threads and signals are its runtime's business."""
    own = state_of(os.getpid())
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        thread.start()
        more, serving = state_of(os.getpid()), state_of(os.getpid(), serves=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        stop.set()
        thread.join()
    assert more.threads == own.threads + 1
    assert more.blocked == own.blocked | 1 << (signal.SIGUSR2 - 1)
    assert (serving.threads, serving.blocked) == (0, 0)


def test_the_peak_of_memory_is_forgotten() -> None:
    """What was taken and given back counts until then, and what is taken later counts anew."""
    size = 64 << 20
    with mmap.mmap(-1, size) as taken:
        taken.write(b"x" * size)
    before = memory_of(os.getpid())
    assert before.peak - before.resident > size // 2
    assert forget_peak(os.getpid())
    after = memory_of(os.getpid())
    assert after.peak - after.resident < size // 2
    assert not forget_peak(2**22 + 1)  # no process has that id (proc(5), pid_max)


@pytest.mark.parametrize(
    ("again", "shared"),
    [
        (["0:50", "0:51"], "/home/layer/diff"),
        (["0:51"], ""),  # it was unmounted and mounted again while the list was read
        (["0:51", "0:52"], ""),
    ],
)
def test_two_mounts_of_one_upper_are_seen_twice(
    monkeypatch: pytest.MonkeyPatch, again: list[str], shared: str
) -> None:
    looks = iter([["0:50", "0:51"], again])

    def overlays_below(_: Path) -> list[tuple[str, str, str]]:
        return [("/home/layer/merged", "/home/layer/diff", device) for device in next(looks)]

    monkeypatch.setattr(namespace, "overlays_below", overlays_below)
    uppers = Uppers(Path("/home"))
    uppers.look()
    assert uppers.shared == shared
