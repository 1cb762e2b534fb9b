"""Opening a home: fresh, again, refused; and the words that it takes."""

from __future__ import annotations

import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from conformance.drivers.protocol import DriverRefused, IdRange, OpenRequest
from conformance.harness.assertions import between, equal, nothing
from conformance.harness.bench import Bench
from conformance.harness.skips import not_applicable
from conformance.history.calls import Reopen, Status
from conformance.lab import namespace
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.suites.homes import chain_with_few_files, unchanged_on_disk
from conformance.suites.openings import FALSE_WORDS, TRUE_WORDS, backing_filesystem, refused


@pytest.mark.smoke
@pytest.mark.requirement("OVL-OPEN-FRESH")
def test_a_home_is_made(bench: Bench) -> None:
    with bench.store(path=lambda directory: directory / "not" / "there") as store:
        store.build([STANDARD])
        store.shows_model("layer-0")


@pytest.mark.requirement("OVL-OPEN-FRESH")
def test_a_home_is_made_with_what_is_above_it(bench: Bench) -> None:
    bench.need("own-home")
    bench.begin()
    with bench.directory() as directory:
        answer = bench.attempt(OpenRequest(directory / "not" / "there"))
        equal(f"whether a home in a directory that is not there was opened ({answer.text})", answer.opened, True)


@pytest.mark.smoke
@pytest.mark.requirement("OVL-OPEN-AGAIN")
def test_opening_again_changes_nothing(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.Unlink(b"a")]])
        with unchanged_on_disk(store):
            for _ in range(3):
                store.do(Reopen())
        for layer_id in ids:
            store.shows_model(layer_id)


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPEN-SYMLINK")
def test_a_home_behind_a_symlink_is_the_same_home(bench: Bench) -> None:
    def linked(directory: Path) -> Path:
        (directory / "real").mkdir()
        (directory / "link").symlink_to("real")
        return directory / "link"

    with bench.store(path=linked) as store:
        store.note("a home that is reached through a symlink")
        ids = store.build([STANDARD, [ops.Unlink(b"a")]])
        mounts = set(namespace.mounts_below(store.directory))
        for _ in range(2):
            store.do(Reopen())
            for layer_id in ids:
                store.shows_model(layer_id)
        now = namespace.mounts_below(store.directory)
        between(f"how many mounts there are after two openings more ({now})", len(now), 0, len(mounts))


@pytest.mark.requirement("OVL-OPEN-SYMLINK")
@pytest.mark.parametrize("lowers", [2, 30])
def test_a_long_chain_behind_a_symlink(bench: Bench, lowers: int) -> None:
    def linked(directory: Path) -> Path:
        real = directory / ("r" * 200)
        real.mkdir()
        (directory / "link").symlink_to(real.name)
        return directory / "link"

    with bench.store(path=linked) as store:
        store.note("a home that is reached through a symlink")
        top = chain_with_few_files(store, lowers)
        store.change(top, [ops.Unlink(b"file-0")])
        store.do(Reopen())
        store.shows_model(top)


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPEN-OPTIONS-KEPT")
def test_options_serve_for_the_next_opening(bench: Bench) -> None:
    with bench.store("origin") as images:
        images.create("image")
        images.change("image", STANDARD)
        with bench.store("copy", image_stores=[images.image_store]) as store:
            store.knows(images, "image")
            store.do(Reopen())
            store.create("own", "image")
            store.shows_model("own")


_OWN: Final = ("overlay", "graph", "run", "volatile-", "locks")  # of homes, by containers/storage and by this suite


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPTION-UNKNOWN")
@pytest.mark.parametrize("word", ["nonsense=1", "sizes=10g", "override_kernel_checks=true"])
def test_an_unknown_option_is_named(bench: Bench, word: str) -> None:
    refused(bench, word, naming=word.partition("=")[0])


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPTION-CASE")
def test_keys_are_taken_in_any_case(bench: Bench) -> None:
    bench.need("gates-kernel")
    with bench.store(options=["Override_Kernel_CHECK=true"]) as store:
        store.build([STANDARD])


