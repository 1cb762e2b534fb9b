"""A removal reads the other layers only where there may be children, whoever changed the home meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from refdriver import Driver, errors, layers, trees
from refdriver.kinship import Kinship
from refdriver.layers import LayerStore
from refdriver.linux import libc

pytestmark = pytest.mark.mounts


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of layers that are read, as ``ID/NAME``."""
    found: list[str] = []
    original = layers._read_small

    def reading(layer: layers.Layer, name: str) -> str | None:
        found.append(f"{layer.layer_id}/{name}")
        return original(layer, name)

    monkeypatch.setattr(layers, "_read_small", reading)
    return found


def warm(driver: Driver) -> None:
    """Let a driver know all layers."""
    driver.create("first")
    driver.remove("first")


def refuses(driver: Driver, layer_id: str, *children: str) -> None:
    with pytest.raises(errors.LayerInUse, match=f"removed: {', '.join(children)} are built on it"):
        driver.remove(layer_id)


def test_a_removal_reads_no_other_layer(driver: Driver, read: list[str]) -> None:
    driver.create("base")
    for number in range(10):
        driver.create(f"layer-{number}", "base")
    driver.remove("layer-0")
    assert "layer-9/lower" in read
    read.clear()
    driver.create("new", "base")
    driver.remove("new")
    driver.remove("layer-1")
    driver.create("parent", "base")
    driver.create("child", "parent")
    driver.remove("child")
    driver.remove("parent")
    assert {name.partition("/")[0] for name in read} == {"base", "new", "layer-1", "parent", "child"}
    refuses(driver, "base", *(f"layer-{number}" for number in range(2, 10)))


def test_children_count_until_the_last_is_gone(driver: Driver) -> None:
    warm(driver)
    driver.create("base")
    driver.create("middle", "base")
    driver.create("top", "middle")
    refuses(driver, "base", "middle", "top")
    refuses(driver, "middle", "top")
    driver.remove("top")
    driver.remove("middle")
    driver.remove("base")
    assert not driver.exists("base")


def other_driver(home: Path) -> None:
    with Driver(home) as other:
        other.create("child", "base")


def by_hand(home: Path) -> None:
    """As containers-storage and the Go driver do it, without any of this driver's locks."""
    short = "B" * 26
    (home / "child" / "diff").mkdir(parents=True)
    (home / "l" / short).symlink_to("../child/diff")
    (home / "child" / "link").write_text(short)
    (home / "child" / "lower").write_text("l/" + (home / "base" / "link").read_text())


def from_a_backup(home: Path) -> None:
    """With the times of the short links' directory as they were."""
    before = os.stat(home / "l")
    by_hand(home)
    os.utime(home / "l", ns=(before.st_atime_ns, before.st_mtime_ns))


def without_a_short_link(home: Path) -> None:
    (home / "child").mkdir()
    (home / "child" / "lower").write_text("l/" + (home / "base" / "link").read_text())


@pytest.mark.parametrize("make", [other_driver, by_hand, from_a_backup, without_a_short_link])
def test_a_layer_that_somebody_else_makes_is_a_child(
    driver: Driver, home: Path, make: Callable[[Path], None]
) -> None:
    driver.create("base")
    warm(driver)
    make(home)
    refuses(driver, "base", "child")


def test_a_layer_that_somebody_else_removes_is_no_child(driver: Driver, home: Path) -> None:
    driver.create("base")
    driver.create("child", "base")
    driver.create("sibling", "base")
    refuses(driver, "base", "child", "sibling")
    with Driver(home) as other:
        other.remove("child")
    refuses(driver, "base", "sibling")
    shutil.rmtree(home / "sibling")
    driver.remove("base")


def test_the_clock_s_steps_do_not_hide_a_change(driver: Driver, home: Path) -> None:
    """Many changes of two drivers within one step of the kernel's clock."""
    driver.create("base")
    with Driver(home) as other:
        for number in range(50):
            warm(driver)
            other.create(f"child-{number}", "base")
            refuses(driver, "base", f"child-{number}")
            other.remove(f"child-{number}")
    driver.remove("base")


