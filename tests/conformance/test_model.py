"""The model against a plain filesystem: the kernel is the oracle of the oracle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conformance.lab.backing import backing_named, mount_backing
from conformance.operations import ops
from conformance.operations.comparing import differences
from conformance.operations.model import Tree, Unspecified
from conformance.operations.observe import observe
from conformance.operations.real import perform
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import operations

pytestmark = pytest.mark.mounts

# Real root keeps the bits, and root of a user namespace does not; chance draws this in one example of 170.
SET_IDS_AND_WRITES = [
    operation
    for number, (mode, change) in enumerate(
        (mode, change)
        for mode in (0o4755, 0o2711, 0o6777, 0o2744)
        for change in (ops.WriteAt(b"", 0, b"w"), ops.Truncate(b"", 0))
    )
    for operation in (ops.CreateFile(b"%d" % number, b"x", mode), replace(change, path=b"%d" % number))
]


def errno_of(root: str, operation: ops.Operation) -> int:
    try:
        perform(root, operation)
    except OSError as error:
        return error.errno or -1
    return 0


def compare_with_the_kernel(directory: str, *, privileged: bool) -> None:
    """The property of the two tests below, as a function that a process without privileges can call, too."""

    @settings(max_examples=300, deadline=None, database=None)
    @example(False, SET_IDS_AND_WRITES)
    @given(st.booleans(), st.lists(operations(privileged=privileged), max_size=15))
    def the_model_does_what_the_kernel_does(filled: bool, chosen: list[ops.Operation]) -> None:
        root = tempfile.mkdtemp(dir=directory)
        tree = Tree(privileged=privileged)
        try:
            for operation in [*(STANDARD if filled else ()), *chosen]:
                try:
                    outcome = tree.expect(operation)
                except Unspecified:
                    continue
                number = errno_of(root, operation)
                if number:
                    assert number in outcome.errors, f"{operation}: {os.strerror(number)}, expected {outcome}"
                else:
                    assert outcome.done, f"{operation}: done, expected {outcome}"
                    tree.apply(operation)
                assert differences(tree.snapshot(), observe(root)) == []
        finally:
            shutil.rmtree(root)

    the_model_does_what_the_kernel_does()


def test_the_model_does_what_the_kernel_does(scratch: Path) -> None:
    compare_with_the_kernel(str(scratch), privileged=True)


def test_the_model_does_what_the_kernel_does_in_a_user_namespace(scratch: Path) -> None:
    work = "import sys, test_model; test_model.compare_with_the_kernel(sys.argv[1], privileged=False)"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", work, str(scratch)],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_how_a_full_directory_is_not_replaced_depends_on_the_filesystem(scratch: Path, kind: str) -> None:
    tree = Tree()
    root = str(mount_backing(backing_named(kind), scratch))
    try:
        for path in (b"full", b"full/d", b"other"):
            operation = ops.MakeDirectory(path, 0o755)
            perform(root, operation)
            tree.apply(operation)
        onto = ops.Rename(b"other", b"full")
        assert errno_of(root, onto) in tree.expect(onto).errors
    finally:
        subprocess.run(["umount", root], check=True)


def test_a_refused_operation_changes_nothing() -> None:
    tree = Tree()
    for operation in STANDARD:
        tree.apply(operation)
    before = tree.snapshot()
    assert not tree.expect(ops.RemoveDirectory(b"d")).done
    assert tree.snapshot() == before


def test_a_child_leaves_its_parent_alone() -> None:
    parent = Tree()
    for operation in STANDARD:
        parent.apply(operation)
    before = parent.snapshot()
    child = parent.child()
    child.apply(ops.RemoveTree(b"d"))
    child.apply(ops.WriteAt(b"a", 0, b"other"))
    assert parent.snapshot() == before
    assert b"d/a" not in child.snapshot().nodes


def test_breaking_a_lower_hard_link_is_unspecified() -> None:
    parent = Tree()
    parent.apply(ops.CreateFile(b"a", b"", 0o644))
    parent.apply(ops.MakeHardLink(b"b", b"a"))
    child = parent.child()
    with pytest.raises(Unspecified):
        child.expect(ops.Chmod(b"a", 0o600))
    assert parent.expect(ops.Chmod(b"a", 0o600)).done


@pytest.mark.parametrize(
    ("operation", "difference"),
    [
        (ops.Chmod(b"a", 0o600), "'a': mode is -rw-------, expected -rw-r--r--"),
        (ops.WriteAt(b"a", 0, b"A"), "'a': content is b'A in the base', expected b'a in the base'"),
        (ops.Chown(b"d", 1, 2), "'d': owner is 1:2, expected 0:0"),
        (ops.Unlink(b"b"), "missing: 'b'"),
        (ops.MakeFifo(b"f", 0o600), "unexpected: 'f'"),
        (ops.SetXattr(b"a", "user.x", b"1"), "'a': xattrs is {'user.x': b'1'}, expected {}"),
    ],
)
def test_differences_are_named(operation: ops.Operation, difference: str) -> None:
    expected, actual = Tree(), Tree()
    for one in STANDARD:
        expected.apply(one)
        actual.apply(one)
    actual.apply(operation)
    assert differences(expected.snapshot(), actual.snapshot()) == [difference]
    assert differences(expected.snapshot(), expected.snapshot()) == []


def test_hard_links_that_part_are_a_difference(scratch: Path) -> None:
    (scratch / "a").write_text("x")
    os.link(scratch / "a", scratch / "b")
    together = observe(str(scratch))
    (scratch / "b").unlink()
    shutil.copy2(scratch / "a", scratch / "b")
    assert differences(together, observe(str(scratch)), times="none") == [
        "expected to be hard links of one inode: 'a', 'b'"
    ]
