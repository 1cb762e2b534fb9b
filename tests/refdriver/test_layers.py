from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import build_chain, chain_content, everything_in, mounted_below, read, write

from refdriver import Driver, IdMap, errors

pytestmark = pytest.mark.mounts

BAD_IDS = ["", "a/b", "/a", "..", "../a", "a..b", "a\0b", "l", ".refdriver", ".", "x" * 256]
BAD_IDS += ["backingFsBlockDev", "staging", "tempdirs"]


def mode_of(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


def test_a_base_layer_on_disk(driver: Driver, home: Path) -> None:
    os.umask(0o077)
    try:
        driver.create("base")
    finally:
        os.umask(0o022)
    assert {path.name for path in (home / "base").iterdir()} == {"diff", "link", "work", "empty"}
    assert (mode_of(home / "base" / "work"), mode_of(home / "base" / "empty")) == ("0o700", "0o700")
    link = (home / "base" / "link").read_bytes()
    assert re.fullmatch(rb"[A-Z2-7]{26}", link)
    assert os.readlink(home / "l" / link.decode()) == "../base/diff"
    assert (mode_of(home), mode_of(home / "l"), mode_of(home / "base")) == ("0o700", "0o700", "0o700")
    assert mode_of(home / "base" / "diff") == "0o755"


def test_a_layer_with_a_parent_on_disk(driver: Driver, home: Path) -> None:
    ids = build_chain(driver, 3)
    top = home / ids[2]
    assert {path.name for path in top.iterdir()} == {"diff", "link", "lower", "work", "merged"}
    links = [(home / layer_id / "link").read_text() for layer_id in ids]
    assert (top / "lower").read_text() == f"l/{links[1]}:l/{links[0]}"
    assert (mode_of(top / "work"), mode_of(top / "merged"), mode_of(top / "lower")) == ("0o700", "0o700", "0o644")


def test_directories_belong_to_mapped_root(home: Path) -> None:
    ids = [IdMap(0, 100000, 1000)]
    with Driver(home, uid_maps=ids, gid_maps=[IdMap(0, 200000, 1000)]) as driver:
        driver.create("base")
        driver.create("child", "base")
        driver.get("child")
        made = [home, home / "l", *(home / "child" / name for name in (".", "diff", "work", "merged", "work/work"))]
        assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(100000, 200000)}
        driver.put("child")


@pytest.mark.parametrize("layer_id", BAD_IDS)
def test_ids_that_could_lead_elsewhere_are_refused_everywhere(driver: Driver, home: Path, layer_id: str) -> None:
    driver.create("base")
    before = everything_in(home)
    for call in (
        lambda: driver.create(layer_id),
        lambda: driver.create_read_write(layer_id),
        lambda: driver.remove(layer_id),
        lambda: driver.get(layer_id),
        lambda: driver.put(layer_id),
        lambda: driver.exists(layer_id),
        lambda: driver.metadata(layer_id),
        lambda: driver.diff(layer_id),
        lambda: driver.diff_size(layer_id),
        lambda: driver.changes(layer_id),
    ):
        with pytest.raises(errors.BadLayerId, match=re.escape(repr(layer_id))):
            call()
    if layer_id:  # an empty parent means none
        with pytest.raises(errors.BadLayerId):
            driver.create("child", layer_id)
    assert everything_in(home) == before


def test_a_failed_create_leaves_nothing(driver: Driver, home: Path) -> None:
    driver.create("base")
    before = everything_in(home)
    with pytest.raises(errors.LayerNotFound, match="missing"):
        driver.create("new", "missing")
    with pytest.raises(errors.LayerExists, match="base"):
        driver.create("base")
    with pytest.raises(errors.BadOption, match="size"):
        driver.create("new", "base", {"size": "10M"})
    with pytest.raises(errors.BadOption, match="colour"):
        driver.create("new", "base", {"colour": "red"})
    with pytest.raises(errors.QuotaFailed, match="pquota"):
        driver.create_read_write("new", "base", {"size": "10M"})
    assert everything_in(home) == before


def test_the_options_of_the_caller_are_left_alone(driver: Driver) -> None:
    options: dict[str, str] = {}
    driver.create_read_write("base", storage_options=options)
    assert options == {}


def test_128_lowers_are_the_limit(driver: Driver, home: Path) -> None:
    ids = build_chain(driver, 129)
    assert read(driver, ids[-1]) == chain_content(129)
    before = everything_in(home)
    with pytest.raises(errors.MaxDepthExceeded, match="max depth exceeded"):
        driver.create("one-too-many", ids[-1])
    assert everything_in(home) == before


def test_a_removed_layer_leaves_nothing(driver: Driver, home: Path) -> None:
    driver.create("base")
    before = everything_in(home)
    driver.create("child", "base")
    write(driver, "child", file="text")
    driver.remove("child")
    assert everything_in(home) == before
    driver.remove("child")


