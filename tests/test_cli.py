from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from refdriver import errors
from refdriver.cli import printable

pytestmark = pytest.mark.mounts


class Command:
    """The command as a shell would run it, on one home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, code: int = 0, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "refdriver", "--home", str(self.home), *words],
            input=stdin,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        assert code or not done.stderr
        return done.stdout


@pytest.fixture
def run(scratch: Path) -> Command:
    return Command(scratch / "home")


def test_a_layer_from_its_making_to_its_end(run: Command, scratch: Path) -> None:
    run("create", "base")
    (Path(run("get", "base").decode().strip()) / "file").write_text("text")
    run("put", "base")
    run("create-read-write", "child", "--parent", "base")
    root = Path(run("get", "child").decode().strip())
    assert root == run.home / "child" / "merged"
    (root / "file").unlink()
    (root / "new").write_text("new!")
    run("put", "child")
    assert run("changes", "child", "--parent", "base") == b"D /file\nA /new\n"
    assert run("diff-size", "child", "--parent", "base") == b"4\n"
    run("diff", "child", "--parent", "base", "-o", str(scratch / "child.tar"))
    with tarfile.open(scratch / "child.tar") as archive:
        assert archive.getnames() == [".wh.file", "new"]
    data = run("diff", "child", "--parent", "base")
    assert data == (scratch / "child.tar").read_bytes()
    run("create", "copy", "--parent", "base")
    assert run("apply-diff", "copy", "--parent", "base", stdin=data) == b"4\n"
    assert run("apply-diff", "copy", "--parent", "base", "-i", str(scratch / "child.tar")) == b"4\n"
    assert run("exists", "copy") == b"yes\n"
    run("remove", "copy")
    assert run("exists", "copy", code=errors.LayerNotFound.exit_code) == b"no\n"
    assert b"LowerDir" in run("metadata", "child")
    assert b"Backing Filesystem" in run("status")
    assert run("stores") == b""
    run("cleanup")


def test_gets_and_puts_of_separate_processes_are_counted(run: Command) -> None:
    run("create", "base")
    run("create", "child", "--parent", "base")
    root = Path(run("get", "child").decode().strip())
    run("get", "child")
    run("put", "child")
    assert os.path.ismount(root)
    run("put", "child")
    assert not os.path.ismount(root)


def test_output_for_machines_has_a_version(run: Command) -> None:
    assert json.loads(run("--json", "create", "base")) == {"version": 1, "layer": "base", "parent": ""}
    answer = json.loads(run("--json", "status"))
    assert answer["version"] == 1
    assert dict(answer["status"])["Supports d_type"] == "true"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["create", "a/b"], errors.BadLayerId),
        (["create", "new", "--parent", "missing"], errors.LayerNotFound),
        (["create", "base"], errors.LayerExists),
        (["create", "new", "--storage-opt", "size=1G"], errors.BadOption),
        (["create", "new", "--storage-opt", "size"], errors.BadOption),
        (["create-read-write", "new", "--storage-opt", "size=1G"], errors.QuotaFailed),
        (["get", "missing"], errors.LayerNotFound),
        (["apply-diff", "base"], errors.BadArchive),
        (["--option", "overlay.colour=red", "status"], errors.BadOption),
        (["--uidmap", "0:0", "status"], errors.BadOption),
    ],
)
def test_each_refusal_has_its_exit_code(run: Command, words: list[str], error: type[errors.DriverError]) -> None:
    run("create", "base")
    run(*words, code=error.exit_code)


def test_a_failed_diff_leaves_no_file(run: Command, scratch: Path) -> None:
    run("diff", "missing", "-o", str(scratch / "out.tar"), code=errors.LayerNotFound.exit_code)
    assert [path.name for path in scratch.iterdir() if path.name != "home"] == []


def test_a_reader_that_goes_away_is_no_traceback(run: Command) -> None:
    run("create", "base")
    (Path(run("get", "base").decode().strip()) / "file").write_bytes(bytes(5_000_000))
    command = f"{sys.executable} -m refdriver --home {run.home} diff base | head -c 10 >/dev/null"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert done.stderr == b""


def test_the_exit_codes_are_distinct_and_documented() -> None:
    classes = [
        value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, errors.DriverError)
    ]
    assert len({value.exit_code for value in classes}) == len(classes)
    page = (Path(__file__).parent.parent / "docs" / "exit-codes.md").read_text()
    for value in classes:
        assert f"| {value.exit_code} | `{value.__name__}` |" in page


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"/a b", "/a b"),
        ("/\u00e9".encode(), "/\u00e9"),
        (b"/\xff", "/\\xff"),
        (b"/a\nb", "/a\\x0ab"),
        (b"/\\", "/\\\\"),
    ],
)
def test_any_path_prints_on_one_line(path: bytes, text: str) -> None:
    assert printable(path) == text
