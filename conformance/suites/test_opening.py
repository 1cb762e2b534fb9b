"""Opening a home: fresh, again, refused; and the words that it takes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from conformance import ops
from conformance.bench import Bench, not_applicable
from conformance.driver import DriverRefused
from conformance.lab import namespace
from conformance.strategies import STANDARD
from conformance.suites.homes import stays_as_it_was
from conformance.workbench import Deviation, everything_below


@pytest.mark.smoke
@pytest.mark.requirement("OVL-OPEN-FRESH")
def test_a_home_is_made(bench: Bench) -> None:
    with bench.store(path=lambda directory: directory / "not" / "there") as store:
        store.build([STANDARD])
        store.check_tree("layer-0")


@pytest.mark.requirement("OVL-OPEN-AGAIN")
def test_opening_again_changes_nothing(bench: Bench) -> None:
    with bench.store() as store:
        ids = store.build([STANDARD, [ops.Unlink(b"a")]])
        before = everything_below(store.driver.home)
        for _ in range(3):
            store.tell("open the home again")
            store.driver = store.driver.reopen()
        stays_as_it_was(store, before)
        for layer_id in ids:
            store.check_tree(layer_id)


_OWN = ("overlay", "graph", "run", "volatile-", "locks")  # of homes, by containers/storage and by this suite


def refused(bench: Bench, *words: str, naming: str = "") -> str:
    """Opening with these options is refused, with a word, and leaves nothing behind; what the driver said."""
    bench.story.begin()
    bench.story.tell(f"open a home with the options {list(words)}  (to be refused)")
    try:
        with bench.store("other", options=words) as store:
            left = everything_below(store.driver.home)
    except DriverRefused as error:
        said = str(error)
    else:
        raise Deviation(f"the options {list(words)} were taken, expected a refusal; the home holds {sorted(left)}")
    if naming.lower() not in said.lower():
        raise Deviation(f"the refusal of {list(words)} does not name {naming!r}: {said}")
    return said


@pytest.mark.requirement("OVL-OPTION-UNKNOWN")
@pytest.mark.parametrize("word", ["nonsense=1", "sizes=10g", "override_kernel_checks=true"])
def test_an_unknown_option_is_named(bench: Bench, word: str) -> None:
    refused(bench, word, naming=word.partition("=")[0])


@pytest.mark.requirement("OVL-OPTION-CASE")
def test_keys_are_taken_in_any_case(bench: Bench) -> None:
    bench.need("gates-kernel")
    with bench.store(options=["Override_Kernel_CHECK=true"]) as store:
        store.build([STANDARD])


@pytest.mark.requirement("OVL-OPTION-BOOL")
@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"])
def test_words_of_truth_are_taken(bench: Bench, value: str) -> None:
    with bench.store(options=[f"override_kernel_check={value}"]) as store:
        store.create("base")


@pytest.mark.requirement("OVL-OPTION-BOOL")
@pytest.mark.parametrize("value", ["yes", "no", "on", "2", "tRUE", "", " "])
def test_other_words_are_not(bench: Bench, value: str) -> None:
    refused(bench, f"override_kernel_check={value}")


@pytest.mark.requirement("OVL-OPTION-SIZE-FORM")
@pytest.mark.parametrize("value", ["ten", "-1", "10x", "1.2.3g", "g", "10 g b", "0x10", "1e3"])
def test_a_size_is_a_number_and_a_unit(bench: Bench, value: str) -> None:
    refused(bench, f"size={value}")


@pytest.mark.requirement("OVL-OPTION-SIZE-BACKING")
def test_a_size_takes_a_filesystem_with_quota(bench: Bench) -> None:
    # /proc/filesystems calls it ext4, and drivers know its magic as that of ext2 to ext4.
    name = {"ext4": "ext"}.get(bench.place.backing, bench.place.backing)
    refused(bench, "size=10g", naming=name)


@pytest.mark.requirement("OVL-OPTION-IMAGESTORE")
@pytest.mark.parametrize("kind", ["relative", "missing", "file"])
def test_an_image_store_is_a_directory(bench: Bench, kind: str) -> None:
    with bench.directory() as directory:
        (directory / "file").touch()
        path = {"relative": "relative", "missing": str(directory / "missing"), "file": str(directory / "file")}[
            kind
        ]
        refused(bench, f"imagestore={path}")


@pytest.mark.requirement("OVL-OPEN-REFUSED-CLEAN")
def test_a_refused_opening_leaves_nothing(bench: Bench) -> None:
    with bench.directory() as directory:
        home = directory / "home"
        home.mkdir()
        bench.story.begin()
        bench.story.tell("open a home with the option nonsense=1")
        try:
            with bench.store("other", path=lambda _: home, options=["nonsense=1"]):
                not_applicable("the driver takes any option")
        except DriverRefused as error:
            bench.story.tell(f"  refused: {error}")
        # Files for locks may stay, and a home's own directories; others with something in them are left over.
        below = [path for path in home.rglob("*") if path.is_dir() and any(path.iterdir())]
        probes = [str(path) for path in below if path.name != "l" and not path.name.startswith(_OWN)]
        mounts = namespace.mounts_below(directory)
        if probes or mounts:
            raise Deviation(f"expected nothing of a refused opening, found {probes + mounts}")


@pytest.mark.requirement("OVL-OPEN-HOME-CLOSED")
def test_others_cannot_enter(bench: Bench) -> None:
    with bench.store() as store:
        store.build([STANDARD, [ops.CreateFile(b"new", b"new", 0o4755)]])
        for path in Path(store.driver.home).rglob("new"):
            above = [one for one in path.parents if one.is_relative_to(store.directory) and one != store.directory]
            if all(one.lstat().st_mode & stat.S_IXOTH for one in above):
                modes = {str(one): oct(one.lstat().st_mode & 0o7777) for one in above}
                raise Deviation(f"any user can reach the setuid file {path} of a layer: {modes}")


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
            first.tell("and a second home, on tmpfs")
            said = [dict(store.driver.status()) for store in (first, second, first)]
            names = [backing_filesystem(one) for one in said]
            if names[0] == names[1] or names[0] != names[2]:
                raise Deviation(
                    f"homes on {bench.place.backing} and tmpfs say {names[0]!r}, {names[1]!r}, {names[2]!r}"
                )


def backing_filesystem(status: dict[str, str]) -> str:
    """What a status says of the filesystem; raises Deviation if it says nothing."""
    for key, value in status.items():
        if key.lower().replace(" ", "") == "backingfilesystem":
            return value.strip('"<> ')
    raise Deviation(f"the status names no backing filesystem: {status}")