def test_a_mounted_layer_can_be_removed(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    driver.get("layer-1")
    driver.remove("layer-1")
    assert not driver.exists("layer-1")
    assert mounted_below(home) == []
    driver.create("layer-1", "layer-0")
    assert read(driver, "layer-1") == chain_content(1)


def test_a_layer_under_others_is_not_removed(driver: Driver, home: Path) -> None:
    build_chain(driver, 3)
    driver.create("sibling", "layer-0")
    before = everything_in(home)
    with pytest.raises(errors.LayerInUse, match="layer-1, layer-2, sibling"):
        driver.remove("layer-0")
    assert everything_in(home) == before
    assert read(driver, "layer-2") == chain_content(3)


@pytest.mark.parametrize("content", ["", "/", ".", "..", "../base", "lower case", "A" * 25, "A" * 27, "\n"])
def test_a_malformed_link_file_removes_no_short_links(driver: Driver, home: Path, content: str) -> None:
    build_chain(driver, 2)
    driver.create("broken", "layer-0")
    short = (home / "broken" / "link").read_text()
    (home / "broken" / "link").write_text(content)
    before = everything_in(home)
    calls: tuple[Callable[[], None], ...] = (
        lambda: driver.remove("broken"),
        lambda: driver.create("new", "broken"),
    )
    for call in calls:
        with pytest.raises(errors.BrokenLayer, match=f"'broken'.*{short}"):
            call()
    assert everything_in(home) == before


def test_a_link_file_that_names_another_layer_does_not_cost_its_short_link(driver: Driver, home: Path) -> None:
    build_chain(driver, 2)
    driver.create("liar")
    (home / "liar" / "link").write_text((home / "layer-1" / "link").read_text())
    driver.remove("liar")
    assert (home / "l" / (home / "layer-1" / "link").read_text()).exists()


@pytest.mark.parametrize(
    "content",
    ["", ":", "l/", "../../etc", "l/../../etc", "/etc", "{link}:", "{link}:{link}", "{link}x", "\n{link}"],
)
def test_a_malformed_lower_file_is_refused_by_name(driver: Driver, home: Path, content: str) -> None:
    build_chain(driver, 2)
    link = "l/" + (home / "layer-0" / "link").read_text()
    (home / "layer-1" / "lower").write_text(content.format(link=link))
    for call in (
        lambda: driver.get("layer-1"),
        lambda: driver.metadata("layer-1"),
        lambda: driver.create("new", "layer-1"),
        lambda: driver.diff("layer-1", "layer-0"),
        lambda: driver.changes("layer-1", "layer-0"),
    ):
        with pytest.raises(errors.BrokenLayer, match="layer-1"):
            call()
    assert mounted_below(home) == []


def test_a_lower_that_is_gone_is_named(driver: Driver, home: Path) -> None:
    build_chain(driver, 3)
    short = (home / "layer-0" / "link").read_text()
    (home / "l" / short).unlink()
    (home / "layer-0" / "link").unlink()
    with pytest.raises(errors.BrokenLayer, match=short):
        driver.get("layer-2")
    (home / "l" / short).symlink_to("../../../etc")
    with pytest.raises(errors.BrokenLayer, match="etc"):
        driver.get("layer-2")


def test_metadata_and_status(driver: Driver, home: Path) -> None:
    build_chain(driver, 3)
    assert driver.metadata("layer-0").keys() == {"WorkDir", "MergedDir", "UpperDir"}
    assert driver.metadata("layer-2") == {
        "WorkDir": f"{home}/layer-2/work",
        "MergedDir": f"{home}/layer-2/merged",
        "UpperDir": f"{home}/layer-2/diff",
        "LowerDir": f"{home}/layer-1/diff:{home}/layer-0/diff",
    }
    with pytest.raises(errors.LayerNotFound, match="missing"):
        driver.metadata("missing")
    status = dict(driver.status())
    assert status.keys() == {"Backing Filesystem", "Supports d_type", "Native Overlay Diff"}
    assert status["Supports d_type"] == "true"


def test_deep_trees_can_be_removed(driver: Driver, home: Path) -> None:
    driver.create("base")
    fd = os.open(driver.get("base"), os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    driver.remove("base")
    assert list((home / "l").iterdir()) == []
    assert not (home / "staging").exists()


def test_a_base_layer_without_its_diff_is_refused(driver: Driver, home: Path) -> None:
    """A power cut can leave one; the path of a tree that is not there is no answer."""
    driver.create("base")
    (home / "base" / "diff").rmdir()
    with pytest.raises(errors.BrokenLayer, match=r"'base': it has no .*; remove and create it again"):
        driver.get("base")
    driver.remove("base")
    assert not driver.exists("base")
