"""Archives that arrive in pieces, as from a network, and diffs that are read in pieces and not to their end."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import equal, nothing, same_bytes, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import charged_to
from conformance.history.calls import Get, Put, Remove
from conformance.lab.pieces import pipe_of
from conformance.operations import ops
from conformance.operations.standard import STANDARD

_LARGE = (*STANDARD, ops.CreateFile(b"large", b"large" * 20_000, 0o644), ops.CreateFile(b"last", b"l" * 513, 0o600))


@pytest.mark.requirement("OVL-APPLY-PIECES")
@pytest.mark.parametrize(
    ("size", "layer"),
    [(1, STANDARD), (511, _LARGE), (512, STANDARD), (513, _LARGE), (4096, _LARGE)],
    ids=["1", "511", "512", "513", "4096"],
)
def test_an_archive_arrives_in_pieces(bench: Bench, size: int, layer: tuple[ops.Operation, ...]) -> None:
    with bench.store() as store:
        store.build([layer])
        archive = store.diff("layer-0")
        store.create("copy")
        arrives(store, archive, [size])


@pytest.mark.requirement("OVL-APPLY-PIECES")
@given(data=st.data())
def test_an_archive_arrives_in_pieces_of_many_sizes(bench: Bench, data: st.DataObject) -> None:
    """Pieces that end within a header, within its padding, or within a file, at another place each time."""
    size = st.one_of(st.integers(16, 600), st.integers(601, 65_536))
    sizes = bench.draw(data, st.lists(size, min_size=1, max_size=6))
    with bench.store() as store:
        store.build([_LARGE if min(sizes) >= 500 else STANDARD])  # each piece costs a turn of two processes
        archive = store.diff("layer-0")
        store.create("copy")
        arrives(store, archive, sizes)


def arrives(store: Store, archive: Path, sizes: Sequence[int]) -> None:
    with pipe_of(archive, sizes, store.directory) as pipe:
        store.beyond(f"the archive was handed over in pieces of {', '.join(map(str, sizes))} bytes")
        store.apply("copy", pipe)
    expected, found = store.expected("layer-0").without_directory_times(), store.observed("copy")
    same_tree("copy, from an archive in pieces,", expected, found, times="files")


@pytest.mark.requirement("OVL-APPLY-PIECES")
def test_an_archive_is_read_from_an_object(bench: Bench) -> None:
    """It has read and nothing else, no descriptor and no place, as what unpacks a compressed archive may be."""
    with bench.store() as store:
        store.needs_pieces(applies=True)
        store.build([(*_LARGE, ops.CreateFile(b"larger", b"larger" * 70_000, 0o644))])
        archive = store.diff("layer-0")
        store.create("copy")
        store.apply("copy", archive, piece=4096)
        expected, found = store.expected("layer-0").without_directory_times(), store.observed("copy")
        same_tree("copy, from an archive that is read from an object,", expected, found, times="files")


_CHANGED = (ops.RemoveTree(b"d"), ops.WriteAt(b"large", 5, b"written"), ops.CreateFile(b"new", b"n" * 5000, 0o644))


def paths_of(bench: Bench) -> dict[str, str]:
    """What a diff is taken against, by the way in which drivers write it."""
    paths = {"parent": "layer-1", "ancestor": "layer-0"}
    return {**paths, "whole-tree": ""} if bench.has("whole-tree-diff") else paths


@pytest.mark.requirement("OVL-DIFF-DETERMINISTIC")
def test_a_diff_is_read_in_pieces(bench: Bench) -> None:
    with bench.store() as store:
        store.needs_pieces()
        store.build([_LARGE, [ops.Chmod(b"a", 0o600)], _CHANGED])
        for parent in paths_of(bench).values():
            whole = store.diff("layer-2", parent).read_bytes()
            for piece in (511, 513, 4096):
                read = store.diff("layer-2", parent, piece=piece).read_bytes()
                same_bytes(f"the diff of layer-2 against {parent!r}, read in pieces of {piece} bytes,", whole, read)


@pytest.mark.requirement("OVL-DIFF-DETERMINISTIC")
def test_a_diff_is_read_byte_by_byte(bench: Bench) -> None:
    with bench.store() as store:
        store.needs_pieces()
        store.build(
            [STANDARD, [ops.Chmod(b"a", 0o600)], [ops.RemoveTree(b"d"), ops.CreateFile(b"n", b"new", 0o644)]]
        )
        for parent in paths_of(bench).values():
            whole = store.diff("layer-2", parent).read_bytes()
            same_bytes(
                "the diff of layer-2, byte by byte,", whole, store.diff("layer-2", parent, piece=1).read_bytes()
            )


@pytest.mark.requirement("OVL-DIFF-UNTOUCHED", "OVL-LIFE-NO-DESCRIPTORS", "OVL-MOUNT-CALLS")
@pytest.mark.parametrize("path", ["parent", "ancestor", "whole-tree"])
def test_a_diff_is_given_up(bench: Bench, path: str) -> None:
    """The reader opens it and reads nothing, a part of a header, a part of a file, or all but the end."""
    if path == "whole-tree":
        bench.need("whole-tree-diff")
    with bench.store() as store:
        store.needs_pieces(gives_up=True)
        store.build([_LARGE, [ops.Chmod(b"a", 0o600)], _CHANGED])
        gives_up(bench, store, paths_of(bench)[path], (0, 1, 511, 512, 513, 20_000, 100_000))


@pytest.mark.release
@pytest.mark.requirement("OVL-DIFF-UNTOUCHED", "OVL-LIFE-NO-DESCRIPTORS", "OVL-MOUNT-CALLS")
@given(data=st.data())
def test_a_diff_is_given_up_anywhere(bench: Bench, data: st.DataObject) -> None:
    path = bench.draw(data, st.sampled_from(sorted(paths_of(bench))))
    places = bench.draw(data, st.lists(st.integers(0, 110_000), min_size=1, max_size=4))
    with bench.store() as store:
        store.needs_pieces(gives_up=True)
        store.build([_LARGE, [ops.Chmod(b"a", 0o600)], _CHANGED])
        gives_up(bench, store, paths_of(bench)[path], places)


def gives_up(bench: Bench, store: Store, parent: str, places: Iterable[int]) -> None:
    whole = store.diff("layer-2", parent).read_bytes()
    before = bench.state_of(store).descriptors
    for most in places:
        cut = store.diff("layer-2", parent, piece=4096, most=most).read_bytes()
        equal("whether a part of the diff is its beginning", cut == whole[: len(cut)], True)
    opened = bench.state_of(store).descriptors - before
    with charged_to("OVL-LIFE-NO-DESCRIPTORS"):
        nothing("descriptors that diffs left open, which were given up", max(0, opened))
    with charged_to("OVL-DIFF-UNTOUCHED"):
        same_bytes(
            "the diff of layer-2, after others were given up,", whole, store.diff("layer-2", parent).read_bytes()
        )
        store.shows_model("layer-2")
    store.do(Remove("layer-2"))


@pytest.mark.release  # a driver that makes the whole diff before its first byte needs 8 GiB, of memory perhaps
@pytest.mark.requirement("OVL-DIFF-TAR")
@pytest.mark.parametrize("size", [8**11 - 1, 8**11], ids=["8-GiB-less-1", "8-GiB"])
def test_a_file_of_8_gib_has_its_size(bench: Bench, size: int) -> None:
    """Eleven octal digits say one of the two. Only the beginning of the diff is read, and the file is a hole."""
    with bench.store() as store:
        store.needs_pieces(gives_up=True)
        store.build([STANDARD])
        store.create("child", "layer-0")
        root = store.do(Get("child"))
        store.beyond(f"the file 'big' of {size} bytes was made in child")
        try:
            with open(f"{root}/big", "xb") as file:
                os.truncate(file.fileno(), size)
        finally:
            store.do(Put("child"))
        with tarfile.open(store.diff("child", piece=4096, most=8192)) as tar:
            member = tar.next()
        found = member and (member.name.removeprefix("./"), member.size)
        equal("the first entry in the diff of child, and its size", found, ("big", size))
