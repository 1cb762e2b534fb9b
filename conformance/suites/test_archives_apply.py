"""What applying an archive does, archives included that no driver writes and many builders do."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from conformance.harness.assertions import equal, nothing, same_field, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import charged_to
from conformance.harness.entries import entry_names
from conformance.history.calls import ApplyDiff, Remove
from conformance.history.findings import WrongAnswer
from conformance.operations import archives, ops
from conformance.operations.archives import Entry
from conformance.operations.standard import STANDARD
from conformance.suites.applycases import REPLACED, UNSEEN


@contextmanager
def child_of_standard(bench: Bench, umask: int | None = None) -> Iterator[Store]:
    """A store with the layer "base" as in STANDARD, applied as an archive may be, and an empty "child" on it."""
    with layer_to_apply_to(bench, "child", umask) as store:
        yield store


@contextmanager
def layer_to_apply_to(bench: Bench, layer_id: str, umask: int | None = None) -> Iterator[Store]:
    """STANDARD in "base", and "child" on it if that is the layer; what an archive is applied to has no child."""
    with bench.store(umask=umask) as store:
        store.create("base")
        store.change("base", STANDARD)
        if layer_id == "child":
            store.create("child", "base")
        yield store


def refuses_the_first(bench: Bench, what: str, length_of: Callable[[int], int]) -> None:
    """An archive of one file is refused when it is cut; ``length_of`` takes where its content begins."""
    content = b"start" + bytes(range(256)) * 156
    data = archives.archive([archives.file("big", content)])
    length = length_of(data.index(content))
    with bench.store() as store:
        store.create("base")
        archive = store.bytes_of_archive(data[:length], f"one file, cut after {length} bytes ({what})")
        store.refuses(store.applying("base", archive))


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-TRUNCATED")
def test_an_archive_cut_in_a_header_is_refused(bench: Bench) -> None:
    refuses_the_first(bench, "half a header", lambda start: start - 200)


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-TRUNCATED")
def test_an_archive_cut_in_a_file_is_refused(bench: Bench) -> None:
    refuses_the_first(bench, "half a file", lambda start: start + 20_000)


@pytest.mark.requirement("OVL-APPLY-NO-END")
@pytest.mark.parametrize("last", [b"", b"last"], ids=["empty", "with-content"])
def test_an_archive_without_an_end_is_refused_or_applied_whole(bench: Bench, last: bytes) -> None:
    data = archives.archive([archives.file("first", b"first"), archives.file("last", last)])
    whole = -(-len(data.rstrip(b"\0")) // archives.BLOCK) * archives.BLOCK
    with bench.store() as store:
        store.create("base")
        archive = store.bytes_of_archive(data[:whole], "two files, and no end of the archive")
        if store.may_refuse(store.applying("base", archive)) is None:
            store.shows_files("base", {b"first": b"first", b"last": last})


@pytest.mark.requirement("OVL-APPLY-REFUSED-WHOLE")
def test_a_refused_archive_leaves_the_layer_as_it_was(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        store.change("child", [ops.CreateFile(b"own", b"own", 0o644)])
        before = store.observed("child")
        data = archives.archive(
            [archives.file("new"), archives.whiteout(".wh.a"), archives.file("big", b"b" * 40_000)]
        )
        archive = store.bytes_of_archive(data[:20_000], "new, .wh.a and a file that is cut")
        store.refuses(store.applying("child", archive))
        after = store.may_show("child")  # seen as incomplete: as good
        if after is not None:
            same_tree("child, after an archive was refused,", before, after)
        store.do(Remove("child"))
        store.shows_model("base")


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-EMPTY")
def test_an_archive_of_nothing_changes_nothing(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        store.applied("child", [])
        store.shows_model("child")


@pytest.mark.requirement("OVL-APPLY-KINDS")
@pytest.mark.parametrize(("entry", "path", "gone"), [pytest.param(*one, id=name) for name, one in REPLACED.items()])
@pytest.mark.parametrize("layer_id", ["child", "base"], ids=["of-the-layer-below", "of-the-layer-itself"])
def test_an_entry_replaces_another_kind(
    bench: Bench, layer_id: str, entry: Entry, path: bytes, gone: tuple[bytes, ...]
) -> None:
    with layer_to_apply_to(bench, layer_id) as store:
        store.applied(layer_id, [entry])
        pointed_at = {b"d/a": None} if path == b"b" else {}
        tree = store.shows_files(layer_id, {path: entry.content, **pointed_at}, gone=gone)
        kind = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK}.get(entry.kind, stat.S_IFREG)
        found = stat.filemode(tree.nodes[path].mode)[0]
        equal(f"the file type of {path!r} ({entry.describe()})", found, stat.filemode(kind)[0])


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-KINDS")
@pytest.mark.parametrize(
    "second",
    [archives.file("x", b"new"), archives.symlink("x", "a"), archives.directory("x")],
    ids=["file", "symlink", "directory"],
)
def test_an_entry_replaces_a_name_and_not_its_inode(bench: Bench, second: Entry) -> None:
    with child_of_standard(bench) as store:
        store.applied("child", [archives.file("x", b"old"), archives.hard_link("y", "x")])
        store.applied("child", [second])
        store.shows_files("child", {b"x": second.content, b"y": b"old", b"a": b"a in the base"})


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-KINDS")
def test_a_file_replaces_a_symlink_and_not_its_target(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        store.applied("child", [archives.file("x", b"old"), archives.symlink("y", "x")])
        store.applied("child", [archives.file("y", b"new")])
        store.shows_files("child", {b"x": b"old", b"y": b"new"})


@pytest.mark.requirement("OVL-APPLY-KINDS")
@pytest.mark.parametrize("layer_id", ["child", "base"], ids=["of-the-layer-below", "of-the-layer-itself"])
def test_a_directory_is_merged_with_a_directory(bench: Bench, layer_id: str) -> None:
    with layer_to_apply_to(bench, layer_id) as store:
        store.applied(layer_id, [archives.directory("d", 0o700), archives.file("d/new", b"new")])
        tree = store.shows_files(layer_id, {b"d/a": b"d/a in the base", b"d/d/a": None, b"d/new": b"new"})
        if bench.has("attributes"):
            same_field(b"d", "mode", f"{tree.nodes[b'd'].mode & 0o7777:04o}", stat.S_IFDIR | 0o700, "0700")


@pytest.mark.smoke
@pytest.mark.requirement("OVL-APPLY-PARENTS")
def test_missing_parents_are_made(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        store.applied("child", [archives.file("x/y/z", b"z"), archives.file("d/new/f", b"f")])
        tree = store.shows_files("child", {b"x/y/z": b"z", b"d/new/f": b"f", b"d/a": b"d/a in the base"})
        equal("the file type of 'x/y'", stat.filemode(tree.nodes[b"x/y"].mode)[0], "d")


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-NAME-FORMS")
def test_names_have_several_forms(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        entries = [
            archives.directory("./"),
            archives.directory("./x/"),
            archives.file("./x/f", b"1"),
            archives.file("x//g", b"2"),
            archives.file("x/./h", b"3"),
            archives.whiteout("./.wh.a"),
        ]
        # Dots that are a part of a name are no "." and no "..", whatever form the name has.
        dotted = {b"x/..y": b"4", b"x/x..": b"5", b"x/...": b"6"}
        entries += [archives.file(os.fsdecode(name.replace(b"/", b"//")), data) for name, data in dotted.items()]
        store.applied("child", entries)
        store.shows_files("child", {b"x/f": b"1", b"x/g": b"2", b"x/h": b"3", **dotted}, gone=(b"a",))


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-FORMATS")
@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"]
)
def test_formats_are_read_alike(bench: Bench, form: int) -> None:
    # ustar has 155 and 100 bytes for a name, and 100 for a target
    long = "/".join(["l" * 32] * 3) if form == tarfile.USTAR_FORMAT else "/".join(["l" * 120] * 3)
    entries = [
        archives.file(long, b"long"),
        archives.symlink("s", "t" * 90),
        archives.hard_link("h", long),
        archives.whiteout("d/.wh.a"),
        Entry("owned", owner=(1000, 1000) if bench.privileged else (0, 0)),
    ]
    with child_of_standard(bench) as store:
        store.applied("child", entries, form)
        tree = store.shows_files(
            "child", there={os.fsencode(long): b"long", b"h": b"long", b"s": None}, gone=(b"d/a",)
        )
        if bench.has("attributes"):
            owner = entries[-1].owner
            same_field(b"owned", "owner", str(tree.nodes[b"owned"].uid), owner, str(owner[0]))


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-FORMATS")
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_numbers_beyond_octal_digits_are_read_alike(bench: Bench, form: int) -> None:
    """GNU tar writes them in base 256, with a sign, and pax in records of their own."""
    bench.need("attributes")
    seconds = {"future": 2**33 + 1}
    if bench.has("early-times"):
        seconds |= {"past": -5, "long-past": -(2**31)}
    entries = [Entry(name, mtime=time) for name, time in seconds.items()]
    owners = {"owned": (2**31, 2_097_152), "most": (2**32 - 2, 2_097_151)} if bench.privileged else {}
    entries += [Entry(name, owner=owner) for name, owner in owners.items()]
    with bench.store() as store:
        store.create("base")
        store.applied("base", entries, form)
        nodes = store.observed("base").nodes
        times = {name: (nodes[os.fsencode(name)].mtime_ns or 0) // 10**9 for name in seconds}
        equal("the seconds of the files' times", times, seconds)
        found = {name: (nodes[os.fsencode(name)].uid, nodes[os.fsencode(name)].gid) for name in owners}
        equal("the owners of the files", found, owners)


@pytest.mark.requirement("OVL-APPLY-ENTRIES")
@pytest.mark.parametrize("owner", [(70_000, 70_001), (2**32 - 1, 1), (1, 2**32 - 1), (2**32, 1), (1, 2**33)])
def test_an_owner_is_kept_or_refused(bench: Bench, owner: tuple[int, int]) -> None:
    """In a user namespace the kernel gives no file to an owner outside of it (user_namespaces(7)).

    No file has an owner of 2^32 - 1, which chown(2) takes for none, or above.
    """
    bench.need("attributes")
    with bench.store() as store:
        store.create("base")
        if store.may_refuse(store.applying("base", store.archive([Entry("f", owner=owner)]))) is None:
            node = store.observed("base").nodes[b"f"]
            same_field(b"f", "owner", f"{node.uid}:{node.gid}", owner, "{}:{}".format(*owner))


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-FORMATS")
def test_a_record_without_a_value_ends_nothing(bench: Bench) -> None:
    """It leaves what the header says (pax(1)), and the records behind it count."""
    with bench.store() as store:
        store.create("base")
        store.applied("base", [Entry("in-the-header", records={"gname": "", "path": "in-the-record"})])
        store.shows_names("base", {b"in-the-record"})


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-FORMATS")
def test_a_global_header_is_taken(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        data = archives.archive([archives.file("new", b"new")], records={"comment": "0123456789abcdef"})
        store.apply("child", store.bytes_of_archive(data, "a global header with a comment, and the file 'new'"))
        store.shows_files("child", {b"new": b"new"}, gone=(b"pax_global_header",))


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-LAST-WINS")
def test_the_later_of_two_entries_stays(bench: Bench) -> None:
    first = [archives.file("x", b"first, and longer"), archives.symlink("y", "a")]
    with child_of_standard(bench) as store:
        archive = store.archive([*first, archives.file("x", b"last"), archives.file("y", b"y")])
        if store.may_refuse(store.applying("child", archive)) is None:
            store.shows_files("child", {b"x": b"last", b"y": b"y", b"a": b"a in the base"})


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-MISSING")
def test_a_whiteout_of_nothing_does_no_harm(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        store.applied(
            "child",
            [archives.whiteout(".wh.missing"), archives.whiteout("d/.wh.missing"), archives.file("new", b"new")],
        )
        store.shows_files(
            "child", there={b"new": b"new", b"d/a": None, b"a": None}, gone=(b"missing", b"d/missing")
        )


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-BEFORE")
@pytest.mark.parametrize("entry", [(archives.directory("d"),), ()], ids=["by-its-entry", "by-what-is-in-it"])
def test_a_whiteout_and_then_the_directory(bench: Bench, entry: tuple[Entry, ...]) -> None:
    with child_of_standard(bench) as store:
        archive = store.archive([archives.whiteout(".wh.d"), *entry, archives.file("d/new", b"new")])
        if entry:
            store.apply("child", archive)
        elif store.may_refuse(store.applying("child", archive)) is not None:
            return  # that a directory is made which the archive deletes and does not bring, no specification says
        store.shows_files("child", {b"d/new": b"new"}, gone=(b"d/a", b"d/d"))


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-AFTER")
def test_a_file_and_then_its_whiteout(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        store.applied("child", [archives.file("a", b"new"), archives.whiteout(".wh.a")])
        store.shows_files("child", {b"a": b"new"})


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-AFTER")
@pytest.mark.parametrize("hidden", [".wh.d", "d/.wh.d"])
@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_a_deep_file_and_then_the_whiteout_of_a_directory_above(bench: Bench, hidden: str, filled: bool) -> None:
    """The directories between have no entries, and hold nothing of the parent's afterwards."""
    with child_of_standard(bench) as store:
        if filled:  # what an archive brought is not all that the layer holds then
            store.change("child", [ops.CreateFile(b"own", b"own", 0o644)])
        store.applied("child", [archives.file("d/d/new/deep", b"new"), archives.whiteout(hidden)])
        gone = (b"d/d/a", b"d/a") if hidden == ".wh.d" else (b"d/d/a",)
        store.shows_files("child", {b"d/d/new/deep": b"new"}, gone=gone)


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-INSIDE")
def test_a_whiteout_inside_of_what_is_deleted(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        store.applied("child", [archives.whiteout(".wh.d"), archives.whiteout("d/.wh.a")])
        store.shows_files("child", {b"a": None}, gone=(b"d/a", b"d/d"))


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-UNSEEN")
@pytest.mark.parametrize("entries", [pytest.param(entries, id=name) for name, entries in UNSEEN.items()])
def test_no_whiteout_is_seen(bench: Bench, entries: tuple[Entry, ...]) -> None:
    with child_of_standard(bench) as store:
        store.applied("child", entries)
        hides = len(entries) > 2
        tree = store.shows_files("child", {b"a": None}, gone=(b"x/y", b"d/a") if hides else (b"x/y",))
        if hides and b"d/d/a" in tree.nodes:  # which no whiteout of a name inside names
            again = entries[0].name == ".wh.d"
            with charged_to("OVL-APPLY-WHITEOUT-BEFORE" if again else "OVL-APPLY-OPAQUE-ORDER"):
                store.shows_files("child", {}, gone=(b"d/d/a",))


@pytest.mark.requirement("OVL-APPLY-WHITEOUT-UNSEEN")
def test_no_whiteout_is_seen_in_a_base_layer(bench: Bench) -> None:
    with bench.store() as store:
        store.create("base")
        store.applied(
            "base",
            [archives.whiteout(".wh.x"), archives.directory("d"), archives.whiteout("d/.wh.x"), archives.file("f")],
        )
        store.shows_files("base", {b"f": b"content", b"d": None}, gone=(b"x", b"d/x"))


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-OPAQUE-ORDER")
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_an_opaque_mark_hides_what_is_below(bench: Bench, last: bool) -> None:
    entries = [archives.file("d/new", b"new"), archives.directory("d/d")]
    mark = archives.whiteout("d/.wh..wh..opq")
    with child_of_standard(bench) as store:
        store.applied("child", [archives.directory("d"), *([*entries, mark] if last else [mark, *entries])])
        store.shows_files("child", {b"d/new": b"new", b"d/d": None}, gone=(b"d/a", b"d/d/a"))


@pytest.mark.requirement("OVL-APPLY-OTHER-MARKS")
def test_other_marks_are_metadata(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        store.applied(
            "child",
            [archives.file(".wh..wh.aufs", b"x"), archives.directory(".wh..wh.orph"), archives.file("new", b"new")],
        )
        tree = store.shows_files("child", {b"new": b"new", b"a": None, b"d/a": None})
        marks = [path for path in tree.nodes if b".wh." in path]
        nothing("metadata entries of the archive in the layer", marks, WrongAnswer())


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-UMASK")
def test_the_umask_has_no_say(bench: Bench) -> None:
    with child_of_standard(bench, umask=0o077) as store:
        store.applied("child", [archives.file("f", mode=0o666), archives.directory("x", 0o777)])
        tree = store.observed("child")
        modes = {path: oct(tree.nodes[path].mode & 0o7777) for path in (b"f", b"x")}
        equal("the modes", modes, {b"f": oct(0o666), b"x": oct(0o777)})


@pytest.mark.quick
@pytest.mark.requirement("OVL-APPLY-PARENT-UNTOUCHED")
def test_the_parent_is_left_alone(bench: Bench) -> None:
    with child_of_standard(bench) as store:
        entries = [
            archives.whiteout(".wh.a"),
            archives.file("d/a", b"new"),
            archives.directory("e", 0o700),
            archives.whiteout("d/.wh.d"),
        ]
        store.applied("child", entries)
        store.shows_model("base")


@pytest.mark.parametrize(
    "requirement",
    [
        pytest.param(one, marks=pytest.mark.requirement(one))
        for one in ("OVL-APPLY-PARENT-UNTOUCHED", "OVL-APPLY-SECOND-DIFF")
    ],
)
@pytest.mark.parametrize("against", ["layer-0", "beside", ""])
def test_an_archive_against_another_layer_is_applied_to_the_whole_tree(
    bench: Bench, against: str, requirement: str
) -> None:
    """A driver may write into the layer's own directory for its parent only, and into the tree for any other."""
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"one", b"1", 0o644)]])
        store.create("beside")
        store.create("top", "layer-1")
        archive = store.archive([archives.whiteout(".wh.a"), archives.whiteout("d/.wh.a"), archives.file("new")])
        for layer_id in ("top", "beside"):
            if layer_id != against:
                store.do(ApplyDiff(layer_id, against, store.label(archive)))
        if requirement == "OVL-APPLY-SECOND-DIFF":
            store.shows_files("top", {b"new": None, b"one": b"1", b"d/d/a": None}, gone=[b"a", b"d/a"])
            if bench.has("diff"):
                lacking = {".wh.a", "d/.wh.a", "new"} - set(entry_names(store.diff("top")))
                nothing("names of the archive that the diff of top lacks", lacking, WrongAnswer())
        else:
            for layer_id in ("layer-0", "layer-1"):
                store.shows_model(layer_id)
