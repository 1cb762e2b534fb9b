"""A directory of more names than one getdents64(2) lists, in an archive and in the layer that it makes."""

from __future__ import annotations

import os

import pytest

from conformance.harness.assertions import equal
from conformance.harness.bench import Bench
from conformance.harness.deviation import charged_to
from conformance.harness.entries import entry_names
from conformance.history.calls import Get, Put
from conformance.history.findings import WrongAnswer
from conformance.operations import archives


@pytest.mark.requirement("OVL-DIFF-TAR", "OVL-WHITEOUT-IN-DIFF")
def test_a_directory_of_many_names_is_whole(bench: Bench) -> None:
    names = [f"d/{'n' * 240}{number:04d}" for number in range(1_000)]
    gone = names[::250]
    with bench.store() as store:
        store.create("base")
        store.applied("base", [archives.directory("d"), *(archives.file(name, b"") for name in names)])
        found = entry_names(store.diff("base"))
        with charged_to("OVL-DIFF-TAR"):
            equal("the names in the diff of base, sorted", sorted(found), sorted(["d", *names]), WrongAnswer())
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
            equal("the names in the diff of child, sorted", found, wanted, WrongAnswer())
