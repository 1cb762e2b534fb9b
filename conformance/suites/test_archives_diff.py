"""Diffs: what is in an archive, and what is not."""

from __future__ import annotations

import os
import socket
import tarfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import equal, names_of_diff, nothing, same_bytes, same_entries, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import charged_to
from conformance.harness.entries import content_of, entry_names, members
from conformance.harness.skips import not_applicable
from conformance.history.calls import Get, Put
from conformance.history.findings import WrongAnswer
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import chains
from conformance.operations.trees import Snapshot
from conformance.suites.comparable import brought, with_new_links
from conformance.suites.fewest import check_fewest
from conformance.suites.paths import DIFFERENCES, WAYS, build_ways
from conformance.suites.whiteouts import deletes_what_is_gone

_TRIES = 3  # for two diffs within half a second


@pytest.mark.smoke
@pytest.mark.requirement("OVL-DIFF-TAR", "OVL-DIFF-DETERMINISTIC", "OVL-WHITEOUT-IN-DIFF")
@given(data=st.data())
def test_a_diff_is_an_archive_of_what_changed(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store() as store:
        for layer_id in store.build(chain):
            archive, again = two_diffs(store, layer_id)
            with charged_to("OVL-DIFF-DETERMINISTIC"):
                same_bytes(f"two diffs of {layer_id}", archive.read_bytes(), again.read_bytes())
            with charged_to("OVL-DIFF-TAR"):
                check_names(store, layer_id, archive)


def two_diffs(store: Store, layer_id: str) -> tuple[Path, Path]:
    """Two diffs of a layer that the clock did not come between; one and the same of a driver that is too slow.

    What depends on the clock is a test of its own, which fails each time: here it would fail now and then.
    """
    for _ in range(_TRIES):
        began = int(2 * time.time())  # in half seconds, as some cut the time and Go's archive/tar rounds it
        archive, again = store.diff(layer_id), store.diff(layer_id)
        if int(2 * time.time()) == began:
            return archive, again
    return archive, archive


def check_names(store: Store, layer_id: str, archive: Path) -> None:
    names = entry_names(archive)
    twice = [name for name, count in Counter(names).items() if count > 1]
    nothing(f"names that the diff of {layer_id} holds more than once", twice, WrongAnswer())
    has_none_of_overlay(layer_id, archive)
    before = store.expected(store.parent_of(layer_id))
    after = store.expected(layer_id)
    with charged_to("OVL-WHITEOUT-IN-DIFF"):
        deletes_what_is_gone(layer_id, set(names), before, after)
    brings_what_is_new(layer_id, set(names), before, after)


def has_none_of_overlay(layer_id: str, archive: Path) -> None:
    """The diff has no attribute of overlay itself, of root or of a user namespace; raises Deviation."""
    prefixes = ("trusted.overlay.", "user.overlay.")
    keys = [(member.name, key) for member in members(archive) for key in member.pax_headers]
    own = [(name, key) for name, key in keys if any(f".{prefix}" in f".{key}" for prefix in prefixes)]
    nothing(f"attributes of overlay itself in the diff of {layer_id}", own)


@pytest.mark.requirement("OVL-DIFF-TAR")
def test_no_attribute_of_overlay_is_in_a_diff(bench: Bench) -> None:
    """The marks of root's mounts and those of a user namespace: one mount takes the other's for attributes."""
    with bench.store() as store:
        store.build([STANDARD, [ops.Chmod(b"d", 0o700), ops.RemoveTree(b"e"), ops.MakeDirectory(b"e", 0o755)]])
        root = store.do(Get("layer-1"))
        try:
            for path, name, value in (("d", "opaque", b"x"), ("e", "opaque", b"y"), ("a", "whiteout", b"")):
                with suppress(OSError):  # as fuse-overlayfs and mounts of a user namespace refuse their own
                    os.setxattr(f"{root}/{path}", f"user.overlay.{name}", value)
        finally:
            store.do(Put("layer-1"))
        store.beyond("attributes user.overlay.* were set in layer-1, where the mount took them")
        for against in ("layer-0", ""):
            if against or bench.has("whole-tree-diff"):
                has_none_of_overlay("layer-1", store.diff("layer-1", against))


def brings_what_is_new(layer_id: str, names: set[str], before: Snapshot, after: Snapshot) -> None:
    changed = [
        path for path, node in after.nodes.items() if before.nodes.get(path) != node and not node.is_directory
    ]
    lacking = [path for path in changed if os.fsdecode(path) not in names]
    nothing(f"new or changed path in {layer_id} that its diff lacks ({sorted(names)})", lacking, WrongAnswer())


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-TAR")
def test_files_of_any_size_are_followed_by_others(bench: Bench) -> None:
    sizes = (0, 1, 511, 512, 513, 1024, 65_535, 65_536, 65_537, 262_144)
    files = tuple(ops.CreateFile(b"f%d" % size, b"x" * size, 0o644) for size in sizes)
    check_fewest(bench, [files], lambda chain: has_its_files(bench, chain))


def has_its_files(bench: Bench, chain: Sequence[Iterable[ops.Operation]]) -> None:
    with bench.store() as store:
        store.build(chain)
        found = {member.name: member.size for member in members(store.diff("layer-0"))}
        wanted = {os.fsdecode(path): len(node.content) for path, node in store.expected("layer-0").nodes.items()}
        lacking = sorted(name for name, size in wanted.items() if found.get(name) != size)
        nothing(f"files that the diff of layer-0 lacks, or has with another size ({found})", lacking, WrongAnswer())


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-MINIMAL")
def test_a_diff_names_what_was_touched_and_nothing_else(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"d/new", b"new", 0o644), ops.Chmod(b"a", 0o600)]])
        more = set(entry_names(store.diff("layer-1"))) - {"a", "d", "d/new"}
        nothing(
            "names in the diff of layer-1 besides a, which it changed, and d/new, which it made",
            more,
            WrongAnswer(),
        )


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-MINIMAL")
def test_an_untouched_layer_has_an_empty_diff(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, ()])
        store.diff_holds("layer-1")


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-MINIMAL")
def test_a_mkdir_makes_no_needless_whiteout(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.MakeDirectory(b"new", 0o755), ops.MakeDirectory(b"d/new", 0o755)]])
        found = set(entry_names(store.diff("layer-1"))) - {"new/.wh..wh..opq", "d/new/.wh..wh..opq"}
        names_of_diff("layer-1, in which directories were made", found, {"new", "d", "d/new"})


