"""Archives that are applied against a twin of the layer's parent: then a driver may unpack into a mounted tree."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Sequence
from itertools import product
from typing import Final

import pytest

from conformance.harness.assertions import equal, one_of, same_field
from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation, charged_to
from conformance.history.calls import ApplyDiff
from conformance.history.findings import NotDone
from conformance.operations import archives, ops
from conformance.operations.archives import Entry
from conformance.operations.standard import STANDARD
from conformance.suites.applycases import CASES, Case
from conformance.suites.fewest import check_each

_SYMLINKS: Final = {"dangling": b"../missing", "to-file": b"../a", "to-directory": b"../d"}


@pytest.mark.parametrize(
    "requirement",
    [
        pytest.param(one, marks=pytest.mark.requirement(one), id=one)
        for one in dict.fromkeys(case.requirement for case in CASES)
    ],
)
@pytest.mark.parametrize(
    ("against", "filled"),
    [("base", False), ("base", True), ("twin", False), ("twin", True)],
    ids=["the-parent-empty", "the-parent-filled", "a-twin-empty", "a-twin-filled"],
)
def test_an_archive_brings_the_same(bench: Bench, requirement: str, against: str, filled: bool) -> None:
    """In a layer that holds something already, what the archive brought is not all of it.

    All cases of a requirement are tried in one store; where that fails, one of them alone if it fails so, too.
    """
    cases = [case for case in CASES if case.requirement == requirement]
    check_each(bench, cases, lambda some: _check(bench, some, against, filled))


def _check(bench: Bench, cases: Sequence[Case], against: str, filled: bool) -> None:
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        if against == "twin":
            store.create("twin")
            store.apply("twin", store.diff("base"))
        for number, case in enumerate(cases):
            layer_id = store.create(f"layer-{number}", "base")
            if filled:
                store.change(layer_id, [ops.CreateFile(b"own", b"own", 0o644)])
            archive = store.archive(case.entries)
            refusal = store.may_refuse(ApplyDiff(layer_id, against, store.label(archive)))
            if refusal is None:
                store.shows_files(layer_id, case.there, case.gone)
            elif against == "base" and not case.may_be_refused:
                # Whether a driver takes a parent that is not the layer's, no text says.
                raise Deviation(f"the driver refused an archive that it must apply: {refusal}", NotDone())


@pytest.mark.requirement("OVL-APPLY-OPAQUE-ORDER", "OVL-APPLY-WHITEOUT-BEFORE")
@pytest.mark.parametrize("against", ["base", "twin"], ids=["the-parent", "a-twin"])
def test_symlinks_below_are_hidden_and_not_followed(bench: Bench, against: str) -> None:
    """To a missing file, a file, and a directory; one in each layer, as archives against a twin may be refused."""
    below: list[ops.Operation] = [*STANDARD]
    for name, target in _SYMLINKS.items():
        directory = name.encode()
        below += [ops.MakeDirectory(directory, 0o755), ops.MakeSymlink(directory + b"/s", target)]
    with bench.store() as store:
        store.create("base")
        store.change("base", below)
        if against == "twin":
            store.create("twin")
            store.apply("twin", store.diff("base"))
        for requirement, name in product(("OVL-APPLY-OPAQUE-ORDER", "OVL-APPLY-WHITEOUT-BEFORE"), _SYMLINKS):
            again = [archives.directory(name), archives.file(f"{name}/new", b"new")]
            opaque = [*again, archives.whiteout(f"{name}/.wh..wh..opq")]
            before = [archives.whiteout(f".wh.{name}"), *again]
            archive = store.archive(opaque if requirement == "OVL-APPLY-OPAQUE-ORDER" else before)
            layer_id = store.create(f"{name}-{requirement.rpartition('-')[2].lower()}", "base")
            call = ApplyDiff(layer_id, against, store.label(archive))
            with charged_to(requirement):
                if against == "base":
                    store.do(call)
                elif store.may_refuse(call) is not None:
                    continue  # whether a driver takes a parent that is not the layer's, no text says
                there = {f"{name}/new".encode(): b"new", b"a": b"a in the base", b"d/a": b"d/a in the base"}
                store.shows_files(layer_id, there, [f"{name}/s".encode()])


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-OPAQUE-ORDER")
@pytest.mark.parametrize(
    "entries", [[], [archives.directory("d"), archives.file("d/new", b"new")]], ids=["alone", "behind-a-file"]
)
def test_an_opaque_mark_of_the_root_hides_no_entry(bench: Bench, entries: list[Entry]) -> None:
    """What it hides of the layers below is recorded: the kernel merges the roots of all layers."""
    with bench.store() as store:
        store.build([STANDARD, [ops.WriteAt(b"a", 0, b"above"), ops.RemoveDirectory(b"e")]])
        store.create("child", "layer-1")
        last = archives.file("last", b"last")
        archive = store.archive(
            [*entries, archives.whiteout(".wh..wh..opq"), last, archives.whiteout(".wh..wh..opq")]
        )
        if store.may_refuse(store.applying("child", archive)) is None:
            brought = {b"last": b"last", **({b"d/new": b"new"} if entries else {})}
            found = store.shows_files("child", brought, gone=[b"e"])
            hidden = [name for name in (b"a", b"b", b"d/a") if name not in found.nodes]
            store.record("an opaque whiteout in the root hides", f"{len(hidden)} of 3 names of the layers below")
            one_of(
                "number of 3 names of the layers below that an opaque whiteout in the root hides",
                len(hidden),
                (0, 3),
            )
        store.shows_model("layer-1")


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-WHITEOUT-UNSEEN")
def test_whiteouts_over_a_directory_that_was_made_again(bench: Bench) -> None:
    """The layer between shows nothing of the base's directory, and a whiteout hides what it has itself."""
    between: list[ops.Operation] = [
        ops.RemoveTree(b"d"),
        ops.MakeDirectory(b"d", 0o755),
        ops.CreateFile(b"d/own", b"own", 0o644),
        ops.CreateFile(b"d/other", b"other", 0o644),
    ]
    with bench.store() as store:
        store.build([STANDARD, between])
        store.create("child", "layer-1")
        store.applied("child", [archives.whiteout(f"d/.wh.{name}") for name in ("own", "a", "d")])
        store.shows_files("child", {b"d/other": b"other"}, gone=(b"d/own", b"d/a", b"d/d", b"d/d/a"))
        listed = sorted(path for path in store.observed("child").nodes if path.startswith(b"d/"))
        equal("the names in the directory 'd' of the child", listed, [b"d/other"])


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-UNSEEN")
@pytest.mark.parametrize(
    "between",
    [
        pytest.param((), id="nothing"),
        pytest.param((ops.CreateFile(b"d", b"d", 0o644),), id="a-file"),
        pytest.param((ops.MakeSymlink(b"d", b"e"),), id="a-symlink"),
        pytest.param((ops.MakeDirectory(b"d", 0o755),), id="a-directory"),
    ],
)
def test_whiteouts_over_what_a_layer_between_has_deleted(bench: Bench, between: tuple[ops.Operation, ...]) -> None:
    """What the base has in a directory is hidden already, by nothing or by something else in its place."""
    with bench.store() as store:
        store.build([STANDARD, [ops.RemoveTree(b"d"), *between]])
        store.create("child", "layer-1")
        names = ("d/a", "d/d", "d/nowhere")
        entries = [archives.whiteout(f"{name[:2]}.wh.{name[2:]}") for name in names]
        store.applied("child", [archives.directory("d"), *entries, archives.file("d/new", b"new")])
        tree = store.shows_files("child", {b"d/new": b"new"}, gone=[name.encode() for name in names])
        equal(
            "the names in the directory 'd' of child",
            sorted(path for path in tree.nodes if path.startswith(b"d/")),
            [b"d/new"],
        )


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-LAST-WINS")
def test_a_later_directory_or_file_stays(bench: Bench) -> None:
    """An opaque directory that a file replaces is no directory any more, and one of two modes is the later."""
    twice = [Entry("x", tarfile.DIRTYPE, mode=0o700, records={"SCHILY.xattr.user.first": "1"}, mtime=1)]
    replaced = [archives.directory("d"), archives.whiteout("d/.wh..wh..opq"), archives.file("d", b"file")]
    with bench.store() as store:
        store.build([STANDARD])
        store.create("twice", "layer-0")
        archive = store.archive([*twice, archives.directory("x", 0o711)])
        if store.may_refuse(store.applying("twice", archive)) is None and bench.has("attributes"):
            mode = store.observed("twice").nodes[b"x"].mode & 0o7777
            same_field(b"x", "mode", f"{mode:04o}", stat.S_IFDIR | 0o711, "0711")
        store.create("replaced", "layer-0")
        if store.may_refuse(store.applying("replaced", store.archive(replaced))) is None:
            store.shows_files("replaced", {b"d": b"file"}, gone=[b"d/a"])
