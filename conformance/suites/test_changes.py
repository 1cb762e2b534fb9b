"""Changes explain the child: every path that differs, once, and of the right kind."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.drivers.protocol import DriverRefused
from conformance.harness.assertions import equal, nothing
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import Deviation, charged_to
from conformance.harness.entries import entry_names
from conformance.harness.skips import not_applicable
from conformance.history.calls import Changes, Get, Put
from conformance.history.findings import DiffDisagrees, NotDone, WrongAnswer
from conformance.operations import archives, ops
from conformance.operations.archives import TIME, Entry
from conformance.operations.real import perform
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import chains
from conformance.suites.changes import changes_of, explain, says


@pytest.mark.requirement("OVL-CHANGES-EXPLAIN")
@given(data=st.data())
def test_changes_explain_the_child(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged, least=2))
    with bench.store() as store:
        for layer_id in store.build(chain)[1:]:
            before, after = store.expected(store.parent_of(layer_id)), store.expected(layer_id)
            explain(layer_id, before, after, changes_of(store, layer_id))


@pytest.mark.quick
@pytest.mark.requirement("OVL-CHANGES-EXPLAIN")
def test_directories_above_several_changes_are_listed_once(bench: Bench) -> None:
    above: list[ops.Operation] = [
        ops.CreateFile(b"d/d/new", b"", 0o644),
        ops.CreateFile(b"d/e", b"", 0o644),
        ops.Unlink(b"d/a"),
    ]
    with bench.store() as store:
        store.build([STANDARD, above])
        explain("layer-1", store.expected("layer-0"), store.expected("layer-1"), changes_of(store, "layer-1"))


_BECOMES_A_DIRECTORY: Sequence[Sequence[ops.Operation]] = (
    (ops.CreateFile(b"x", b"a file", 0o644),),
    (ops.Unlink(b"x"), ops.MakeDirectory(b"x", 0o755), ops.CreateFile(b"x/in", b"in", 0o644)),
)
_LOOP_CHANGES: Sequence[Sequence[ops.Operation]] = (
    (ops.MakeSymlink(b"x", b"x"), ops.MakeSymlink(b"y", b"z"), ops.MakeSymlink(b"z", b"y")),
    (ops.Unlink(b"x"), ops.MakeSymlink(b"x", b"./x"), ops.Unlink(b"y"), ops.MakeSymlink(b"y", b"./z")),
)
_BECOMES_A_SYMLINK: Sequence[Sequence[ops.Operation]] = (
    (ops.MakeDirectory(b"x", 0o755), ops.CreateFile(b"x/in", b"in", 0o644)),
    (ops.RemoveTree(b"x"), ops.MakeSymlink(b"x", b"missing")),
)


@pytest.mark.requirement("OVL-CHANGES-EXPLAIN")
@pytest.mark.parametrize(
    "chain",
    [_BECOMES_A_DIRECTORY, _LOOP_CHANGES, _BECOMES_A_SYMLINK],
    ids=["a-file-becomes-a-directory-with-a-child", "a-symlink-loop-changes", "a-directory-becomes-a-symlink"],
)
def test_changes_explain_another_kind(bench: Bench, chain: Sequence[Sequence[ops.Operation]]) -> None:
    with bench.store() as store:
        store.build(chain)
        explain("layer-1", store.expected("layer-0"), store.expected("layer-1"), changes_of(store, "layer-1"))


@pytest.mark.requirement("OVL-CHANGES-EXPLAIN")
def test_a_deletion_of_nothing_comes_with_an_addition(bench: Bench) -> None:
    """An archive may delete what no lower has; whether that is a change is recorded, as no text decides on it."""
    bench.need("apply")
    with bench.store() as store:
        store.build([STANDARD, ()])
        entries = [archives.whiteout(".wh.missing"), archives.whiteout("d/.wh.missing"), archives.file("new")]
        store.applied("layer-1", entries)
        found = changes_of(store, "layer-1")
        says("layer-1", b"new", "add", found)
        listed = b"missing" in found or b"d/missing" in found
        store.record("a deletion of what no lower has is", "a change" if listed else "no change")


@pytest.mark.requirement("OVL-CHANGES-PARENTS")
@given(data=st.data())
def test_the_directory_of_an_addition_or_deletion_is_listed(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged, least=2))
    with bench.store() as store:
        for layer_id in store.build(chain)[1:]:
            changes = changes_of(store, layer_id)
            added_or_deleted = [path for path, kind in changes.items() if kind != "modify" and b"/" in path]
            alone = [path for path in added_or_deleted if os.path.dirname(path) not in changes]
            nothing(f"paths that the changes of {layer_id} list without their directory", alone, WrongAnswer())


def expects(store: Store, layer_id: str, wanted: dict[bytes, str]) -> None:
    """These changes are listed, besides others; raises Deviation."""
    found = changes_of(store, layer_id)
    for path, kind in wanted.items():
        says(layer_id, path, kind, found)


@pytest.mark.requirement("OVL-CHANGES-NONE")
def test_nothing_done_is_no_change(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        store.create("child", "layer-0")
        for when in ("never mounted", "mounted once"):
            found = changes_of(store, "child")
            nothing(f"changes of child ({when}), in which nothing was done", found, WrongAnswer())
            store.change("child", [])


@pytest.mark.requirement("OVL-CHANGES-NONE")
def test_a_time_that_an_archive_cut_is_no_change(bench: Bench) -> None:
    """An archive without pax has whole seconds: a file of the same second may be the same file."""
    bench.need("apply")
    with bench.store() as store:
        for layer_id, records in (("exact", {"mtime": f"{TIME}.5"}), ("cut", {})):
            store.create(layer_id)
            store.applied(layer_id, [Entry("file", content=b"content", records=records), Entry("other")])
        store.create("child", "exact")
        found = changes_of(store, "child", "cut")
        found.pop(b"", None)
        nothing("changes of child against a layer with whole seconds", found, WrongAnswer())


@pytest.mark.requirement("OVL-CHANGES-OPAQUE")
def test_what_a_new_directory_hides_is_deleted(bench: Bench) -> None:
    with bench.store() as store:
        store.build(
            [STANDARD, [ops.RemoveTree(b"d"), ops.MakeDirectory(b"d", 0o755), ops.CreateFile(b"d/new", b"", 0o644)]]
        )
        expects(store, "layer-1", {b"d": "modify", b"d/a": "delete", b"d/d": "delete", b"d/new": "add"})


@pytest.mark.smoke
@pytest.mark.requirement("OVL-CHANGES-ADDED-AGAIN")
def test_what_was_deleted_and_comes_back_is_added(bench: Bench) -> None:
    with bench.store() as store:
        store.build(
            [
                STANDARD,
                [ops.Unlink(b"a"), ops.RemoveTree(b"d")],
                [ops.CreateFile(b"a", b"new", 0o644), ops.MakeDirectory(b"d", 0o755)],
            ]
        )
        expects(store, "layer-2", {b"a": "add", b"d": "add"})


@pytest.mark.requirement("OVL-CHANGES-ADDED-AGAIN")
def test_what_a_lower_directory_hides_is_added(bench: Bench) -> None:
    with bench.store() as store:
        store.build(
            [
                STANDARD,
                [ops.RemoveTree(b"d"), ops.MakeDirectory(b"d", 0o755)],
                [ops.CreateFile(b"d/a", b"new", 0o644), ops.MakeDirectory(b"d/d", 0o755)],
            ]
        )
        expects(store, "layer-2", {b"d/a": "add", b"d/d": "add"})


@pytest.mark.requirement("OVL-CHANGES-EXPLAIN")
def test_what_a_file_between_two_directories_hides_is_added(bench: Bench) -> None:
    """A directory of an archive has no mark of its own that hides what is below the file that it replaces."""
    bench.need("apply")
    with bench.store() as store:
        store.build([STANDARD, [ops.RemoveTree(b"d"), ops.CreateFile(b"d", b"a file", 0o644)]])
        store.create("layer-2", "layer-1")
        store.applied("layer-2", [archives.directory("d"), archives.file("d/new", b"new")])
        with charged_to("OVL-TREE-KINDS-CHANGE"):  # what is not hidden here is no matter of the changes above it
            store.shows_files("layer-2", {b"d/new": b"new"}, gone=[b"d/a"])
        store.create("layer-3", "layer-2")
        root = store.do(Get("layer-3"))
        store.beyond("the file d/a was created in layer-3")
        perform(root, ops.CreateFile(b"d/a", b"a", 0o644))
        store.do(Put("layer-3"))
        expects(store, "layer-3", {b"d/a": "add"})


@pytest.mark.requirement("OVL-CHANGES-EXPLAIN")
def test_what_a_directory_over_a_file_shows_is_modified(bench: Bench) -> None:
    bench.need("apply")
    with bench.store() as store:
        store.build([[ops.CreateFile(b"d", b"a file", 0o644)]])
        store.create("layer-1", "layer-0")
        store.applied(
            "layer-1", [archives.directory("d"), archives.file("d/f", b"f"), archives.file("d/d/f", b"f")]
        )
        with charged_to("OVL-TREE-KINDS-CHANGE"):
            store.shows_files("layer-1", {b"d/f": b"f", b"d/d/f": b"f"})
        store.create("layer-2", "layer-1")
        root = store.do(Get("layer-2"))
        store.beyond("the files d/f and d/d/f were written in layer-2")
        for path in (b"d/f", b"d/d/f"):
            perform(root, ops.WriteAt(path, 0, b"more than there was"))
        store.do(Put("layer-2"))
        expects(store, "layer-2", {b"d/f": "modify", b"d/d/f": "modify"})


@pytest.mark.quick
@pytest.mark.requirement("OVL-CHANGES-SAME-SECOND")
def test_an_edit_of_the_same_size_and_second_is_seen(bench: Bench) -> None:
    second = 1_400_000_000 * 10**9
    base: list[ops.Operation] = [ops.CreateFile(b"x", b"old", 0o644), ops.SetTimes(b"x", second + 1)]
    with bench.store() as store:
        store.build([base, [ops.WriteAt(b"x", 0, b"new"), ops.SetTimes(b"x", second + 2)]])
        expects(store, "layer-1", {b"x": "modify"})


@pytest.mark.requirement("OVL-CHANGES-SYMLINK")
def test_a_symlink_with_another_target_is_seen(bench: Bench) -> None:
    second = 1_400_000_000 * 10**9
    base: list[ops.Operation] = [ops.MakeSymlink(b"x", b"one"), ops.SetTimes(b"x", second)]
    with bench.store() as store:
        store.build([base, [ops.Unlink(b"x"), ops.MakeSymlink(b"x", b"two"), ops.SetTimes(b"x", second)]])
        expects(store, "layer-1", {b"x": "modify"})


@pytest.mark.requirement("OVL-CHANGES-METADATA")
def test_a_change_of_mode_alone_is_seen(bench: Bench) -> None:
    change: list[ops.Operation] = [ops.Chmod(b"a", 0o600), ops.Chmod(b"d", 0o700)]
    if bench.privileged:
        change += [ops.Chown(b"d/a", 1000, 1000), ops.Chown(b"b", 1000, 1000)]
    with bench.store() as store:
        store.build([STANDARD, change])
        expects(store, "layer-1", {operation.path: "modify" for operation in change})


@pytest.mark.requirement("OVL-CHANGES-METADATA")
def test_a_mode_that_a_layer_between_changed_is_compared(bench: Bench) -> None:
    """A directory that three layers have: with the mode of the lowest again, and with that of the one between."""
    with bench.store() as store:
        between = ops.Chmod(b"d", 0o700)
        store.build([STANDARD, [between], [ops.Chmod(b"d", 0o755)]])
        expects(store, "layer-2", {b"d": "modify"})
        store.create("other", "layer-1")
        store.change("other", [ops.CreateFile(b"d/new", b"new", 0o644)])
        expects(store, "other", {b"d/new": "add"})


@pytest.mark.requirement("OVL-CHANGES-METADATA")
def test_another_owner_of_a_directory_is_seen(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, one_more_owner(bench)])
        expects(store, "layer-1", {b"d": "modify", b"e": "modify"})


def one_more_owner(bench: Bench) -> list[ops.Operation]:
    """Give two directories to another owner; leaves the test where only root's files can be made.

    What overlay copies up of a directory with entries has another size on tmpfs, which some drivers compare.
    """
    if not bench.privileged:
        not_applicable("foreign owners need root")
    return [ops.Chown(b"d", 1000, 1000), ops.Chown(b"e", 1000, 1000)]


@pytest.mark.requirement("OVL-CHANGES-ANCESTOR")
@given(data=st.data())
def test_changes_against_any_layer_below_explain(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged, least=3))
    with bench.store() as store:
        ids = store.build(chain)
        before, after = store.expected(ids[-3]), store.expected(ids[-1])
        explain(ids[-1], before, after, changes_of(store, ids[-1], ids[-3]))


@pytest.mark.requirement("OVL-CHANGES-ORDER")
@given(data=st.data())
def test_changes_are_sorted(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged, least=2))
    with bench.store() as store:
        for layer_id in store.build(chain)[1:]:
            paths = [change.path for change in store.do(Changes(layer_id, store.parent_of(layer_id)))]
            # By bytes, or by parts, in which '/' is the lowest: both are an order by path.
            if paths != sorted(paths, key=lambda path: path.split(b"/")):
                equal(f"the order of the changes of {layer_id}", paths, sorted(paths), WrongAnswer())


@pytest.mark.requirement("OVL-CHANGES-DIFF")
@given(data=st.data())
def test_changes_and_diff_name_the_same(bench: Bench, data: st.DataObject) -> None:
    chain = bench.draw(data, chains(privileged=bench.privileged, least=2))
    with bench.store() as store:
        for layer_id in store.build(chain)[1:]:
            name_the_same(store, layer_id)


@pytest.mark.requirement("OVL-CHANGES-DIFF")
@pytest.mark.parametrize(
    "what",
    [
        "owner-of-a-directory",
        "file-to-directory",
        "symlink-loop",
        "directory-to-symlink",
        "same-mode-of-a-directory",
    ],
)
def test_changes_and_diff_name_the_same_of(bench: Bench, what: str) -> None:
    chains = {
        "file-to-directory": _BECOMES_A_DIRECTORY,
        "symlink-loop": _LOOP_CHANGES,
        "directory-to-symlink": _BECOMES_A_SYMLINK,
        "same-mode-of-a-directory": (STANDARD, [ops.Chmod(b"d", 0o755)]),
    }
    chain = chains[what] if what in chains else (STANDARD, one_more_owner(bench))
    with bench.store() as store:
        store.build(chain)
        name_the_same(store, "layer-1")


def name_the_same(store: Store, layer_id: str) -> None:
    """Raises Deviation for a path that one of the two brings and the other lacks."""
    try:
        changes = changes_of(store, layer_id)
    except DriverRefused as refused:  # there is nothing to compare
        said = f"the driver refused a step that it must do: {refused}"
        raise Deviation(said, NotDone(str(refused)), ("OVL-CHANGES-EXPLAIN",)) from refused
    names = {os.fsencode(name) for name in entry_names(store.diff(layer_id))}
    brought = {name for name in names if b"/.wh." not in b"/" + name}
    added = {path for path, kind in changes.items() if kind == "add"}
    lacking = added - brought
    finding = DiffDisagrees(min(lacking, default=b""), added=True)
    nothing(f"additions in the changes of {layer_id} that its diff lacks", lacking, finding)
    lacking = brought - {path for path, kind in changes.items() if kind != "delete"} - parents(changes)
    if lacking:
        lacking -= unchanged_directories(store, layer_id)
    finding = DiffDisagrees(min(lacking, default=b""), added=False)
    owners = lacking and lacking.isdisjoint(changes) and lacking <= directories_of_others(store, layer_id)
    with charged_to("OVL-CHANGES-METADATA" if owners else "OVL-CHANGES-DIFF"):
        nothing(f"paths in the diff of {layer_id} that its changes lack or call deleted", lacking, finding)


def directories_of_others(store: Store, layer_id: str) -> set[bytes]:
    """Directories of the parent that have another mode or owner here."""
    below, here = (store.observed(one).nodes for one in (store.parent_of(layer_id), layer_id))
    both = {path for path, node in here.items() if path in below and node.is_directory and below[path].is_directory}
    return {
        path
        for path in both
        if (here[path].mode, here[path].uid, here[path].gid) != (below[path].mode, below[path].uid, below[path].gid)
    }


def unchanged_directories(store: Store, layer_id: str) -> set[bytes]:
    """Directories that are as in the parent. Overlay copies one up for a chmod to the mode that it has already."""
    below, here = (store.observed(one).nodes for one in (store.parent_of(layer_id), layer_id))
    return {path for path, node in here.items() if node.is_directory and below.get(path) == node}


def parents(changes: dict[bytes, str]) -> set[bytes]:
    """Directories above what is listed; a diff may bring them along."""
    return {b"/".join(path.split(b"/")[:end]) for path in changes for end in range(1, path.count(b"/") + 1)}
