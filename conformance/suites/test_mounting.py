"""Mounts: once each, right at every length of the option data, and gone when they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.harness.assertions import equal, names, nothing, same_tree
from conformance.harness.bench import Bench, Store
from conformance.harness.deviation import Deviation, charged_to
from conformance.harness.skips import not_applicable
from conformance.history.calls import Call, Changes, DiffSize, Get, Put, Reopen
from conformance.history.findings import WrongAnswer
from conformance.lab import mountinfo, namespace
from conformance.operations import ops
from conformance.operations.observe import observe
from conformance.operations.standard import STANDARD
from conformance.suites import earlier
from conformance.suites.mounts import mounted_once, nothing_mounted, tree_stays, two_layers

_PAGE = os.sysconf("SC_PAGESIZE")
_SHORT = len("/l/") + 26  # of a lower, after the home


@pytest.mark.smoke
@pytest.mark.requirement("OVL-MOUNT-ONCE", "OVL-MOUNT-LAST-PUT")
def test_a_layer_is_mounted_once_and_until_the_last_put(bench: Bench) -> None:
    with bench.store() as store:
        two_layers(store)
        with charged_to("OVL-MOUNT-ONCE"):
            paths = [store.do(Get("layer-1")) for _ in range(3)]
            equal("the paths of one layer", set(paths), {paths[0]})
            mounted_once(store, paths[0])
            for left in (2, 1):
                store.do(Put("layer-1"))
                tree_stays(paths[0], f"with {left} gets not put yet")
        store.do(Put("layer-1"))
        with charged_to("OVL-MOUNT-LAST-PUT"):
            nothing_mounted(store, "after a put that was not refused")


@pytest.mark.requirement("OVL-MOUNT-ONCE")
def test_a_mount_has_dozens_of_users(bench: Bench) -> None:
    with bench.store() as store:
        two_layers(store)
        paths = [store.do(Get("layer-1")) for _ in range(40)]
        equal("the paths of one layer", set(paths), {paths[0]})
        for _ in range(39):
            store.do(Put("layer-1"))
        mounted_once(store, paths[0])
        tree_stays(paths[0], "with one get of 40 not put yet")
        store.do(Put("layer-1"))


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-LAST-PUT")
def test_an_open_file_keeps_nothing_mounted(bench: Bench) -> None:
    """A mount that is busy is taken away from under its users, or the put is refused: never kept in silence."""
    with bench.store() as store:
        two_layers(store)
        store.note("open a file in layer-1")
        root = store.do(Get("layer-1"))
        with open(f"{root}/new", "rb"):
            store.note("the file is still open")
            if store.may_refuse(Put("layer-1")) is None:
                nothing_mounted(store, "after a put that was not refused")
                return
        store.do(Put("layer-1"))
        nothing_mounted(store, "after a put that was not refused")


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-EXTRA-PUT")
@pytest.mark.parametrize("again", [False, True], ids=["as-it-is", "opened-again"])
def test_a_put_too_many_does_no_harm(bench: Bench, again: bool) -> None:
    with bench.store() as store:
        two_layers(store)
        if again:
            store.do(Reopen())
        store.may_refuse(Put("layer-1"))
        root = store.do(Get("layer-1"))
        store.do(Get("layer-1"))
        mounted_once(store, root)
        store.do(Put("layer-1"))
        tree_stays(root, "with one get not put yet, after an extra put")
        store.do(Put("layer-1"))


def with_a_file_each(store: Store, layers: int) -> list[str]:
    """A chain of layers, each with a file; their ids."""
    parent = ""
    for number in range(layers):
        parent = store.create(f"layer-{number}", parent)
        store.change(parent, [ops.CreateFile(b"file-%d" % number, b"%d" % number, 0o644)])
    return [f"layer-{number}" for number in range(layers)]


def home_of_length(directory: Path, length: int, suffix: int) -> Path:
    """A directory below ``directory`` whose path, with ``suffix`` more bytes, has exactly ``length``."""
    missing = length - suffix - len(os.fsencode(directory)) - 1
    if missing < 1:
        not_applicable("the temporary directory's path is too long for this test; set --scratch")
    return directory / ("h" * missing)


@pytest.mark.requirement("OVL-MOUNT-PAGE-BOUNDARY")
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_the_page_boundary(bench: Bench, beyond: int) -> None:
    """The chain and the home are chosen so that the absolute option data has a page and ``beyond`` bytes."""
    lowers = 23  # odd, so that homes of odd and even length together reach every length of data
    with bench.store() as probe:
        added = len(probe.home) - len(str(probe.directory))  # what the adapter puts behind the directory
    bench.begin()
    wanted = _PAGE + beyond
    # lowerdir=H/l/X:...,upperdir=H/ID/diff,workdir=H/ID/work, with H the home and ID as long as it takes
    fixed = len("lowerdir=,upperdir=,workdir=") + 2 * len("//diff") + lowers * _SHORT + lowers - 1
    shortest = 2 * len("top")
    length, spare = divmod(wanted - fixed - shortest, lowers + 2)
    if spare % 2:
        length, spare = length - 1, spare + lowers + 2
    id_length = len("top") + spare // 2
    with bench.store("origin", lambda directory: home_of_length(directory, length, added)) as store:
        store.note(f"a home of {length} bytes, {lowers} lowers: {wanted} bytes of absolute option data")
        ids = with_a_file_each(store, lowers)
        top = store.create("top".ljust(id_length, "t"), ids[-1])
        store.change(top, [ops.CreateFile(b"own", b"own", 0o644)])
        store.shows_model(top)


@pytest.mark.requirement("OVL-MOUNT-PAGE-RELATIVE")
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_the_page_boundary_of_relative_paths(bench: Bench, beyond: int) -> None:
    """The chain and the top's id are chosen so that option data relative to the home has a page and ``beyond``."""
    lowers = 127 if beyond == 0 else 128  # every further byte of an id counts twice, so both parities are needed
    # lowerdir=l/X:...,upperdir=ID/diff,workdir=ID/work
    fixed = len("lowerdir=,upperdir=,workdir=") + 2 * len("/diff") + lowers * (_SHORT - 1) + lowers - 1
    length = (_PAGE + beyond - fixed) // 2
    with bench.store() as store:
        store.note(f"a chain with {lowers} lowers: {fixed + 2 * length} bytes of option data relative to the home")
        ids = [store.create("layer-0")]
        store.change(ids[0], [ops.CreateFile(b"lowest", b"lowest", 0o644)])
        for number in range(1, lowers):
            ids.append(store.create(f"layer-{number}", ids[-1]))
        store.shows_model(store.create("top".ljust(length, "t"), ids[-1]))


