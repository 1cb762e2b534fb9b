"""Metadata and names: what a layer keeps of them, on disk and on its way through diff and apply."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.harness.assertions import equal, nothing, same_field
from conformance.harness.bench import Bench
from conformance.harness.skips import not_applicable
from conformance.history.calls import Get, Put, Remove
from conformance.history.findings import WrongAnswer
from conformance.operations import archives, ops
from conformance.operations.lattice import ACL
from conformance.operations.standard import STANDARD
from conformance.operations.tarforms import DIRECTORY, PAX, Form, Tarred, archive_of
from conformance.suites.carrying import cases_of, is_the_same_after_diff_and_apply
from conformance.suites.cases import Case


@pytest.mark.parametrize("case", cases_of("OVL-META-", "OVL-NAMES-"))
def test_a_case_is_the_same_after_diff_and_apply(bench: Bench, case: Case) -> None:
    is_the_same_after_diff_and_apply(bench, case)


@pytest.mark.quick
@pytest.mark.requirement("OVL-META-TIMES-DOWN")
def test_times_are_cut_and_not_rounded(bench: Bench) -> None:
    second = 1_400_000_000
    chain = [
        operation
        for fraction in (0, 400_000_000, 500_000_000, 999_999_999)
        for operation in (
            ops.CreateFile(b"%d" % fraction, b"", 0o644),
            ops.SetTimes(b"%d" % fraction, second * 10**9 + fraction),
        )
    ]
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.build([chain])
        copy.bring(store, "layer-0")
        for path, node in copy.observed("layer-0").nodes.items():
            if node.mtime_ns is not None:
                found = f"in second {node.mtime_ns // 10**9}"
                same_field(path, "mtime", found, (second * 10**9, False), f"in second {second}")


@pytest.mark.requirement("OVL-META-XATTRS")
def test_an_attribute_without_a_value_harms_no_other(bench: Bench) -> None:
    """A pax record without a value says that there is none (pax(1)): whether it survives, the result has."""
    made: list[ops.Operation] = [
        ops.CreateFile(b"f", b"content", 0o644),
        ops.SetXattr(b"f", "user.empty", b""),
        ops.SetXattr(b"f", "user.full", b"value"),
    ]
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.build([made])
        if bench.has("writable-layers"):
            store.shows_model("layer-0")
        copy.bring(store, "layer-0")
        found = dict(copy.observed("layer-0").nodes[b"f"].xattrs)
        copy.record(
            "an attribute without a value after diff and apply", "kept" if "user.empty" in found else "lost"
        )
        found.pop("user.empty", None)
        same_field(b"f", "xattrs", str(found), {"user.full": b"value"}, str({"user.full": b"value"}))


@pytest.mark.requirement("OVL-META-MODES")
def test_modes_survive_in_a_home_with_a_default_acl(bench: Bench) -> None:
    """A new file gets the list of its directory, and no umask. Whether a layer's files have it, the result has."""
    modes = {b"f%04o" % mode: mode for mode in (0o600, 0o644, 0o666, 0o4755)}
    directories = {b"d%04o" % mode: mode for mode in (0o700, 0o755, 0o777, 0o1777)}
    made = [ops.CreateFile(path, b"", mode) for path, mode in modes.items()]
    made_directories = [ops.MakeDirectory(path, mode) for path, mode in directories.items()]
    with bench.store("origin") as store, bench.store("copy", _with_default_acl) as copy:
        store.build([[*made, *made_directories]])
        copy.bring(store, "layer-0")
        found = copy.observed("layer-0").nodes
        for path, mode in (modes | directories).items():
            wanted = store.expected("layer-0").nodes[path].mode
            same_field(path, "mode", f"{found[path].mode & 0o7777:04o}", wanted, f"{mode:04o}")
        root = copy.do(Get("layer-0"))
        inherited = [
            path for path in found if "system.posix_acl_access" in os.listxattr(os.fsencode(root) + b"/" + path)
        ]
        copy.do(Put("layer-0"))
        copy.record("a default ACL of the home reaches files of a layer", "yes" if inherited else "no")


def _with_default_acl(directory: Path) -> Path:
    try:
        os.setxattr(directory, "system.posix_acl_default", ACL)
    except OSError as error:
        not_applicable(f"access control lists cannot be set here: {error.strerror}")
    return directory


@pytest.mark.requirement("OVL-NAMES-WHITEOUT-PREFIX")
@pytest.mark.parametrize("name", [b".wh.a", b"d/.wh.a", b".wh..wh..opq", b"d/.wh..wh..opq"])
@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "pipe"])
def test_a_file_called_like_a_whiteout_deletes_nothing(bench: Bench, kind: str, name: bytes) -> None:
    made: dict[str, list[ops.Operation]] = {
        "file": [ops.CreateFile(name, b"not a whiteout", 0o644)],
        "directory": [ops.MakeDirectory(name, 0o755)],
        "symlink": [ops.MakeSymlink(name, b"a")],
        "pipe": [ops.MakeFifo(name, 0o644)],
    }
    with bench.store("origin") as store, bench.store("copy") as copy:
        store.build([STANDARD, made[kind]])
        for layer_id in ("layer-0", "layer-1"):
            archive = store.may_diff(layer_id)
            if archive is None:
                return
            copy.create(layer_id, store.parent_of(layer_id))
            copy.apply(layer_id, archive)
        lost = store.observed("layer-0").nodes.keys() - copy.observed("layer-1").nodes.keys()
        nothing(
            f"paths that a {kind} called {name!r} deleted on its way through diff and apply", lost, WrongAnswer()
        )


@pytest.mark.requirement("OVL-NAMES-LAYER-IDS")
@pytest.mark.parametrize("layer_id", ["x", "0" * 64, "abc_DEF-1.2", "f" * 63 + "x"])
def test_ids_of_any_length(bench: Bench, layer_id: str) -> None:
    with bench.store() as store:
        store.build([STANDARD])
        store.create(layer_id, "layer-0")
        store.change(layer_id, [ops.Unlink(b"a")])
        store.shows_model(layer_id)
        store.do(Remove(layer_id))


@pytest.mark.requirement("OVL-NAMES-HOME")
@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "a b", "\\:,"])
def test_any_character_may_be_in_the_path_of_the_home(bench: Bench, name: str) -> None:
    with bench.store("origin", lambda directory: directory / name) as store:
        store.note(f"a home below a directory called {name!r}")
        store.build([STANDARD, [ops.Unlink(b"a"), ops.CreateFile(b"new", b"new", 0o644)]])
        store.create("layer-2", "layer-1")
        store.shows_model("layer-2")


@pytest.mark.requirement("OVL-META-TIMES-FINE")
def test_a_second_archive_leaves_the_times_of_other_directories(bench: Bench) -> None:
    """To the nanosecond, as they are after the first one."""
    fine = 1_500_000_000 * 10**9 + 123_456_789
    first = [
        Tarred(name, DIRECTORY, mode=0o755, mtime=fine + number, form=Form(PAX))
        for number, name in enumerate((b"d", b"d/d", b"x", b"x/y"))
    ]
    with bench.store() as store:
        store.create("base")
        store.change("base", STANDARD)
        store.create("child", "base")
        store.apply("child", store.bytes_of_archive(archive_of(first), "four times"))
        before = store.observed("child").nodes
        store.applied("child", [archives.file("e/of-the-second")])
        after = store.observed("child").nodes
        for entry in first:
            times = [nodes[entry.name].mtime_ns for nodes in (before, after)]
            equal(f"the time of {entry.name!r} in ns, after an archive that does not name it", times[1], times[0])
