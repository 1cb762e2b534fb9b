"""How much a difference brings."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.drivers.protocol import DriverRefused
from conformance.harness.assertions import equal, size_of_diff
from conformance.harness.bench import Bench, Store
from conformance.harness.entries import members
from conformance.history.calls import DiffSize, Get, Put
from conformance.operations import archives, ops
from conformance.operations.lattice import SPARSE
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import chains
from conformance.operations.trees import Snapshot
from conformance.suites.changes import changes_of, explain
from conformance.suites.images import store_with_images


def says(store: Store, layer_id: str, wanted: int) -> None:
    """The driver says this size; raises Deviation."""
    said = store.do(DiffSize(layer_id, store.parent_of(layer_id)))
    size_of_diff(layer_id, said, wanted)


@pytest.mark.smoke
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
            says(store, layer_id, wanted)


@pytest.mark.requirement("OVL-SIZE-DIFF")
@given(data=st.data())
def test_the_size_of_a_base_is_that_of_its_files(bench: Bench, data: st.DataObject) -> None:
    base = bench.draw(data, chains(privileged=bench.privileged))[0]
    with bench.store() as store:
        store.build([base])
        says(store, "layer-0", size_of(store.expected("layer-0")))


@pytest.mark.requirement("OVL-SIZE-DIFF")
@given(data=st.data())
def test_the_size_against_any_layer_below_is_that_of_its_diff(bench: Bench, data: st.DataObject) -> None:
    bench.need("diff")
    chain = bench.draw(data, chains(privileged=bench.privileged, least=3))
    with bench.store() as store:
        *below, top = store.build(chain)
        for against in below[:-1]:
            entries = members(store.diff(top, against))
            brought = sum(one.size for one in entries if one.isreg())
            brought += sum(len(os.fsencode(one.linkname)) for one in entries if one.issym())
            said = store.do(DiffSize(top, against))
            size_of_diff(f"{top} against {against}", said, brought)


def size_of(tree: Snapshot) -> int:
    """The sum of the sizes of non-directories, each inode once; a symlink has the size of its target."""
    counted = {min(group) for group in tree.link_groups}
    linked = {path for group in tree.link_groups for path in group}
    nodes = [node for path, node in tree.nodes.items() if path not in linked or path in counted]
    return sum(len(node.content) + len(node.target) for node in nodes if not node.is_directory)


@pytest.mark.requirement("OVL-SIZE-EMPTY")
def test_nothing_has_no_size(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, ()])
        says(store, "layer-1", 0)


@pytest.mark.requirement("OVL-SIZE-WHITEOUTS")
def test_deletions_and_empty_files_have_no_size(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a"), ops.RemoveTree(b"d"), ops.CreateFile(b"empty", b"", 0o644)]])
        says(store, "layer-1", 0)


@pytest.mark.quick
@pytest.mark.requirement("OVL-SIZE-HARD-LINKS")
def test_an_inode_counts_once(bench: Bench) -> None:
    linked: list[ops.Operation] = [
        ops.CreateFile(b"x", b"x" * 5000, 0o644),
        *(ops.MakeHardLink(b"l%d" % n, b"x") for n in range(5)),
    ]
    with bench.store() as store:
        store.build([[], linked])
        says(store, "layer-1", 5000)


@pytest.mark.quick
@pytest.mark.requirement("OVL-SIZE-HOLES")
def test_holes_count(bench: Bench) -> None:
    with bench.store() as store:
        store.build([[], [ops.CreateFile(b"x", b"x", 0o644), ops.Truncate(b"x", 10_000_000)]])
        says(store, "layer-1", 10_000_000)


@pytest.mark.requirement("OVL-SIZE-HOLES")
def test_lengths_beyond_32_bits_and_8_gib_count(bench: Bench) -> None:
    """Without a block, and without bytes that the harness would have to hold."""
    lengths = dict.fromkeys(SPARSE)
    with bench.store() as store:
        store.create("layer-0")
        root = store.do(Get("layer-0"))
        try:
            for length in list(lengths):
                if not _made_sparse(f"{root}/{length}", length):
                    del lengths[length]
        finally:
            store.do(Put("layer-0"))
        store.beyond(f"sparse files of {', '.join(map(str, lengths))} bytes were made in layer-0")
        says(store, "layer-0", sum(lengths))


def _made_sparse(path: str, length: int) -> bool:
    """Whether the filesystem takes a file of this length."""
    with open(path, "xb") as file:
        try:
            file.truncate(length)
        except OSError as error:
            if error.errno not in (errno.EFBIG, errno.EINVAL, errno.ENOSPC):
                raise
            os.unlink(path)
            return False
    return True


@pytest.mark.requirement("OVL-SIZE-APPLIED")
@given(data=st.data())
def test_what_applying_says_is_the_size_of_the_diff(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store("origin") as store, bench.store("copy") as copy:
        for layer_id in store.build(chain):
            applied_as_sized(store, copy, layer_id)


def applied_as_sized(store: Store, copy: Store, layer_id: str) -> None:
    """Bring a layer to the copy, and compare what applying says with the size there; raises Deviation."""
    archive = store.diff(layer_id)
    copy.create(layer_id, store.parent_of(layer_id))
    said = copy.apply(layer_id, archive)
    size = copy.do(DiffSize(layer_id, copy.parent_of(layer_id)))
    equal(f"the size that applying {archive.name} to {layer_id} says", said, size)


@pytest.mark.smoke
@pytest.mark.requirement("OVL-SIZE-APPLIED")
def test_further_names_add_nothing(bench: Bench) -> None:
    linked: list[ops.Operation] = [
        ops.CreateFile(b"x", b"x" * 5000, 0o644),
        ops.MakeHardLink(b"y", b"x"),
        ops.MakeSymlink(b"z", b"x"),
    ]
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.build([linked])
        applied_as_sized(store, copy, "layer-0")


_OWN: Final = (
    archives.file("own", b"own" * 100),
    archives.hard_link("own-link", "own"),
    archives.symlink("own-symlink", "own"),
    archives.directory("own-directory"),
    archives.file("own-directory/f", b"f" * 1000),
    archives.directory("own-directory/d"),
    archives.file("own-directory/d/f", b"d" * 2000),
)
_REPLACING: Final[Mapping[str, Sequence[archives.Entry]]] = {
    "a file by a file": [archives.file("own", b"new")],
    "a file by a directory": [archives.directory("own"), archives.file("own/f", b"new")],
    "a file by the directory of an entry": [archives.file("own/f", b"new")],
    "a whiteout by the directory of an entry": [archives.whiteout(".wh.d"), archives.file("d/f", b"new")],
    "a symlink by a file": [archives.file("own-symlink", b"new")],
    "a directory by a file": [archives.file("own-directory", b"new")],
    "a directory by a symlink": [archives.symlink("own-directory", "own")],
    "a directory by a hard link": [archives.file("t", b"t"), archives.hard_link("own-directory", "t")],
    "a directory of a linked file": [
        archives.hard_link("h", "own-directory/d/f"),
        archives.whiteout("own-directory/.wh.d"),
        archives.directory("own-directory/d"),
    ],
    "a deleted file": [archives.whiteout(".wh.own")],
    "a deleted directory": [archives.whiteout(".wh.own-directory")],
    "what an opaque whiteout hides": [
        archives.directory("own-directory"),
        archives.whiteout("own-directory/.wh..wh..opq"),
    ],
    "a file twice": [archives.file("x", b"first"), archives.file("x", b"the second")],
    "nothing": [archives.file("x", b"x")],
}


@pytest.mark.requirement("OVL-SIZE-APPLIED")
@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_what_applying_says_counts_what_is_replaced(bench: Bench, filled: bool) -> None:
    """Of what the layer has of an earlier archive, if it is filled. Whether it may be refused, other tests say."""
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        for number, (what, entries) in enumerate(_REPLACING.items()):
            layer_id = store.create(f"layer-{number}", "base")
            if filled:
                store.applied(layer_id, _OWN)
            archive = store.archive(entries)
            try:
                said = store.apply(layer_id, archive)
            except DriverRefused:
                continue
            size = store.do(DiffSize(layer_id, "base"))
            equal(f"the size that applying {archive.name} to {layer_id} says ({what})", said, size)


@contextmanager
def above_an_image(bench: Bench) -> Iterator[Store]:
    """A store with a layer "own" above the images "base" and "child" of another store."""
    with store_with_images(bench) as (_, store):
        store.create("own", "child")
        store.change("own", [ops.RemoveTree(b"d"), ops.CreateFile(b"own", b"own" * 100, 0o644)])
        yield store


@pytest.mark.requirement("OVL-CHANGES-ANCESTOR")
def test_changes_are_told_against_any_image_below(bench: Bench) -> None:
    bench.need("image-stores", "changes")
    with above_an_image(bench) as store:
        changes = changes_of(store, "own", "base")
        explain("own", store.expected("base"), store.expected("own"), changes, exactly=True)


@pytest.mark.requirement("OVL-SIZE-DIFF")
def test_sizes_are_told_against_any_image_below(bench: Bench) -> None:
    bench.need("image-stores", "diff-size")
    with above_an_image(bench) as store:
        wanted = len(b"own" * 100) + len(b"image")
        equal("the size of own against base", store.do(DiffSize("own", "base")), wanted)