@pytest.mark.requirement("OVL-MOUNT-LONG-HOME")
def test_far_beyond_a_page(bench: Bench) -> None:
    with bench.store("origin", lambda directory: home_of_length(directory, 220, 0)) as store:
        store.shows_model(with_a_file_each(store, 40)[-1])


@pytest.mark.requirement("OVL-MOUNT-HOME-PRIVATE")
@pytest.mark.parametrize("home", ["below a shared mount", "a shared mount", "a filesystem of its own"])
def test_the_home_is_private(bench: Bench, home: str) -> None:
    """Where nothing is shared anyway, a driver that does nothing about it would pass."""
    with bench.store() as probe:
        below = os.path.relpath(probe.home, probe.directory)  # where the adapter puts the home
    with bench.directory() as directory:
        shared = directory / "shared"
        shared.mkdir()
        namespace.share_mounts_in(shared)
        if home == "a shared mount":
            (shared / below).mkdir(parents=True)
            namespace.share_mounts_in(shared / below)
        if home == "a filesystem of its own":
            (shared / below).mkdir(parents=True)
            namespace.mount_tmpfs(shared / below)
        judge_privacy(bench, shared, home)


@pytest.mark.requirement("OVL-MOUNT-CALLS")
def test_a_filesystem_that_others_mounted_on_the_home_stays(bench: Bench) -> None:
    """The home is a mount point when it is opened, so it is no mount of the driver that a closing ends."""
    bench.need("own-home")
    with bench.store() as probe:
        below = os.path.relpath(probe.home, probe.directory)  # where the adapter puts the home
    with bench.directory() as directory:
        home = directory / "store" / below
        home.mkdir(parents=True)
        namespace.mount_tmpfs(home)
        (home / ".of-others").touch()
        with bench.store("origin", lambda _: directory / "store") as store:
            store.beyond(f"a tmpfs was mounted on {home} before")
            store.build([STANDARD])
            store.note("open the home once more, and close that opening")
            store.another_opening().close()
            there = "there" if (home / ".of-others").exists() else "gone"
            equal(f"the filesystem that others had mounted on {home}", there, "there", WrongAnswer())