@pytest.mark.requirement("OVL-OPTION-BOOL")
@pytest.mark.parametrize("value", [*TRUE_WORDS, *FALSE_WORDS])
def test_words_of_truth_are_taken(bench: Bench, value: str) -> None:
    with bench.store(options=[f"override_kernel_check={value}"]) as store:
        store.create("base")


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPTION-BOOL")
@pytest.mark.parametrize("value", ["yes", "no", "on", "2", "tRUE", "", " "])
def test_other_words_are_not(bench: Bench, value: str) -> None:
    refused(bench, f"override_kernel_check={value}")


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPTION-SIZE-FORM")
@pytest.mark.parametrize("value", ["none", "0x", "0.0.0g", "g", "0 g b", "0x0"])
def test_a_size_is_a_number_and_a_unit(bench: Bench, value: str) -> None:
    """Each comes to nothing if it is read at all: the refusal is for its form, and not for lack of quota."""
    refused(bench, f"size={value}")


@pytest.mark.requirement("OVL-OPTION-SIZE-FORM")
@pytest.mark.parametrize("value", ["0", "0b", "0.0G", "0 kb", "0K", "0.9b", "0.0009765k", "0.00000095m"])
def test_a_size_of_nothing_asks_for_nothing(bench: Bench, value: str) -> None:
    """Every form of a size that comes to less than a byte, so that it needs no quota; fractions are cut off."""
    with bench.store(options=[f"size={value}"]) as store:
        store.create("base")


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPTION-SIZE-FORM")
@pytest.mark.parametrize("value", ["0.0009999k", "0.00000099M", "1b"])
def test_a_size_of_a_byte_asks_for_something(bench: Bench, value: str) -> None:
    """A unit is 1024 of the one before: what would be less than a byte by thousands is one, and needs quota."""
    if namespace.filesystem_magic(Path(bench.place.directory)) == namespace.XFS:
        not_applicable("xfs may have quota, and accept the size")
    refused(bench, f"size={value}")


@pytest.mark.requirement("OVL-OPTION-SIZE-BACKING")
def test_a_size_takes_a_filesystem_with_quota(bench: Bench) -> None:
    # /proc/filesystems calls it ext4, and drivers know its magic as that of ext2 to ext4.
    name = {"ext4": "ext"}.get(bench.place.backing, bench.place.backing)
    refused(bench, "size=10g", naming=name)


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPTION-IMAGESTORE")
@pytest.mark.parametrize("kind", ["relative", "missing", "file", "second"])
def test_an_image_store_is_a_directory(bench: Bench, kind: str) -> None:
    with bench.directory() as directory:
        (directory / "file").touch()
        missing = str(directory / "missing")
        path = {
            "relative": "relative",
            "missing": missing,
            "file": str(directory / "file"),
            "second": f"{directory},{missing}",
        }[kind]
        refused(bench, f"imagestore={path}")


@pytest.mark.requirement("OVL-OPTION-IMAGESTORE")
@pytest.mark.parametrize("form", ["{}/", "//{}", "{}/.", "{}/../{name}", "{}/missing/..", "/missing/..{}"])
def test_an_image_store_by_any_path_is_refused_or_found(bench: Bench, form: str) -> None:
    with bench.store("origin") as images, ExitStack() as opening:
        images.build([STANDARD, [ops.Unlink(b"a")]])
        path = form.format(images.image_store, name=Path(images.image_store).name)
        try:
            store = opening.enter_context(bench.store("copy", image_stores=[path]))
        except DriverRefused:
            return
        store.knows(images, "layer-0", "layer-1")
        store.confirms("layer-0", "layer-1")
        store.create("own", "layer-1")
        store.shows_model("own")