def test_a_create_that_is_killed_leaves_nobody_a_false_memory(
    driver: Driver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process dies at each of its steps; what this one remembers from before must not hide the child."""
    original = Kinship._look
    # As on btrfs, where a directory has one link whatever is in it.
    monkeypatch.setattr(Kinship, "_look", lambda kinship: (*original(kinship)[:-1], 1))
    driver.create("base")
    found = set()
    for moment in range(1, 200):
        warm(driver)
        child = os.fork()
        if child == 0:
            seen = 0

            def hook(event: str, _: tuple[object, ...]) -> None:
                nonlocal seen
                seen += event.startswith("os.")
                if seen == moment:  # noqa: B023 - the child lives for this moment alone
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            driver.create("child", "base")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        there, has_link = (home / "child").exists(), len(os.listdir(home / "l")) == 2
        found.add((there, has_link))
        if there:
            refuses(driver, "base", "child")
            driver.remove("child")
        with driver._locks.structure():
            assert driver._layers.built_on(driver._layers.find("base")) == []
        if not os.WIFSIGNALED(status):
            break
    assert found == {(False, False), (True, False), (True, True)}


def test_a_home_whose_directories_cannot_be_marked_is_read_each_time(
    driver: Driver, home: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.utime

    def refusing(path: str, *, ns: tuple[int, int] | None = None) -> None:
        if ns is not None and path == str(home / "l"):
            raise PermissionError(1, "Operation not permitted", path)
        original(path)

    monkeypatch.setattr(os, "utime", refusing)
    driver.create("base")
    driver.create("child", "base")
    for _ in range(2):
        read.clear()
        warm(driver)
        assert "child/lower" in read
    refuses(driver, "base", "child")


def test_a_clock_of_whole_seconds_is_not_relied_on(
    driver: Driver, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    monkeypatch.setattr("refdriver.kinship._DRAWN_FROM", 1)
    monkeypatch.setattr("refdriver.kinship._SECOND", 999_999_999_999_999_999)
    driver.create("base")
    driver.create("child", "base")
    warm(driver)
    read.clear()
    warm(driver)
    assert "child/lower" in read


def test_a_layer_whose_chain_was_edited_is_not_subtracted(driver: Driver, home: Path) -> None:
    driver.create("base")
    driver.create("other")
    driver.create("child", "base")
    driver.create("edited", "other")
    warm(driver)
    (home / "edited" / "lower").write_text("l/" + (home / "base" / "link").read_text())
    driver.remove("edited")
    refuses(driver, "base", "child")
    driver.remove("other")


@pytest.mark.parametrize("what", ["", "/file"], ids=["directory", "file"])
def test_a_removal_of_a_tree_never_enters_a_mount(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The list of mounts is not asked before, and what is mounted keeps its content."""
    for directory in ("kept", "tree/diff/mounted", "tree/diff/below"):
        (scratch / directory).mkdir(parents=True)
    (scratch / "kept" / "file").write_text("kept")
    (scratch / "tree/diff/mounted/file").touch()
    libc.mount(f"{scratch}/kept{what}", f"{scratch}/tree/diff/mounted{what}", None, libc.MS_BIND, None)
    with monkeypatch.context() as patched:
        patched.setattr(trees, "unmount_below", lambda _: False)
        patched.setattr(trees, "_BUSY_PAUSE", 0)
        with pytest.raises(OSError, match="busy"):
            trees.remove_tree(str(scratch / "tree"))
    assert (scratch / "kept" / "file").read_text() == "kept"
    trees.remove_tree(str(scratch / "tree"))
    assert not (scratch / "tree").exists()
    assert (scratch / "kept" / "file").read_text() == "kept"


def test_a_create_and_a_removal_ask_for_no_mounts(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: str) -> bool:
        raise AssertionError(path)

    monkeypatch.setattr(trees, "unmount_below", failing)
    driver.create("base")
    driver.create("layer", "base")
    (Path(driver.get("layer")) / "d").mkdir()
    driver.put("layer")
    driver.remove("layer")


def test_a_missing_lower_is_named_when_the_kernel_has_refused_it(driver: Driver, home: Path) -> None:
    driver.create("base")
    driver.create("layer", "base")
    shutil.rmtree(home / "base" / "diff")
    with pytest.raises(errors.BrokenLayer, match="its lower 'base' has no"):
        driver.get("layer")
    assert LayerStore(str(home), (), (0, 0)).exists("base")