def judge_privacy(bench: Bench, directory: Path, home: str) -> None:
    """What is mounted in the home does not propagate; raises Deviation."""
    with bench.store("origin", lambda _: directory) as store:
        store.note(f"a home that is {home}")
        two_layers(store)
        root = store.do(Get("layer-1"))
        mounted = [one for one in mountinfo.mounts() if one.point == root]
        shared = [one for one in mounted if any(tag.startswith("shared:") for tag in one.propagation)]
        store.do(Put("layer-1"))
        nothing("mount of the layer that is shared with other mount namespaces", shared)


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-UPPER-ONCE")
def test_no_two_mounts_have_one_upper(bench: Bench) -> None:
    """The bench looks after every get of every test; this one gets as much as it can together."""
    with bench.store() as store:
        two_layers(store)
        store.create("child", "layer-1")
        for layer_id in ("layer-1", "child", "layer-1"):
            store.do(Get(layer_id))
        if bench.has("diff"):
            store.diff("child", "layer-0")
        for layer_id in ("layer-1", "child", "layer-1"):
            store.do(Put(layer_id))


@pytest.mark.smoke
@pytest.mark.requirement("OVL-MOUNT-AGAIN")
def test_what_was_written_is_there_again(bench: Bench) -> None:
    with bench.store() as store:
        two_layers(store)
        paths = []
        for number in range(3):
            paths.append(store.do(Get("layer-1")))
            store.do(Put("layer-1"))
            store.change("layer-1", [ops.CreateFile(b"later-%d" % number, b"x", 0o644)])
            store.shows_model("layer-1")
        equal("the paths of one layer", set(paths), {paths[0]})


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-TOGETHER")
def test_a_family_is_mounted_together(bench: Bench) -> None:
    with bench.store() as store:
        two_layers(store)
        store.create("sibling", "layer-0")
        store.change("sibling", [ops.CreateFile(b"other", b"other", 0o644)])
        ids = ("layer-0", "layer-1", "sibling")
        roots = [store.do(Get(layer_id)) for layer_id in ids]
        for layer_id, root in zip(ids, roots, strict=True):
            same_tree(f"the tree of {layer_id}, with others mounted,", store.expected(layer_id), observe(root))
        for layer_id in ids:
            store.do(Put(layer_id))


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-LEFT-OVER")
@pytest.mark.parametrize("uses", earlier.USES)
def test_uses_are_counted_beside_those_of_another_program(bench: Bench, uses: bytes) -> None:
    with bench.store() as store:
        store.build([STANDARD, [], [ops.CreateFile(b"two", b"2", 0o644)]])
        for _ in range(2):
            root = store.do(Get("layer-2"))
        store.tamper(earlier.files(uses))
        store.do(Reopen())
        equal("the path of layer-2", store.do(Get("layer-2")), root)
        for left in (3, 2, 1):
            tree_stays(root, f"with {left} gets not put yet", "two")
            store.do(Put("layer-2"))
        nothing_mounted(store, "after the last put")
        store.shows_model("layer-2")


@pytest.mark.requirement("OVL-MOUNT-LEFT-OVER")
@pytest.mark.parametrize("gets", [1, 2])
def test_a_mount_that_was_left_is_taken_over(bench: Bench, gets: int) -> None:
    with bench.store() as store:
        two_layers(store)
        for _ in range(gets):
            before = store.do(Get("layer-1"))
        store.note("layer-1 is still mounted")
        store.do(Reopen())
        after = store.do(Get("layer-1"))
        equal("the path of layer-1 after the home was opened again", after, before)
        mounted_once(store, after, least=1)
        for _ in range(gets):
            store.do(Put("layer-1"))
            tree_stays(after, "before the last put")
        store.do(Put("layer-1"))
        nothing_mounted(store, "after all puts")


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-LOST")
@pytest.mark.parametrize("gets", [1, 2])
def test_an_unmount_from_outside_is_noticed(bench: Bench, gets: int) -> None:
    with bench.store() as store:
        two_layers(store)
        for _ in range(gets):
            root = store.do(Get("layer-1"))
        store.note(f"umount {root}, by another process")
        try:
            namespace.unmount(Path(root))
        except OSError as error:
            raise Deviation(f"layer-1 was got on {root}, where nothing is mounted: {error.strerror}") from error
        shown = observe(store.do(Get("layer-1")))
        same_tree("layer-1, got again after it was unmounted from outside,", store.expected("layer-1"), shown)
        for _ in range(gets + 1):
            store.do(Put("layer-1"))


