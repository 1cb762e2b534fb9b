"""What an archive brought stays when another one is applied to the same layer."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from conformance.harness.assertions import same_tree
from conformance.harness.bench import Bench
from conformance.operations import archives
from conformance.operations.standard import STANDARD
from conformance.operations.trees import Snapshot
from conformance.suites.applycases import CASES, Case
from conformance.suites.fewest import check_each

_CASES: Final = tuple(case for case in CASES if not case.may_be_refused)
_NEW: Final = "of-the-second"


@pytest.mark.parametrize(
    "requirement",
    [
        pytest.param(one, marks=pytest.mark.requirement(one), id=one)
        for one in dict.fromkeys(case.requirement for case in _CASES)
    ],
)
def test_a_second_archive_takes_nothing_back(bench: Bench, requirement: str) -> None:
    """All cases of a requirement are tried in one store; where that fails, each of them alone."""
    cases = [case for case in _CASES if case.requirement == requirement]
    check_each(bench, cases, lambda some: _check(bench, some))


def _check(bench: Bench, cases: Sequence[Case]) -> None:
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        for number, case in enumerate(cases):
            layer_id = store.create(f"layer-{number}", "base")
            store.applied(layer_id, case.entries)
            first = store.shows_files(layer_id, case.there, case.gone)
            store.applied(layer_id, [archives.file(f"{place}{_NEW}", b"new") for place in _directories(first)])
            second = store.shows_files(layer_id, case.there, case.gone)
            what = f"{layer_id} ({case.name}), without the files of its second archive,"
            # What keeps no layers unpacks both archives; a time that is not restored says nothing of the second.
            times = "known" if bench.has("layer-store") else "files"
            same_tree(what, _known(first), _known(second), times=times)


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-UNSEEN")
def test_no_whiteout_of_a_second_archive_is_seen(bench: Bench) -> None:
    """In directories that the first archive made, made opaque, or made again."""
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        store.create("child", "base")
        store.applied(
            "child",
            [
                archives.directory("d"),
                archives.whiteout("d/.wh..wh..opq"),
                archives.directory("d/d"),
                archives.whiteout(".wh.e"),
                archives.directory("e"),
                archives.directory("x"),
            ],
        )
        tree = store.shows_files("child", {b"a": None})
        store.applied("child", [archives.whiteout(f"{place}.wh.nowhere") for place in _directories(tree)])
        store.shows_files("child", {b"a": None}, gone=[f"{place}nowhere".encode() for place in _directories(tree)])


@pytest.mark.requirement("OVL-APPLY-KINDS")
@pytest.mark.parametrize("entry", [(archives.directory("d"),), ()], ids=["by-its-entry", "implied"])
def test_a_directory_replaces_a_file_that_hides_another(bench: Bench, entry: tuple[archives.Entry, ...]) -> None:
    """The first archive has a file in the place of a lower directory, of which nothing comes back."""
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        store.create("child", "base")
        store.applied("child", [archives.file("d", b"d")])
        entries = [*entry, archives.file("d/new", b"new")]
        if entry:
            store.applied("child", entries)
        elif store.may_refuse(store.applying("child", store.archive(entries))) is not None:
            return  # no text says that an entry implies a directory where a file is
        store.shows_files("child", {b"d/new": b"new"}, gone=(b"d/a", b"d/d"))


def _directories(tree: Snapshot) -> list[str]:
    """Where each directory's names begin, the root's included."""
    return ["", *(f"{path.decode()}/" for path, node in sorted(tree.nodes.items()) if path and node.is_directory)]


def _known(tree: Snapshot) -> Snapshot:
    """A tree without the new files. They imply their directories, whose modes and times no text decides then."""
    nodes = {
        path: replace(node, mode=stat.S_IFDIR) if node.is_directory else node
        for path, node in tree.nodes.items()
        if path.rpartition(b"/")[2] != _NEW.encode()
    }
    return Snapshot(nodes, tree.link_groups).without_directory_times()
