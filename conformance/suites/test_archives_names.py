"""Long and rare names, and a directory of more names than one getdents64(2) lists, in archives and layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from conformance.harness.assertions import equal, names_of_diff, same_tree
from conformance.harness.bench import Bench
from conformance.harness.deviation import charged_to
from conformance.harness.entries import entry_names
from conformance.history.calls import Get, Put
from conformance.history.findings import WrongAnswer
from conformance.operations import archives, ops


@pytest.mark.requirement("OVL-DIFF-TAR", "OVL-WHITEOUT-IN-DIFF")
def test_a_directory_of_many_names_is_whole(bench: Bench) -> None:
    names = [f"d/{'n' * 240}{number:04d}" for number in range(1_000)]
    gone = names[::250]
    with bench.store() as store:
        store.create("base")
        store.applied("base", [archives.directory("d"), *(archives.file(name, b"") for name in names)])
        found = entry_names(store.diff("base"))
        with charged_to("OVL-DIFF-TAR"):
            names_of_diff("base, sorted", sorted(found), sorted(["d", *names]))
        store.create("child", "base")
        root = store.do(Get("child"))
        try:
            for name in gone:
                os.unlink(os.path.join(root, name))
            listed = sorted(f"d/{name}" for name in os.listdir(os.path.join(root, "d")))
        finally:
            store.do(Put("child"))
        store.beyond(f"{len(gone)} of the files were deleted in child")
        equal("the names in the child", listed, sorted(set(names) - set(gone)))
        found = sorted(set(entry_names(store.diff("child"))) - {"d"})
        wanted = sorted(f"d/.wh.{name.removeprefix('d/')}" for name in gone)
        with charged_to("OVL-WHITEOUT-IN-DIFF"):
            names_of_diff("child, sorted", found, wanted)


_LONG: Final = (b"n" * 101, b"d" * 155 + b"/" + b"n" * 101, b"d" * 156 + b"/n", b"/".join([b"d" * 120] * 3))
_RARE: Final = (b"\xff" * 101, "\xfc".encode() * 60, b"d/\xfe" + b"n" * 200, b"new\nline" * 13)


@pytest.mark.requirement("OVL-APPLY-ROUND-TRIP")
@pytest.mark.parametrize("names", [_LONG, _RARE], ids=["long", "not-ascii"])
def test_names_that_need_an_extension_survive(bench: Bench, names: tuple[bytes, ...]) -> None:
    """Names beyond the fields of ustar, of files, symlinks and hard links, and targets as long as they."""
    if names is _RARE:
        bench.need("any-names")
    made: list[ops.Operation] = []
    for number, name in enumerate(names):
        directory = b"%d" % number
        for length in range(name.count(b"/") + 1):
            above = b"/".join([directory, *name.split(b"/")[:length]])
            made.append(ops.MakeDirectory(above, 0o755))
        made.append(ops.CreateFile(directory + b"/" + name, b"content", 0o644))
        made.append(ops.MakeHardLink(directory + b"/" + name, directory + b"/link"))
        made.append(ops.MakeSymlink(directory + b"/symlink", name))
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.build([made])
        copy.bring(store, "layer-0")
        original, found = store.shows_model("layer-0"), copy.observed("layer-0")
        same_tree("layer-0 after diff and apply", original, found, times="none")


@pytest.mark.requirement("OVL-APPLY-ROUND-TRIP")
def test_symlinks_with_the_longest_targets_survive(bench: Bench) -> None:
    """The ends of xfs (1023 bytes) and of all filesystems (PATH_MAX is 4096 with a NUL), where they are taken."""
    targets = [b"t" * length for length in (1_022, 1_023, 1_024, 4_094, 4_095)]
    with bench.directory() as directory:
        held = [target for target in targets if _is_held(directory, target)]
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.build([[ops.MakeSymlink(b"s%d" % len(target), target) for target in held]])
        copy.bring(store, "layer-0")
        original, found = store.shows_model("layer-0"), copy.observed("layer-0")
        same_tree("layer-0 after diff and apply", original, found, times="none")


def _is_held(directory: Path, target: bytes) -> bool:
    try:
        os.symlink(target, os.fsencode(directory) + b"/s%d" % len(target))
    except OSError:
        return False
    return True


@pytest.mark.requirement("OVL-DIFF-TAR")
def test_an_attribute_with_an_equals_sign_breaks_no_archive(bench: Bench) -> None:
    """A record of pax ends its key at the first one (pax(1)), so a driver may refuse to write the diff."""
    bench.need("user-xattrs")
    with bench.store() as store:
        store.build([[ops.CreateFile(b"f", b"f", 0o644), ops.SetXattr(b"f", "user.a=b", b"1\n9 path=g\n")]])
        archive = store.may_diff("layer-0")
        if archive is not None:
            equal("the names in the diff", entry_names(archive), ["f"], WrongAnswer())