@pytest.mark.requirement("OVL-MOUNT-LOST")
def test_an_unmount_of_an_image_from_outside_is_noticed(bench: Bench) -> None:
    bench.need("image-stores", "image-mounts")
    with bench.store("origin") as images:
        two_layers(images)
        with bench.store("copy", image_stores=[images.image_store]) as store:
            store.knows(images, "layer-0", "layer-1")
            root = Path(store.do(Get("layer-1")))
            if not os.path.ismount(root):
                not_applicable("the driver does not mount a layer of an image store")
            store.beyond(f"{root} was unmounted by another process")
            namespace.unmount(root)
            shown = observe(store.do(Get("layer-1")))
            same_tree("layer-1, got again after it was unmounted from outside,", store.expected("layer-1"), shown)
            for _ in range(2):
                store.do(Put("layer-1"))
            nothing_mounted(store, "after the last put")


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-READ-ONLY-USE")
def test_reading_adds_nothing(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, ()])
        store.observed("layer-1")
        store.diff_holds("layer-1")


@pytest.mark.quick
@pytest.mark.requirement("OVL-MOUNT-LOWER-GONE")
def test_a_lower_that_is_gone_is_named(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.Unlink(b"a")], [ops.CreateFile(b"new", b"new", 0o644)]])
        link = (Path(store.home) / "layer-1" / "link").read_text()
        store.tamper([ops.Rename(b"layer-1", b".away")])  # within the home, which may be a mount of its own
        names(store.refuses(Get("layer-2")), "layer-1", link)
        store.tamper([ops.Rename(b".away", b"layer-1")])
        store.shows_model("layer-2")


@pytest.mark.requirement("OVL-MOUNT-LOWER-GONE")
@pytest.mark.parametrize("of", ["layer-2", "whole-2"])
def test_a_diff_without_a_lower_keeps_nothing_mounted(bench: Bench, of: str) -> None:
    """Two trees are compared: that of the layer, or that of the parent that is named, lacks a lower."""
    bench.need("diff")
    with bench.store() as store:
        for chain in ("layer", "whole"):
            for number in range(3):
                layer_id = store.create(f"{chain}-{number}", f"{chain}-{number - 1}" if number else "")
                store.change(layer_id, [ops.CreateFile(b"new-%d" % number, b"new", 0o644)])
        against = "whole-2" if of == "layer-2" else "layer-2"
        calls: list[Call] = [store.diffing(of, against), Changes(of, against), DiffSize(of, against)]
        asked = [
            call
            for call, capability in zip(calls, ("diff", "changes", "diff-size"), strict=True)
            if bench.has(capability) and store.may_refuse(call) is None
        ]
        store.tamper([ops.Rename(b"layer-1", b".away")])
        for call in asked:
            store.refuses(call)
            nothing_mounted(store, "after a call that was refused")
        store.tamper([ops.Rename(b".away", b"layer-1")])
        for layer_id in ("layer-2", "whole-2"):
            store.shows_model(layer_id)
        nothing_mounted(store, "after every get was put")


@pytest.mark.requirement("OVL-MOUNT-CWD")
def test_the_caller_stays_where_it_is(bench: Bench) -> None:
    """A long home makes a driver mount by relative paths, and unpacking may change the root."""
    name = "h" * 200 if bench.has("own-home") else ""
    with bench.store("origin", lambda directory: directory / name, umask=0o027) as store:
        before = bench.state_of(store)
        ids = with_a_file_each(store, 30)
        if bench.has("labels") and bench.why_not("selinux"):
            label = "system_u:object_r:container_file_t:s0"
            store.refuses(Get(ids[-1], label))
        if bench.has("diff") and bench.has("apply"):
            store.create("copy")
            store.apply("copy", store.diff(ids[0]))
        after = bench.state_of(store)
        expected, found = ((one.cwd, one.root, oct(one.umask)) for one in (before, after))
        equal("working directory, root and umask of the driver's process", found, expected)
