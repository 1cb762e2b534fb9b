"""The last look of a script at names: it finds the wrong answer again whatever bytes a name has, and no other."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conformance.drivers.registry import connect
from conformance.evidence.last_look import last_look
from conformance.history.calls import Diff, Get
from conformance.history.findings import WrongAnswer
from conformance.history.steps import Called, Looked, Step
from conformance.operations.shell import NoScript

DEVIATES = 'deviates() { echo deviates; exit 1; }; work=$1; tree=$1/tree; cd "$1"\n'
BYTES = st.binary(min_size=1, max_size=20).filter(
    lambda name: not set(name) & set(b"\0\n/") and name not in (b".", b"..")
)
NAMES = st.lists(BYTES, min_size=1, max_size=4, unique=True)
STRANGE = ["ä".encode(), b"back\\slash", b"\xff", b"-rf", b" tab\t", b"%s"]


def shown(steps: Sequence[Step], work: str) -> bool:
    """Whether the look says that the driver deviates."""
    dialect = connect("differ:tar -c -f - -C {lower} -C {upper} .").dialect
    assert dialect is not None
    lines = "\n".join(last_look(WrongAnswer(), steps).lines(dialect))
    env = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        ["sh", "-eu", "-c", DEVIATES + lines + "\n:", "sh", work], capture_output=True, check=False, env=env
    )
    assert done.returncode == (done.stdout == b"deviates\n"), done.stderr
    return done.returncode == 1


def archive(path: Path, names: Sequence[bytes], form: int) -> None:
    with tarfile.open(path, "w", format=form, errors="surrogateescape") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo("./" + name.decode("utf-8", "surrogateescape")), io.BytesIO())


@given(names=NAMES, other=BYTES, form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@example(names=STRANGE, other=b"other", form=tarfile.GNU_FORMAT)
@settings(max_examples=30, deadline=None)
def test_the_names_of_an_archive_are_found_again(names: list[bytes], other: bytes, form: int) -> None:
    with tempfile.TemporaryDirectory() as work:
        archive(Path(work, "diff.tar"), names, form)
        for answer, same in ((names, True), ([*names, other], False)):
            said = [name.decode("utf-8", "surrogateescape") for name in answer]
            call = Called("store", Diff("b", "a", "diff.tar"), answer=said)
            assert shown([call], work) is same


@given(names=NAMES, other=BYTES)
@example(names=STRANGE, other=b"other")
@settings(max_examples=30, deadline=None)
def test_the_names_of_a_tree_are_found_again(names: list[bytes], other: bytes) -> None:
    with tempfile.TemporaryDirectory() as work:
        Path(work, "tree").mkdir()
        for name in names:
            Path(os.fsdecode(os.path.join(os.fsencode(work), b"tree", name))).touch()
        got = Called("store", Get("b"), answer=f"{work}/tree")
        assert shown([got, Looked("store", "b", tuple(names))], work)
        assert shown([got, Looked("store", "b", tuple({*names, other}))], work) is (other in names)


def test_a_name_is_not_taken_for_its_escape(tmp_path: Path) -> None:
    """GNU tar writes both of these as the second, unless an option says otherwise."""
    for name, other in (("ä", r"\303\244"), ("\\", r"\\")):
        archive(tmp_path / "diff.tar", [name.encode()], tarfile.GNU_FORMAT)
        assert not shown([Called("store", Diff("b", "a", "diff.tar"), answer=[other])], str(tmp_path))


def test_a_name_with_a_newline_is_none_of_a_script() -> None:
    with pytest.raises(NoScript, match="newline"):
        shown([Called("store", Diff("b", "a", "diff.tar"), answer=["a\nb"])], "/nowhere")
