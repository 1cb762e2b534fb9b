from __future__ import annotations

import inspect
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refdriver import errors
from refdriver.cli.text import one_line, printable
from refdriver.cli.transfer import output

mounts = pytest.mark.mounts
PROGRAM = [sys.executable, "-m", "refdriver"]


class Command:
    """The command as a shell would run it, on one home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, code: int = 0, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            [*PROGRAM, "--home", str(self.home), *words],
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


@mounts
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


@mounts
def test_gets_and_puts_of_separate_processes_are_counted(run: Command) -> None:
    run("create", "base")
    run("create", "child", "--parent", "base")
    root = Path(run("get", "child").decode().strip())
    run("get", "child")
    run("put", "child")
    assert os.path.ismount(root)
    run("put", "child")
    assert not os.path.ismount(root)


@mounts
def test_output_for_machines_has_a_version(run: Command) -> None:
    assert json.loads(run("--json", "create", "base")) == {"version": 1, "layer": "base", "parent": ""}
    answer = json.loads(run("--json", "status"))
    assert answer["version"] == 1
    assert dict(answer["status"])["Supports d_type"] == "true"


@mounts
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


@mounts
def test_a_failed_diff_leaves_no_file(run: Command, scratch: Path) -> None:
    run("diff", "missing", "-o", str(scratch / "out.tar"), code=errors.LayerNotFound.exit_code)
    assert [path.name for path in scratch.iterdir() if path.name != "home"] == []


@mounts
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
    page = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text()
    for value in classes:
        assert f"| {value.exit_code} | `{value.__name__}` |" in page


def unprintable(text: str) -> bytes:
    """The way back, as docs/driver.md has it."""
    return re.sub(rb"\\(?:x(..)|\\)", lambda m: bytes.fromhex(m[1].decode()) if m[1] else b"\\", text.encode())


@given(st.binary() | st.text().map(str.encode))
@example(b"/\xff\\x\n")
@example("/\u0085\u202e\U000e0001".encode())
def test_any_name_prints_on_one_line_and_can_be_read_back(name: bytes) -> None:
    assert printable(name).isprintable()
    assert unprintable(printable(name)) == name


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
def test_names_read_well(path: bytes, text: str) -> None:
    assert printable(path) == text


def test_a_message_stays_on_its_line() -> None:
    assert one_line("cannot read a\nb\x1b[31m: '\udcff'") == "cannot read a\\x0ab\\x1b[31m: '\\xff'"


def test_help_needs_no_home() -> None:
    done = subprocess.run([*PROGRAM, "diff", "--help"], capture_output=True, check=True)
    assert b"--output FILE" in done.stdout


def test_a_verb_without_a_home_says_how_to_give_one() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "REFDRIVER_HOME"}
    done = subprocess.run([*PROGRAM, "status"], capture_output=True, check=False, env=environment)
    assert done.returncode == 2
    assert b"--home DIRECTORY" in done.stderr


@mounts
def test_the_path_of_a_tree_is_printed_as_it_is(scratch: Path) -> None:
    home = os.fsencode(scratch) + b"/\xff \\home"
    run = Command(Path(os.fsdecode(home)))
    run("create", "base")
    assert run("get", "base") == home + b"/base/diff\n"
    assert json.loads(run("--json", "get", "base"))["path"] == f"{scratch}/\\xff \\\\home/base/diff"


@mounts
def test_a_diff_tells_machines_how_long_it_is(run: Command, scratch: Path) -> None:
    run("create", "base")
    answer = json.loads(run("--json", "diff", "base", "-o", str(scratch / "base.tar")))
    assert answer["bytes"] == (scratch / "base.tar").stat().st_size
    run("--json", "diff", "base", code=2)


@mounts
@pytest.mark.parametrize(
    ("words", "stdin_is_terminal"), [(["diff", "base"], False), (["apply-diff", "base"], True)]
)
def test_archives_and_terminals_are_kept_apart(run: Command, words: list[str], stdin_is_terminal: bool) -> None:
    run("create", "base")
    with terminal() as (_, slave):
        done = subprocess.run(
            [*PROGRAM, "--home", str(run.home), *words],
            stdin=slave if stdin_is_terminal else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if stdin_is_terminal else slave,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2
    assert b"terminal" in done.stderr


@mounts
@pytest.mark.parametrize("words", [["diff", "base", "-o", "/dev/null"], ["apply-diff", "base"]])
def test_progress_is_shown_on_a_terminal(run: Command, words: list[str]) -> None:
    run("create", "base")
    impatient = "import refdriver.cli.transfer as t; t._PATIENCE = 0; from refdriver.cli import main; main()"
    with terminal() as (master, slave):
        subprocess.run(
            [sys.executable, "-c", impatient, "--home", str(run.home), *words],
            input=archive_of(0),
            stdout=subprocess.DEVNULL,
            stderr=slave,
            check=True,
        )
        assert words[0].encode() in os.read(master, 10_000)


@mounts
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_leaves_nothing(run: Command, number: signal.Signals, code: int) -> None:
    run("create", "base")
    archive = archive_of(1 << 20)
    with subprocess.Popen(
        [*PROGRAM, "--home", str(run.home), "apply-diff", "base"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as command:
        assert command.stdin
        assert command.stderr
        # More than a pipe holds: when it is written the command is in the middle of it, and waits for the rest.
        command.stdin.write(archive[: 1 << 20])
        command.send_signal(number)
        assert command.wait() == code
        assert b"Traceback" not in command.stderr.read()
    assert list((run.home / "base" / "diff").iterdir()) == []
    assert not (run.home / "staging").exists()


@mounts
@pytest.mark.parametrize("words", [["changes", "base"], ["diff", "base"]])
def test_a_full_disk_is_reported(run: Command, words: list[str]) -> None:
    run("create", "base")
    (Path(run("get", "base").decode().strip()) / "file").touch()
    with open("/dev/full", "wb") as full:
        command = [*PROGRAM, "--home", str(run.home), *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"refdriver: ")
    assert b"No space left" in done.stderr


class _Stop(BaseException):
    """What Ctrl-C or SIGTERM raises."""


def _write_half(target: str) -> None:
    with output(target) as fd:
        os.write(fd, b"half")
        raise _Stop


def test_an_output_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    with pytest.raises(_Stop):
        _write_half(str(link))
    assert file.read_text() == "old"
    with output(str(link)) as fd:
        os.write(fd, b"new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_an_output_that_is_no_file_stays_what_it_is() -> None:
    with output("/dev/null") as fd:
        os.write(fd, b"gone")
    assert Path("/dev/null").is_char_device()


def archive_of(size: int) -> bytes:
    """A whole archive of one file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = size
        archive.addfile(member, io.BytesIO(bytes(size)))
    return data.getvalue()


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal."""
    ends = pty.openpty()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@mounts
@pytest.mark.parametrize("words", [("diff", "base"), ("get", "base"), ("--json", "create", "other"), ("status",)])
def test_an_answer_for_a_closed_standard_output_is_an_error(run: Command, words: tuple[str, ...]) -> None:
    run("create", "base")
    lock = (run.home / ".refdriver.lock").read_bytes()
    done = shell(run, f"{' '.join(words)} >&-")
    assert done.returncode in (1, 2)
    assert b"Traceback" not in done.stderr
    assert b"refdriver: " in done.stderr or b"standard output is closed" in done.stderr
    assert (run.home / ".refdriver.lock").read_bytes() == lock


@mounts
def test_closed_descriptors_are_no_files_of_the_home(run: Command, scratch: Path) -> None:
    run("create", "base")
    (Path(run("get", "base").decode().strip()) / "file").write_text("text")
    before = own_files(run.home)
    assert shell(run, f"diff base -o {scratch}/a.tar <&- >&- 2>&-").returncode == 0
    with tarfile.open(scratch / "a.tar") as archive:
        assert archive.getnames() == ["file"]
    assert shell(run, "create other <&- >&- 2>&-").returncode == 0
    refused = shell(run, "apply-diff other <&-")
    assert refused.returncode == 2
    assert b"standard input is closed" in refused.stderr
    assert shell(run, "remove missing/x 2>&-").returncode == errors.BadLayerId.exit_code
    assert own_files(run.home) == before


def own_files(home: Path) -> dict[str, bytes]:
    """The files that the driver keeps in its home beside the layers."""
    return {path.name: path.read_bytes() for path in home.glob(".refdriver.*")}


def shell(run: Command, words: str) -> subprocess.CompletedProcess[bytes]:
    """The command with redirections of a shell."""
    line = f"exec {sys.executable} -m refdriver --home {run.home} {words}"
    return subprocess.run(["sh", "-c", line], capture_output=True, check=False)


@pytest.mark.parametrize("exists", [True, False])
def test_a_killed_command_leaves_no_file_beside_its_output(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "a.tar").write_text("old")
    code = f"""
import os, signal
from refdriver.cli.transfer import output
with output("{tmp_path}/a.tar") as fd:
    os.write(fd, b"new")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == (["a.tar"] if exists else [])
    with output(str(tmp_path / "a.tar")) as fd:
        os.write(fd, b"new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.tar": "new"}


@mounts
def test_a_verb_imports_what_it_needs(run: Command) -> None:
    """Each start of the command imports it all again; what takes long belongs to the verbs that use it."""
    code = """
import sys
from refdriver.cli import main
try:
    main()
finally:
    print(*sys.modules)
"""
    words = ["--home", str(run.home), "exists", "layer"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    imported = set(done.stdout.split())
    assert "refdriver.driver" in imported
    late = {"rich", "json", "socket", "subprocess", "tempfile", "random", "pathlib", "concurrent.futures"}
    assert not imported & {*late, "refdriver.plugin", "refdriver.unixhttp", "importlib.metadata"}
