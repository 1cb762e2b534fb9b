"""Hostile archives: whatever becomes of the layer, nothing outside it changes."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

import pytest

from conformance.harness.assertions import equal, nothing
from conformance.harness.attribution import of_the_driver
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import charged_to
from conformance.harness.entries import entry_names
from conformance.history.calls import ApplyDiff, Changes, Get, Put
from conformance.history.findings import RootReplaced, WrongAnswer
from conformance.operations import archives, ops
from conformance.operations.archives import Entry
from conformance.suites.changes import changes_of, says
from conformance.suites.outside import SECRET, Outside, still_well, targets, try_to_apply, up_to


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-DOTDOT")
@pytest.mark.parametrize("layer_id", ["base", "child"])
@pytest.mark.parametrize("lead", ["", "d/", "new/"], ids=["at-once", "in-a-directory", "in-a-new-one"])
def test_dots_lead_nowhere(bench: Bench, layer_id: str, lead: str) -> None:
    with targets(bench) as (store, outside):
        if layer_id == "base":
            store.create("lone")
        where = "lone" if layer_id == "base" else layer_id
        try_to_apply(
            store,
            where,
            [archives.file(lead + up_to(outside) + "/new"), archives.directory(lead + up_to(outside), 0o777)],
        )
        still_well(store)


@pytest.mark.requirement("OVL-HOSTILE-ABSOLUTE")
def test_absolute_names_lead_nowhere(bench: Bench) -> None:
    with targets(bench) as (store, outside):
        entries = [
            archives.file(f"{outside.path}/new"),
            archives.file(f"{outside.path}/secret"),
            archives.directory(str(outside.path), 0o777),
        ]
        try_to_apply(store, "child", entries)
        still_well(store)


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-SYMLINK")
@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
@pytest.mark.parametrize("depth", [1, 2])
def test_symlinks_of_the_archive_lead_nowhere(bench: Bench, absolute: bool, depth: int) -> None:
    with targets(bench) as (store, outside):
        target = str(outside.path) if absolute else up_to(outside)
        links = (
            [archives.symlink("s", target)]
            if depth == 1
            else [archives.symlink("s", "t"), archives.symlink("t", target)]
        )
        try_to_apply(
            store,
            "child",
            [*links, archives.file("s/new"), archives.file("s/secret"), archives.directory("s/sub", 0o777)],
        )
        outside.check()
        try_to_apply(store, "child", [*links, archives.directory("s", 0o777), archives.file("s/new")])
        still_well(store)


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-SYMLINK-BELOW")
def test_symlinks_that_are_there_lead_nowhere(bench: Bench) -> None:
    with targets(bench) as (store, outside):
        target = os.fsencode(outside.path)
        store.create("links")
        store.change("links", [ops.MakeSymlink(b"s", target), ops.MakeSymlink(b"up", os.fsencode(up_to(outside)))])
        store.create("on-links", "links")
        for name in ("s", "up"):
            entries = [
                archives.file(f"{name}/new"),
                archives.file(f"{name}/secret"),
                archives.directory(f"{name}/sub", 0o777),
            ]
            try_to_apply(store, "on-links", entries)
            outside.check()
            try_to_apply(store, "links", entries)
            outside.check()
        still_well(store)


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-HARD-LINK", "OVL-HOSTILE-HARD-LINK-MODE")
@pytest.mark.parametrize("way", ["absolute", "dots", "symlink"])
def test_hard_links_reach_nothing_outside(bench: Bench, way: str) -> None:
    linked = ("OVL-HOSTILE-HARD-LINK", "OVL-HOSTILE-HARD-LINK-MODE")  # a further name is a link count too
    with charged_to("OVL-HOSTILE-HARD-LINK-MODE"), targets(bench) as (store, outside):
        target = {"absolute": f"{outside.path}/secret", "dots": up_to(outside) + "/secret", "symlink": "s/secret"}[
            way
        ]
        first = [archives.symlink("s", str(outside.path))] if way == "symlink" else []
        # Then written through, and given another mode: an entry of the same name replaces it.
        try_to_apply(store, "child", [*first, archives.hard_link("h", target)])
        with charged_to(*linked):
            outside.check()
        try_to_apply(
            store, "child", [*first, archives.hard_link("h", target), archives.file("h", b"overwritten", 0o4777)]
        )
        secrets = [path for path, node in store.observed("child").nodes.items() if node.content == SECRET]
        with charged_to("OVL-HOSTILE-HARD-LINK"):
            nothing("names under which the layer shows a file of the host", secrets)
        still_well(store)


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-HARD-LINK-MODE")
def test_a_link_to_a_symlink_changes_no_mode_of_its_target(bench: Bench) -> None:
    with targets(bench) as (store, outside):
        entries = [
            archives.symlink("s", f"{outside.path}/secret"),
            Entry("h", tarfile.LNKTYPE, target="s", mode=0o4777),
        ]
        try_to_apply(store, "child", [*entries, Entry("s", tarfile.LNKTYPE, target="h", mode=0o4777)])
        still_well(store)


@pytest.mark.requirement("OVL-HOSTILE-DOT")
@pytest.mark.parametrize("name", [".", "./", "/", "..", "a/..", "d/."])
@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_the_root_of_a_layer_is_a_directory(bench: Bench, name: str, kind: str) -> None:
    with targets(bench) as (store, outside):
        entry = archives.symlink(name, str(outside.path)) if kind == "symlink" else archives.file(name)
        try_to_apply(store, "child", [entry, archives.file("new")])
        has_its_root(store, "child", name)
        still_well(store)


def has_its_root(store: Store, layer_id: str, name: str) -> None:
    """The root of a layer on "base" holds what it did before an entry of this name; raises Deviation."""
    root = store.do(Get(layer_id))
    try:
        whole = stat.S_ISDIR(os.lstat(root).st_mode) and os.path.lexists(f"{root}/a")
        what = f"whether the root of {layer_id} holds 'a' after an entry called {name!r}"
        equal(what, whole, True, RootReplaced(b"a"))
    finally:
        store.do(Put(layer_id))


@pytest.mark.requirement("OVL-HOSTILE-WHITEOUT-DOTS")
@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."])
def test_whiteouts_of_dots_delete_nothing(bench: Bench, name: str) -> None:
    with targets(bench) as (store, _):
        try_to_apply(store, "child", [archives.whiteout(name)])
        store.shows_files("child", dict.fromkeys((b"a", b"d", b"d/a", b"d/d/a", b"e")))
        still_well(store)


@pytest.mark.quick
@pytest.mark.parametrize(
    "mark",
    [
        pytest.param(".wh.secret", marks=pytest.mark.requirement("OVL-HOSTILE-WHITEOUT-OUT")),
        pytest.param(".wh..wh..opq", marks=pytest.mark.requirement("OVL-HOSTILE-OPAQUE-OUT")),
    ],
)
@pytest.mark.parametrize("way", ["archive", "layer", "dots"])
def test_deletions_reach_nothing_outside(bench: Bench, mark: str, way: str) -> None:
    with targets(bench) as (store, outside):
        if way == "dots":
            try_to_apply(store, "child", [archives.whiteout(f"{up_to(outside)}/{mark}")])
        elif way == "archive":
            try_to_apply(store, "child", [archives.symlink("s", str(outside.path)), archives.whiteout(f"s/{mark}")])
        else:
            store.change("child", [ops.MakeSymlink(b"s", os.fsencode(outside.path))])
            try_to_apply(store, "child", [archives.whiteout(f"s/{mark}")])
        still_well(store)


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-OPAQUE-OUT")
def test_an_opaque_mark_behind_a_symlink_clears_nothing(bench: Bench) -> None:
    """STANDARD has the symlink b to the directory d."""
    with targets(bench) as (store, _):
        if not try_to_apply(store, "child", [archives.whiteout("b/.wh..wh..opq")]):
            store.record("an opaque whiteout below a symlink of a lower layer", "refused")
        elif bench.has("replaced-symlinks"):
            store.shows_files("child", {b"d/a": None, b"d/d/a": None})
        else:
            found = store.observed("child").nodes
            whether = "kept" if b"d/a" in found and b"d/d/a" in found else "deleted"
            store.record(
                "an opaque whiteout below a symlink of a lower layer", f"the target's content is {whether}"
            )
        still_well(store)


@pytest.mark.requirement("OVL-HOSTILE-OVERLAY-XATTRS")
@pytest.mark.parametrize("name", ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy"])
def test_an_archive_sets_no_marks_of_overlay(bench: Bench, name: str) -> None:
    with targets(bench) as (store, _):
        value = {"trusted.overlay.opaque": "y", "trusted.overlay.redirect": "/d/d"}.get(name, "")
        entries = [
            Entry("d", tarfile.DIRTYPE, mode=0o755, records={f"SCHILY.xattr.{name}": value}),
            Entry("x", tarfile.DIRTYPE, mode=0o755, records={f"SCHILY.xattr.{name}": value}),
        ]
        if try_to_apply(store, "child", entries):
            store.shows_files("child", {b"d/a": None}, gone=[b"x/a"])
        still_well(store)


def hostile_archives(outside: Outside) -> Iterator[tuple[str, list[Entry]]]:
    """The requirement that each would violate, and its entries."""
    away, up = str(outside.path), up_to(outside)
    for name in (".", "..", "d/.."):
        for entry in (archives.file(name), archives.symlink(name, away)):
            yield "OVL-HOSTILE-DOT", [entry, archives.file("new")]
    for name in (up, f"d/{up}"):
        yield "OVL-HOSTILE-DOTDOT", [archives.file(f"{name}/secret"), archives.directory(name, 0o777)]
    yield "OVL-HOSTILE-ABSOLUTE", [archives.file(f"{away}/secret"), archives.directory(away, 0o777)]
    link = archives.symlink("s", away)
    yield "OVL-HOSTILE-SYMLINK", [link, archives.file("s/secret"), archives.directory("s/sub", 0o777)]
    yield "OVL-HOSTILE-SYMLINK", [link, archives.directory("s", 0o777), archives.file("s/new")]
    for target in (f"{away}/secret", f"{up}/secret"):
        yield "OVL-HOSTILE-HARD-LINK-MODE", [archives.hard_link("h", target), archives.file("h", b"h", 0o4777)]
    for requirement, mark in (
        ("OVL-HOSTILE-WHITEOUT-OUT", ".wh.secret"),
        ("OVL-HOSTILE-OPAQUE-OUT", ".wh..wh..opq"),
    ):
        yield requirement, [archives.whiteout(f"{up}/{mark}")]
        yield requirement, [link, archives.whiteout(f"s/{mark}")]


@pytest.mark.requirement(
    "OVL-HOSTILE-DOT",
    "OVL-HOSTILE-DOTDOT",
    "OVL-HOSTILE-ABSOLUTE",
    "OVL-HOSTILE-SYMLINK",
    "OVL-HOSTILE-HARD-LINK-MODE",
    "OVL-HOSTILE-WHITEOUT-OUT",
    "OVL-HOSTILE-OPAQUE-OUT",
)
def test_an_archive_against_a_twin_reaches_nothing_outside(bench: Bench) -> None:
    """A driver may unpack it into the mounted tree, beside which its own files are."""
    with targets(bench) as (store, outside):
        store.create("twin")
        store.apply("twin", store.diff("base"))
        for number, (requirement, entries) in enumerate(hostile_archives(outside)):
            with charged_to(requirement), of_the_driver(store.directory):
                layer_id = store.create(f"layer-{number}", "base")
                refused = store.may_refuse(ApplyDiff(layer_id, "twin", store.label(store.archive(entries))))
                outside.check()
                if refused is None and requirement == "OVL-HOSTILE-DOT":
                    has_its_root(store, layer_id, entries[0].name)
        still_well(store)


@pytest.mark.quick
@pytest.mark.requirement("OVL-HOSTILE-DIFF-READ")
def test_reading_a_layer_follows_no_symlink(bench: Bench) -> None:
    with targets(bench) as (store, outside):
        target = os.fsencode(outside.path)
        # What was a directory below is a symlink to the host above: where a reader follows, it reads the host.
        store.change(
            "child",
            [ops.RemoveTree(b"d"), ops.MakeSymlink(b"d", target), ops.MakeSymlink(b"s", target + b"/secret")],
        )
        archive = store.diff("child")
        equal("whether the diff holds content of the host, behind a symlink", SECRET in archive.read_bytes(), False)
        beyond = [name for name in entry_names(archive) if name.startswith(("d/", "s/"))]
        nothing("names in the diff that lie behind a symlink", beyond, WrongAnswer())
        if bench.has("changes"):
            found = [change.path for change in store.do(Changes("child", "base"))]
            led = [path for path in found if b"secret" in path or path.startswith(b"/d/s")]
            nothing("changes of what lies behind a symlink", led, WrongAnswer())


@pytest.mark.requirement("OVL-HOSTILE-DIFF-READ")
def test_changes_follow_no_symlink_of_a_lower(bench: Bench) -> None:
    """What is below the name of a lower's symlink is new, whatever the host has where the symlink leads."""
    bench.need("changes")
    above: list[ops.Operation] = [
        ops.Unlink(b"s"),
        ops.MakeDirectory(b"s", 0o755),
        ops.CreateFile(b"s/passwd", b"of the layer", 0o644),
    ]
    with bench.store() as store:
        store.build([[ops.MakeSymlink(b"s", b"/etc")], above])
        says("layer-1", b"s/passwd", "add", changes_of(store, "layer-1"))