@pytest.mark.requirement("OVL-DIFF-EMPTY")
def test_nothing_done_is_nothing_in_the_diff(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        store.create("child", "layer-0")
        store.diff_holds("child")
        store.change("child", [])
        store.diff_holds("child")


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-RELATIVE", "OVL-DIFF-LINKS")
@given(data=st.data())
def test_every_entry_of_a_diff_is_well_formed(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store() as store:
        for layer_id in store.build(chain):
            check_entries(store, layer_id, members(store.diff(layer_id)))


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-LINKS")
def test_every_further_name_leads_to_the_first(bench: Bench) -> None:
    names = (b"a", b"d/link", b"link", b"z")
    linked: list[ops.Operation] = [
        ops.CreateFile(names[0], b"a", 0o644),
        *(ops.MakeHardLink(name, names[0]) for name in names[1:]),
    ]
    with bench.store() as store:
        store.build([[ops.MakeDirectory(b"d", 0o755), *linked]])
        check_entries(store, "layer-0", members(store.diff("layer-0")))


@pytest.mark.requirement("OVL-DIFF-RELATIVE", "OVL-DIFF-LINKS")
@pytest.mark.parametrize("what", ["links", "deletions"])
def test_every_entry_is_well_formed_in_every_way(bench: Bench, what: str) -> None:
    bench.need("apply")
    with bench.store() as store:
        build_ways(store, *DIFFERENCES[what])
        for way in WAYS:
            check_entries(store, way.layer, members(store.diff(way.layer, way.against)))


def check_entries(store: Store, layer_id: str, found: list[tarfile.TarInfo]) -> None:
    files: set[str] = set()
    for member in found:
        name = member.name
        if name.startswith("/") or ".." in name.split("/") or os.fspath(store.directory).strip("/") in name:
            with charged_to("OVL-DIFF-RELATIVE"):
                nothing(f"names in the diff of {layer_id} that are no path within the layer", [name], WrongAnswer())
        if not member.islnk():
            files.add(name)
            continue
        with charged_to("OVL-DIFF-LINKS"):
            first = member.linkname
            equal(f"whether {name!r}, a link, leads to an earlier file, {first!r}", first in files, True)


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-COPY-UP-DATA")
@pytest.mark.parametrize(
    "change", [ops.Chmod(b"big", 0o600), ops.SetTimes(b"big", 10**18), ops.Rename(b"big", b"moved")]
)
def test_a_change_of_metadata_brings_the_content(bench: Bench, change: ops.Operation) -> None:
    content = bytes(range(256)) * 400
    with bench.store() as store:
        store.build([[ops.CreateFile(b"big", content, 0o644)], [change]])
        archive = store.diff("layer-1")
        with tarfile.open(archive) as tar:
            found = [tar.extractfile(one) for one in tar.getmembers() if one.isreg() and one.size]
            brought = any(file and file.read() == content for file in found)
        equal(f"whether the diff of layer-1 has the content of 'big' ({entry_names(archive)})", brought, True)


@pytest.mark.requirement("OVL-DIFF-DETERMINISTIC")
def test_a_diff_is_the_same_a_second_later(bench: Bench) -> None:
    """Archives have whole seconds, cut or rounded: what depends on the clock is seen when it has gone on by one."""
    with bench.store() as store:
        store.build(
            [
                STANDARD,
                [ops.Chmod(b"e", 0o755)],
                [ops.Unlink(b"a"), ops.RemoveTree(b"d"), ops.CreateFile(b"new", b"new", 0o644)],
            ]
        )
        against = {"its parent": "layer-1", "a layer further below": "layer-0"}
        first = {what: store.diff("layer-2", parent).read_bytes() for what, parent in against.items()}
        bench.wait_a_second()
        for what, parent in against.items():
            later = store.diff("layer-2", parent).read_bytes()
            same_bytes(f"the diff of layer-2 against {what}, a second later", first[what], later)


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-MOUNTED")
def test_a_mounted_layer_has_the_same_diff(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.RemoveTree(b"d"), ops.CreateFile(b"new", b"new", 0o644)]])
        put = content_of(store.diff("layer-1"))
        store.do(Get("layer-1"))
        mounted = content_of(store.diff("layer-1"))
        store.do(Put("layer-1"))
        same_entries("the diff of layer-1 while it is mounted", put, mounted)


