"""Operations as shell, against the real interpreter: the two make the same trees."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conformance.history import calls
from conformance.history.encoding import CannotDecode, decode, encode
from conformance.history.steps import Archived, Called, Did, Looked, Opened, Tampered
from conformance.operations import ops
from conformance.operations.comparing import differences
from conformance.operations.model import Tree, Unspecified
from conformance.operations.observe import observe
from conformance.operations.real import perform
from conformance.operations.shell import NoScript, as_shell, quoted, time_word, writes
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import operations

needs_setfattr = pytest.mark.skipif(not shutil.which("setfattr"), reason="needs setfattr: apt-get install attr")


def sh(text: str, **variables: str) -> bytes:
    """What a script writes to its standard output."""
    done = subprocess.run(
        ["sh", "-euc", text], capture_output=True, check=False, env={**os.environ, "LC_ALL": "C", **variables}
    )
    assert done.returncode == 0, (text, done.stderr)
    return done.stdout


@pytest.mark.mounts
@needs_setfattr
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(operations(privileged=True), max_size=12))
def test_the_shell_does_what_the_kernel_does(scratch: Path, chosen: list[ops.Operation]) -> None:
    tree, lines = Tree(), []
    real, shelled = tempfile.mkdtemp(dir=scratch), tempfile.mkdtemp(dir=scratch)
    try:
        for operation in [*STANDARD, *chosen]:
            try:
                done = tree.expect(operation).done and not renames_to_itself(tree, operation)
            except Unspecified:
                continue
            if done:
                tree.apply(operation)
                perform(real, operation)
                lines.append(as_shell("$tree", operation))
        sh("\n".join(lines), tree=shelled)
        assert differences(tree.snapshot(), observe(shelled)) == []
        assert differences(tree.snapshot(), observe(real)) == []
    finally:
        shutil.rmtree(real)
        shutil.rmtree(shelled)


def renames_to_itself(tree: Tree, operation: ops.Operation) -> bool:
    """rename(2) of one inode to another of its names does nothing, mv(1) removes a name: no script can say it."""
    if not isinstance(operation, ops.Rename):
        return False
    pair = {operation.path, operation.to}
    return len(pair) == 1 or any(pair <= group for group in tree.snapshot().link_groups)


@given(st.binary(max_size=300).filter(lambda data: b"\0" not in data and not data.endswith(b"\n")))
@settings(max_examples=100, deadline=None)
def test_any_word_comes_through_the_shell(data: bytes) -> None:
    assert sh(f"printf %s {quoted(data)}") == data


@given(
    st.one_of(
        st.binary(max_size=400),
        st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(0, 9000)),
    )
)
@example(b"-\0")  # what begins with a hyphen is no option
@settings(max_examples=100, deadline=None)
def test_any_content_is_written(data: bytes) -> None:
    assert sh(writes(data)) == data


@pytest.mark.parametrize("word", [b"a\0b", b"a\n"])
def test_what_no_word_can_hold_is_refused(word: bytes) -> None:
    with pytest.raises(NoScript):
        quoted(word)


@pytest.mark.parametrize("mtime_ns", [0, 1, -1, -5_500_000_000, 1_400_000_000_123_456_789])
def test_times_are_exact(scratch: Path, mtime_ns: int) -> None:
    path = scratch / "f"
    path.touch()
    sh(f"touch -h -d {time_word(mtime_ns)} '{path}'")
    assert path.stat().st_mtime_ns == mtime_ns


CALLS = st.one_of([st.from_type(kind) for kind in get_args(calls.Call)])
STEPS = st.one_of(
    st.builds(Did, st.text(), st.text(), operations(privileged=True), st.text()),
    st.builds(Called, st.text(), CALLS, refused=st.none() | st.text()),
    st.builds(Looked, st.text(), st.text(), st.lists(st.binary()).map(tuple)),
    st.builds(Archived, st.text(), st.binary(max_size=2000), st.lists(st.text()).map(tuple)),
    st.builds(Opened, st.text(), id_map=st.lists(st.tuples(*[st.integers()] * 3)).map(tuple)),
    st.builds(Tampered, st.text(), st.text(), operations(privileged=False)),
)


@given(st.lists(st.one_of(STEPS, st.binary(), st.integers(), st.text(), st.lists(operations(privileged=True)))))
def test_what_is_encoded_is_decoded(values: list[object]) -> None:
    assert decode(encode(values)) == values


def test_a_file_of_another_version_is_reported() -> None:
    with pytest.raises(CannotDecode, match="Frobnicate"):
        decode({"is": "Frobnicate"})
    with pytest.raises(CannotDecode, match="Unlink"):
        decode({"is": "Unlink", "path": {"bytes": "a"}, "colour": "red"})
