"""Diffs, and what becomes of them when they are applied."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import ops
from conformance.model import Snapshot
from conformance.plugin import Bench
from conformance.strategies import STANDARD, chains
from conformance.workbench import Deviation, Workbench, members, same_tree


def entry_names(archive: Path) -> list[str]:
    """The names of an archive without what writers put around them."""
    return [
        member.name.removeprefix("./").rstrip("/") for member in members(archive) if member.name not in (".", "./")
    ]


def copy_layer(store: Workbench, copy: Workbench, layer_id: str) -> tuple[int | None, Path]:
    """Bring a layer into another store by its diff; the size that was reported, and the archive."""
    archive = store.diff(layer_id)
    copy.create(layer_id, store.parent_of(layer_id))
    return copy.apply(layer_id, archive), archive


@pytest.mark.requirement("OVL-APPLY-ROUND-TRIP", "OVL-APPLY-FILE-TIMES")
@given(data=st.data())
def test_a_chain_survives_diff_and_apply(bench: Bench, data: st.DataObject) -> None:
    chain = data.draw(chains(privileged=bench.privileged))
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            copy_layer(store, copy, layer_id)
            original = store.check_tree(layer_id)
            same_tree(f"{layer_id} after diff and apply", original, copy.observed(layer_id), times="files")


@pytest.mark.requirement("OVL-APPLY-HARD-LINKS")
def test_hard_links_of_a_layer_survive(bench: Bench) -> None:
    linked: list[ops.Operation] = [
        ops.CreateFile(b"new", b"new", 0o644),
        ops.MakeHardLink(b"d/same", b"new"),
        ops.MakeHardLink(b"and again", b"new"),
        ops.MakeSymlink(b"symlink", b"missing"),
        ops.MakeHardLink(b"same symlink", b"symlink"),
        ops.MakeFifo(b"fifo", 0o600),
        ops.MakeHardLink(b"same fifo", b"fifo"),
        # A lower file that gets a second name is copied up, and both names come from this layer.
        ops.MakeHardLink(b"second name", b"a"),
    ]
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build([STANDARD, linked]):
            copy_layer(store, copy, layer_id)
            same_tree(
                f"{layer_id} after diff and apply",
                store.check_tree(layer_id),
                copy.observed(layer_id),
                times="none",
            )


@pytest.mark.requirement("OVL-APPLY-WHOLE-TREE")
@given(data=st.data())
def test_a_whole_tree_survives_diff_and_apply(bench: Bench, data: st.DataObject) -> None:
    chain = data.draw(chains(privileged=bench.privileged))
    with bench.store("origin") as store, bench.store("copy") as copy:
        top = store.build(chain)[-1]
        archive = store.diff(top, "")
        copy.create("flat")
        copy.apply("flat", archive)
        same_tree(f"the whole tree of {top}", store.observed(top), copy.observed("flat"), times="files")


@pytest.mark.requirement("OVL-APPLY-TWICE")
@given(data=st.data())
def test_applying_twice_is_applying_once(bench: Bench, data: st.DataObject) -> None:
    chain = data.draw(chains(privileged=bench.privileged, least=2))
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            _, archive = copy_layer(store, copy, layer_id)
            once = copy.observed(layer_id)
            copy.apply(layer_id, archive)
            same_tree(f"{layer_id}, applied twice,", once, copy.observed(layer_id), times="files")


@pytest.mark.requirement("OVL-DIFF-TAR", "OVL-DIFF-DETERMINISTIC", "OVL-WHITEOUT-IN-DIFF", "OVL-DIFF-MINIMAL")
@given(data=st.data())
def test_a_diff_is_an_archive_of_what_changed(bench: Bench, data: st.DataObject) -> None:
    chain = data.draw(chains(privileged=bench.privileged))
    with bench.store() as store:
        for layer_id in store.build(chain):
            archive = store.diff(layer_id)
            if archive.read_bytes() != store.diff(layer_id).read_bytes():
                raise Deviation(f"two diffs of {layer_id} have different bytes")
            check_names(store, layer_id, archive)


def check_names(store: Workbench, layer_id: str, archive: Path) -> None:
    names = entry_names(archive)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise Deviation(f"the diff of {layer_id} holds these names more than once: {twice}")
    for member in members(archive):
        own = [key for key in member.pax_headers if "trusted.overlay." in key]
        if own:
            raise Deviation(f"the diff of {layer_id} carries overlay's own {own} on {member.name}")
    before = store.expected(store.parent_of(layer_id))
    after = store.expected(layer_id)
    deletes_what_is_gone(layer_id, set(names), before, after)
    brings_what_is_new(layer_id, set(names), before, after)


def deletes_what_is_gone(layer_id: str, names: set[str], before: Snapshot, after: Snapshot) -> None:
    for path in before.nodes.keys() - after.nodes.keys():
        parent, _, name = os.fsdecode(path).rpartition("/")
        above = os.fsencode(parent)
        if parent and (above not in after.nodes or not after.nodes[above].is_directory):
            continue  # gone with its directory
        inside = f"{parent}/" if parent else ""
        if not {f"{inside}.wh.{name}", f"{inside}.wh..wh..opq"} & names and not _replaced(above, names):
            raise Deviation(
                f"{path!r} was deleted in {layer_id}, and its diff holds no whiteout for it: {sorted(names)}"
            )


def _replaced(directory: bytes, names: set[str]) -> bool:
    """Whether a directory above is opaque, which deletes everything in it."""
    parts = os.fsdecode(directory).split("/")
    return any("/".join([*parts[:end], ".wh..wh..opq"]) in names for end in range(1, len(parts) + 1))


def brings_what_is_new(layer_id: str, names: set[str], before: Snapshot, after: Snapshot) -> None:
    for path, node in after.nodes.items():
        if before.nodes.get(path) != node and not node.is_directory and os.fsdecode(path) not in names:
            raise Deviation(f"{path!r} is new or changed in {layer_id} and not in its diff: {sorted(names)}")


@pytest.mark.requirement("OVL-DIFF-MINIMAL")
def test_an_untouched_layer_has_an_empty_diff(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, ()])
        names = entry_names(store.diff("layer-1"))
        if names:
            raise Deviation(f"nothing was done in layer-1, and its diff holds {names}")


@pytest.mark.requirement("OVL-DIFF-MINIMAL")
def test_a_mkdir_makes_no_needless_whiteout(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.MakeDirectory(b"new", 0o755), ops.MakeDirectory(b"d/new", 0o755)]])
        names = entry_names(store.diff("layer-1"))
        if {name for name in names if ".wh." in name and not name.endswith(".wh..wh..opq")}:
            raise Deviation(f"only directories were made in layer-1, and its diff deletes: {names}")
        if set(names) - {"new/.wh..wh..opq", "d/new/.wh..wh..opq"} != {"new", "d", "d/new"}:
            raise Deviation(f"expected new, d and d/new in the diff of layer-1, got {names}")


def refuses_the_first(bench: Bench, what: str, length_of: Callable[[int], int]) -> None:
    """An archive of one file is refused when it is cut; ``length_of`` takes where its content begins."""
    content = b"start" + bytes(range(256)) * 156
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.create("base")
        store.change("base", [ops.CreateFile(b"big", content, 0o644)])
        archive = store.diff("base")
        data = archive.read_bytes()
        length = length_of(data.index(content))
        copy.create("base")
        archive.write_bytes(data[:length])
        copy.must_refuse(f"apply only its first {length} bytes ({what})", call=lambda: copy.apply("base", archive))


@pytest.mark.requirement("OVL-APPLY-TRUNCATED")
def test_an_archive_cut_in_a_header_is_refused(bench: Bench) -> None:
    refuses_the_first(bench, "half a header", lambda start: start - 200)


@pytest.mark.requirement("OVL-APPLY-TRUNCATED")
def test_an_archive_cut_in_a_file_is_refused(bench: Bench) -> None:
    refuses_the_first(bench, "half a file", lambda start: start + 20_000)


@pytest.mark.requirement("OVL-APPLY-NO-END")
def test_an_archive_without_an_end_is_refused(bench: Bench) -> None:
    refuses_the_first(bench, "all of the file, and no end of the archive", lambda start: start + 40_448)


@pytest.mark.requirement("OVL-SIZE-DIFF")
def test_sizes_count_what_a_diff_brings(bench: Bench) -> None:
    above: list[ops.Operation] = [
        ops.Unlink(b"a"),
        ops.CreateFile(b"new", b"n" * 300, 0o644),
        ops.MakeHardLink(b"same", b"new"),
        ops.CreateFile(b"empty", b"", 0o644),
        ops.MakeDirectory(b"directory", 0o755),
    ]
    with bench.store("origin") as store:
        store.build([[ops.CreateFile(b"a", b"a" * 1000, 0o644)], above])
        for layer_id, wanted in (("layer-0", 1000), ("layer-1", 300)):
            store.tell(f"diff-size of {layer_id}")
            said = store.driver.diff_size(layer_id, store.parent_of(layer_id))
            if said != wanted:
                raise Deviation(f"the diff of {layer_id} brings {wanted} bytes, and diff-size says {said}")
