"""Reading a tree: names that can be looked up and are not listed are in it, too."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.assertions import hides, same_tree
from conformance.harness.deviation import Deviation
from conformance.history.findings import TreeDiffers
from conformance.operations import ops
from conformance.operations.comparing import UNLISTED
from conformance.operations.layering import hidden
from conformance.operations.model import Tree
from conformance.operations.observe import found_again, observe


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tree whose directories do not list names that begin with "hidden".

    It stands for a filesystem that answers so, such as fuse-overlayfs, which test_mounter.py has for real.
    """
    (tmp_path / "d").mkdir()
    (tmp_path / "hidden-d").mkdir()
    for name in ("f", "hidden", "d/f", "d/hidden", "hidden-d/f"):
        (tmp_path / name).write_text("")
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [one for one in listed(path) if not one.startswith(b"hidden")])
    return str(tmp_path)


def test_names_that_are_known_are_looked_up(root: str) -> None:
    assert observe(root).nodes.keys() == {b"d", b"d/f", b"f"}
    found = observe(root, [b"hidden", b"d/hidden", b"d/f", b"gone", b"gone/f", b"f/f", b"hidden-d/f"])
    assert {path for path, node in found.nodes.items() if node is UNLISTED} == {b"hidden", b"d/hidden"}
    assert found.nodes.keys() == {b"d", b"d/f", b"f", b"hidden", b"d/hidden"}


def test_what_is_found_is_listed_or_not(root: str) -> None:
    assert found_again(root, [b"f", b"d/hidden", b"gone", b"d/gone"]) == {b"f": True, b"d/hidden": False}


def test_paths_that_are_too_long_are_left_out(root: str) -> None:
    """They can be in a layer all the same; a lookup of them says nothing about the driver."""
    deep = b"/".join([b"d", *[b"n" * 250] * 17])
    made = os.open(root, os.O_PATH)
    for name in deep.split(b"/"):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=made)
        inner = os.open(name, os.O_PATH, dir_fd=made)
        os.close(made)
        made = inner
    os.close(made)
    assert found_again(root, [deep, deep + b"/f", b"f"]) == {b"f": True}
    subprocess.run(["rm", "-rf", f"{root}/d"], check=True)  # which shutil does not
    os.mkdir(f"{root}/d")
    assert deep not in observe(root, [deep]).nodes


def test_a_name_that_is_not_listed_is_charged_to_deletions(root: str) -> None:
    """Where nothing else differs; a name that is listed is charged to whatever the test is about."""
    known = [b"d/hidden"]
    with pytest.raises(Deviation, match="found by lstat, and not listed by readdir: 'd/hidden'") as raised:
        same_tree("the tree", observe(root), observe(root, known))
    assert raised.value.requirements == ("OVL-WHITEOUT-HIDES",)
    with pytest.raises(Deviation) as raised:
        same_tree("the tree", observe(root, [b"hidden"]), observe(root, known))
    assert raised.value.requirements == ()
    hides("layer", {})
    for names, charged, whats in (
        (known, ("OVL-WHITEOUT-HIDES",), ["unlisted"]),
        ([*known, b"f"], (), ["unlisted", "unexpected"]),
    ):
        with pytest.raises(Deviation, match="layer has names that were deleted in it") as raised:
            hides("layer", found_again(root, names))
        assert raised.value.requirements == charged
        assert isinstance(raised.value.finding, TreeDiffers)
        assert [one.what for one in raised.value.finding.differences] == whats


NAMES = st.sampled_from([b"a", b"b", b"d", b"d/a", b"d/b", b"d/d", b"d/d/a"])


@given(below=st.sets(NAMES), tree=st.sets(NAMES))
def test_what_a_tree_hides_is_in_directories_that_it_has(below: set[bytes], tree: set[bytes]) -> None:
    made = Tree()
    for path in sorted(tree):
        operation = ops.MakeDirectory(path, 0o755) if path.endswith(b"d") else ops.CreateFile(path, b"", 0o644)
        if made.permits(operation):
            made.apply(operation)
    there = set(made.paths())
    expected = {
        path
        for path in below - there
        if not (above := path.rpartition(b"/")[0]) or (above in there and made.node(above).is_directory)
    }
    assert hidden(made, below) == expected