@pytest.mark.quick
@pytest.mark.requirement("OVL-DIFF-SOCKETS")
def test_a_socket_is_left_out(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o644)]])
        store.note("make a unix socket called 'sock' in layer-1")
        root = store.do(Get("layer-1"))
        with socket.socket(socket.AF_UNIX) as listener:
            directory = os.open(root, os.O_PATH | os.O_DIRECTORY)
            try:
                listener.bind(f"/proc/self/fd/{directory}/sock")  # a path of any length fits in 108 bytes like this
            finally:
                os.close(directory)
        store.do(Put("layer-1"))
        found = {"new", "sock"} & set(entry_names(store.diff("layer-1")))
        equal("which of 'new' and 'sock' are in the diff of layer-1", found, {"new"}, WrongAnswer())


@pytest.mark.requirement("OVL-DIFF-ANCESTOR")
@given(data=st.data())
def test_a_diff_from_any_layer_below_makes_the_same_tree(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged, least=3))
    with bench.store("origin") as store, bench.store("copy") as copy:
        ids = store.build(chain)
        for layer_id in ids[:-2]:
            copy.bring(store, layer_id)
        archive = store.diff(ids[-1], ids[-3])
        copy.create("squashed", ids[-3])
        copy.apply("squashed", archive)
        brings_the_tree(bench, store, copy, (ids[-3], ids[-1]), "squashed")


def brings_the_tree(bench: Bench, store: Store, copy: Store, between: tuple[str, str], made: str) -> None:
    """A layer of the copy, made by a diff between two layers, is the second; raises Deviation."""
    before = store.expected(between[0])
    expected, found = brought(before, store.observed(between[1])), copy.observed(made)
    if not bench.has("compared-links"):
        expected, found = with_new_links(before, expected), with_new_links(before, found)
    times = "known" if bench.has("fine-times") else "files"
    same_tree(f"{between[1]}, made by a diff from {between[0]},", expected, found, times=times)


@pytest.mark.requirement("OVL-DIFF-NATIVE-NAIVE")
@given(data=st.data())
def test_the_diff_from_an_equal_layer_is_the_same(bench: Bench, data: st.DataObject) -> None:
    """A twin of the parent is no parent, so the driver has to compare two trees."""
    same_as_from_a_twin(bench, bench.draw(data, chains(privileged=bench.privileged, least=2)))


def same_as_from_a_twin(bench: Bench, chain: Sequence[Iterable[ops.Operation]]) -> None:
    with bench.store("origin") as store, bench.store("copy") as copy:
        ids = store.build(chain)
        for layer_id in ids[:-1]:
            copy.bring(store, layer_id)
        parent = ids[-2]
        store.create("twin", store.parent_of(parent))
        store.apply("twin", store.diff(parent))
        archive = store.diff(ids[-1], "twin")
        copy.create("other", parent)
        copy.apply("other", archive)
        brings_the_tree(bench, store, copy, (parent, ids[-1]), "other")


@pytest.mark.requirement("OVL-DIFF-NATIVE-NAIVE")
@pytest.mark.parametrize(
    "change",
    [
        ops.Chmod(b"a", 0o600),
        ops.Chmod(b"e", 0o700),
        ops.SetXattr(b"a", "user.colour", b"blue"),
        ops.SetXattr(b"e", "user.colour", b"blue"),
        ops.Chown(b"a", 1000, 1000),
        ops.Chown(b"e", 1000, 1000),
        ops.WriteAt(b"e-", 0, b"of another size"),
        ops.Unlink(b"e-"),
        ops.RemoveTree(b"e"),
    ],
    ids=lambda change: f"{type(change).__name__}-{change.path.decode()}",
)
def test_one_change_is_the_same_from_an_equal_layer(bench: Bench, change: ops.Operation) -> None:
    if isinstance(change, ops.Chown) and not bench.privileged:
        not_applicable("foreign owners need root")
    base = [*STANDARD, ops.CreateFile(b"e-", b"beside 'e/'", 0o644), ops.CreateFile(b"e/f", b"", 0o644)]
    same_as_from_a_twin(bench, [base, [change]])


@pytest.mark.requirement("OVL-DIFF-UNTOUCHED")
@given(data=st.data())
def test_a_diff_changes_nothing(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged))
    with bench.store() as store:
        top = store.build(chain)[-1]
        before = store.observed(top)
        store.diff(top)
        same_tree(f"{top} after its diff was written", before, store.observed(top))