_MAPS: Final = {
    "no-root": (IdRange(1, 100_001, 10),),
    "container-overlap": (IdRange(0, 100_000, 10), IdRange(9, 200_000, 10)),
    "host-overlap": (IdRange(0, 100_000, 10), IdRange(20, 100_005, 10)),
    "beyond-32-bits": (IdRange(0, 2**32 - 5, 10),),
}


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPEN-REFUSED-CLEAN")
@pytest.mark.parametrize(
    ("option", "mounted"),
    [("nonsense=1", False), ("size", False), ("size=9999999P", True)],
    ids=["unknown", "without-a-value", "too-large"],
)
def test_a_refused_opening_leaves_nothing(bench: Bench, option: str, mounted: bool) -> None:
    """A driver may look at a size when the home is a mount already, which the next opening takes."""
    with bench.directory() as directory:
        home = directory / "home"
        home.mkdir()
        bench.begin()
        bench.note(f"open a home with the option {option}")
        try:
            with bench.store("other", path=lambda _: home, options=[option]):
                not_applicable("the driver accepts any option")
        except DriverRefused:
            pass
        nothing_is_left(directory, mounted=mounted)


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPEN-REFUSED-CLEAN")
@pytest.mark.parametrize("maps", _MAPS.values(), ids=_MAPS)
@pytest.mark.parametrize("groups", [False, True], ids=["users", "groups"])
def test_refused_id_maps_leave_nothing(bench: Bench, maps: tuple[IdRange, ...], groups: bool) -> None:
    """No user namespace takes such maps (user_namespaces(7)); that a driver refuses them no text says."""
    bench.need("root", "id-maps")
    whole = (IdRange(0, 100_000, 65536),)
    with bench.directory() as directory:
        home = directory / "home"
        home.mkdir()
        bench.begin()
        bench.note(f"open a home with the id map {maps} of {'groups' if groups else 'users'}")
        try:
            with bench.store(
                "other",
                path=lambda _: home,
                id_map=whole if groups else maps,
                gid_map=maps if groups else whole,
            ):
                not_applicable("the driver accepts any id map")
        except DriverRefused:
            pass
        nothing_is_left(directory)


def nothing_is_left(directory: Path, *, mounted: bool = False) -> None:
    """A refused opening of the home in a directory left nothing behind; raises Deviation.

    With ``mounted``, a mount of the home itself may stay.
    """
    # Files for locks may stay, and a home's own directories; others with something in them are left over.
    home = directory / "home"
    below = [path for path in home.rglob("*") if path.is_dir() and any(path.iterdir())]
    probes = [str(path) for path in below if path.name != "l" and not path.name.startswith(_OWN)]
    mounts = namespace.mounts_below(directory)
    if mounted:
        mounts = [one for one in mounts if Path(one).name not in (home.name, "overlay")]
    nothing("directories or mounts left by an opening that was refused", probes + mounts)


@pytest.mark.quick
@pytest.mark.requirement("OVL-OPEN-HOME-CLOSED")
def test_others_cannot_enter(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o4755)]])
        for path in Path(store.home).rglob("new"):
            above = [one for one in path.parents if one.is_relative_to(store.directory) and one != store.directory]
            modes = {str(one): oct(one.lstat().st_mode & 0o7777) for one in above}
            closed = [one for one in above if not one.lstat().st_mode & stat.S_IXOTH]
            equal(f"whether any user can reach the setuid file {path} of a layer ({modes})", not closed, False)


@pytest.mark.requirement("OVL-OPEN-SECOND-HOME")
def test_two_homes_have_two_answers(bench: Bench) -> None:
    if bench.place.backing == "tmpfs" or namespace.filesystem_magic(Path(bench.place.directory)) == namespace.TMPFS:
        not_applicable(
            "the second home of this test is on tmpfs, and so is the first here; choose another --backing"
        )
    with bench.store("origin") as first, bench.directory() as directory:
        (directory / "tmpfs").mkdir()
        namespace.mount_tmpfs(directory / "tmpfs")
        with bench.store("second", path=lambda _: directory / "tmpfs" / "home") as second:
            first.note("and a second home, on tmpfs")
            said = [backing_filesystem(dict(store.do(Status()))) for store in (first, second, first)]
            equal(f"the filesystem of the home on {bench.place.backing}, asked again", said[2], said[0])
            equal(f"whether the home on tmpfs has another one, {said[1]!r}", said[1] != said[0], True)
