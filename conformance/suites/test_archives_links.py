"""Hard links of an archive: what they replace, and what becomes of the links of a layer below."""

from __future__ import annotations

import pytest

from conformance.harness.assertions import equal
from conformance.harness.bench import Bench
from conformance.operations import archives, ops
from conformance.operations.standard import STANDARD

_MANY = 70  # directories


@pytest.mark.requirement("OVL-APPLY-KINDS")
@pytest.mark.parametrize("layer_id", ["child", "base"], ids=["of-the-layer-below", "of-the-layer-itself"])
def test_a_hard_link_replaces_any_kind(bench: Bench, layer_id: str) -> None:
    """A file, a symlink to a directory, a directory with files in it, and a pipe."""
    replaced = ("a", "b", "d", "p")
    with bench.store() as store:
        store.create("base")
        store.change("base", [*STANDARD, ops.MakeFifo(b"p", 0o600)])
        if layer_id == "child":
            store.create("child", "base")
        store.applied(layer_id, [archives.file("t", b"t"), *(archives.hard_link(name, "t") for name in replaced)])
        names = {name.encode() for name in (*replaced, "t")}
        tree = store.shows_files(layer_id, dict.fromkeys(names, b"t"), gone=(b"d/a", b"d/d"))
        if bench.has("attributes"):
            linked = sorted(sorted(group) for group in tree.link_groups)
            equal(f"the names of {layer_id} that are links of one inode", linked, [sorted(names)])


@pytest.mark.requirement("OVL-APPLY-KINDS")
def test_names_of_an_inode_below_stay_where_others_are_replaced(bench: Bench) -> None:
    """No specification says whether the names that stay are still links of one inode; the result has it."""
    names = ("first", "second", "deleted", "replaced", "linked")
    with bench.store() as store:
        store.create("base")
        store.applied(
            "base", [archives.file(names[0], b"old"), *(archives.hard_link(name, names[0]) for name in names[1:])]
        )
        store.create("child", "base")
        entries = [archives.whiteout(".wh.deleted"), archives.file("replaced", b"new")]
        store.applied("child", [*entries, archives.file("other", b"other"), archives.hard_link("linked", "other")])
        tree = store.shows_files(
            "child",
            {
                b"first": b"old",
                b"second": b"old",
                b"replaced": b"new",
                b"linked": b"other",
                b"other": b"other",
            },
            gone=(b"deleted",),
        )
        if bench.has("attributes"):
            whether = "linked" if frozenset({b"first", b"second"}) in tree.link_groups else "not linked"
            store.record("lower names of one inode, of which the archive replaces other names", whether)
        store.shows_files("base", {name.encode(): b"old" for name in names})


@pytest.mark.requirement("OVL-APPLY-ENTRIES")
def test_links_between_many_directories_have_their_targets(bench: Bench) -> None:
    """More directories than an unpacker keeps open: links from one to all, and from all to one."""
    places = [f"d{number:02}" for number in range(_MANY)]
    entries = [archives.file("hub/target", b"t"), *(archives.file(f"{place}/own", b"own") for place in places)]
    entries += [archives.hard_link(f"hub/{place}", f"{place}/own") for place in places]
    entries += [archives.hard_link(f"{place}/link", "hub/target") for place in reversed(places)]
    with bench.store() as store:
        store.create("base")
        store.applied("base", entries)
        groups = [{f"hub/{place}".encode(), f"{place}/own".encode()} for place in places]
        groups.append({b"hub/target", *(f"{place}/link".encode() for place in places)})
        own = {name: b"own" for group in groups[:-1] for name in group}
        tree = store.shows_files("base", {**dict.fromkeys(groups[-1], b"t"), **own})
        if bench.has("attributes"):
            equal("the links of base", sorted(map(sorted, tree.link_groups)), sorted(map(sorted, groups)))
