"""Names that lower layers have are looked up where a tree does not list them."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.deviation import Deviation
from conformance.harness.lookups import Lookups, StillFound
from conformance.history.findings import TreeDiffers
from conformance.history.steps import History, Noted
from conformance.operations.observe import found_again, hidden, observe
from conformance.operations.trees import Node


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

    def shown(path: bytes) -> list[bytes]:
        return [one for one in listed(path) if not one.startswith(b"hidden")]

    monkeypatch.setattr(os, "listdir", shown)
    return str(tmp_path)


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


def test_a_name_that_is_not_listed_fails_a_test_at_its_end(root: str) -> None:
    """One that is listed fails it at once. The history ends at the look."""
    history = History()
    history.note("before")
    lookups = Lookups(history)
    nodes = observe(root).nodes
    assert nodes.keys() == {b"d", b"d/f", b"f"}
    lookups.look("lower", root, nodes, [b"d/f", b"f", b"gone", b"gone/f", b"f/f"])
    lookups.report()
    lookups.look("layer", root, nodes, [b"d/hidden", b"gone"])
    history.note("after")
    lookups.look("another", root, nodes, [b"hidden"])
    with pytest.raises(StillFound, match="layer has names that were deleted") as found:
        lookups.report()
    assert found.value.requirements == ("OVL-WHITEOUT-HIDES",)
    assert isinstance(found.value.finding, TreeDiffers)
    assert [(one.path, one.what) for one in found.value.finding.differences] == [(b"d/hidden", "unlisted")]
    assert [one.text for one in history.steps if isinstance(one, Noted)] == ["before"]
    with pytest.raises(Deviation, match="unexpected: 'f'"):
        lookups.look("layer", root, {}, [b"f", b"hidden"])


def test_a_tree_that_cannot_be_listed_is_a_deviation(root: str) -> None:
    lookups = Lookups(History())
    with pytest.raises(Deviation, match="the tree of layer cannot be read"):
        lookups.look("layer", root, {b"gone": Node(0o040755)}, [b"gone/f"])


NAMES = st.sampled_from([b"a", b"b", b"d", b"d/a", b"d/b", b"d/d", b"d/d/a"])


@given(below=st.sets(NAMES), tree=st.sets(NAMES))
def test_what_a_tree_hides_is_in_directories_that_it_has(below: set[bytes], tree: set[bytes]) -> None:
    nodes = {path: Node(0o040755 if path.endswith(b"d") else 0o100644) for path in tree}
    directories = {b"", *(one for one in tree if one.endswith(b"d"))}
    found = hidden(nodes, below)
    for path in below:
        assert (path in found) == (path not in tree and path.rpartition(b"/")[0] in directories), path
    assert found <= below
