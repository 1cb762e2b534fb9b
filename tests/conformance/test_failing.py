"""System calls that fail: which are counted, which one fails, and what the suite draws of them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.lab import notified
from conformance.lab.failing import Counted, Failing
from conformance.machines.failing import chosen

pytestmark = pytest.mark.skipif(bool(notified.why_not()), reason="needs seccomp user notification")

MAKES = """
import os
os.chdir(os.environ["HOME_OF_TEST"])
os.mkdir("by-cwd")
fd = os.open(".", os.O_RDONLY)
os.mkdir("by-descriptor", dir_fd=fd)
with open(f"/proc/self/fd/{fd}/through-proc", "w") as file:
    file.write("x")
    file.flush()
    os.fsync(file.fileno())
os.setxattr("../elsewhere/file", "user.x", b"")
os.symlink("target", "../elsewhere/../home/link")
"""
THERE = ["by-cwd", "by-descriptor", "link", "through-proc"]


def run(scratch: Path, failing: Failing, number: int, *, kill: bool = False) -> tuple[int, str, Counted]:
    """Run the program with one of its calls failing, or killed there; its exit status, what it said, the counts."""
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    (scratch / "elsewhere").mkdir(exist_ok=True)
    (scratch / "elsewhere/file").touch()
    if kill:
        failing.kill(number)
    else:
        failing.count(number)
    done = subprocess.run(
        [*failing.prefix([home]), sys.executable, "-I", "-S", "-c", MAKES],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME_OF_TEST": str(home)},
        timeout=60,
    )
    return done.returncode, done.stderr, failing.stop()


def test_calls_below_the_home_are_counted_however_they_name_it(scratch: Path) -> None:
    failing = Failing(scratch)
    status, said, counted = run(scratch, failing, 0)
    assert (status, said, counted.failed) == (0, "", "")
    home = scratch / "home"
    names = [call for call in counted.calls if not call.startswith(("fstat", "readlink"))]
    assert names == [
        f"mkdir of {home}/by-cwd",
        f"openat of {home}",
        f"mkdirat of {home}/by-descriptor",
        f"openat of {home}/through-proc",
        f"write of {home}/through-proc",
        f"fsync of {home}/through-proc",
        f"symlink of {home}/link",
    ]
    assert sorted(os.listdir(home)) == THERE
    failing.close()
    assert not (scratch / "failing").exists()


def test_the_process_is_killed_at_the_chosen_call_which_is_not_done(scratch: Path) -> None:
    failing = Failing(scratch)
    status, said, counted = run(scratch, failing, 3, kill=True)
    assert (status, said) == (128 + signal.SIGKILL, "")
    assert counted.failed.startswith("mkdirat of ")
    assert os.listdir(scratch / "home") == ["by-cwd"]
    failing.close()


@pytest.mark.parametrize(
    ("number", "failed"), [(1, "mkdir"), (3, "mkdirat"), (5, "write"), (6, "fsync"), (7, "symlink")]
)
def test_the_chosen_call_fails_and_is_not_done(scratch: Path, number: int, failed: str) -> None:
    failing = Failing(scratch)
    status, said, counted = run(scratch, failing, number)
    assert status == 1
    assert f"[Errno {errno.EIO}]" in said
    assert counted.failed == counted.calls[-1]
    assert counted.failed.startswith(f"{failed} of ")
    assert len(counted.calls) == number
    done = THERE[:0] if number == 1 else [name for name in THERE if name != "link"][: 1 if number == 3 else 3]
    assert sorted(os.listdir(scratch / "home")) == done


def test_the_chosen_call_waits_until_it_is_let_go_and_others_do_not(scratch: Path) -> None:
    failing = Failing(scratch)
    home = scratch / "home"
    home.mkdir()
    words = [*failing.prefix([home]), "sh", "-c", 'mkdir "$0/first" && mkdir "$0/second"', str(home)]
    failing.hold(2)
    with subprocess.Popen(words) as process:
        assert failing.wait_until_held(60)
        made = failing.made()
        assert os.listdir(home) == ["first"]
        other = subprocess.run([*failing.prefix([home]), "mkdir", str(home / "other")], timeout=60)
        assert other.returncode == 0
        assert process.poll() is None
        assert failing.made() > made
        assert sorted(os.listdir(home)) == ["first", "other"]
        failing.let_go()
        assert process.wait(60) == 0
    assert sorted(os.listdir(home)) == ["first", "other", "second"]
    assert failing.stop().failed == f"mkdir of {home}/second"
    failing.hold(9)
    failing.there_is_none()
    assert failing.wait_until_held(60)
    failing.stop()
    failing.close()
    assert [name for name in os.listdir(scratch) if name.startswith("failing")] == []


def test_what_a_command_leaves_running_keeps_it_from_nothing(scratch: Path) -> None:
    """As a filesystem in a process, whose calls are answered as long as it runs."""
    failing = Failing(scratch)
    home = scratch / "home"
    home.mkdir()
    os.mkfifo(scratch / "go")
    daemon = 'read -r word < "$1/go"; mkdir "$0/daemon"; echo done > "$1/gone"'
    words = ["sh", "-c", f'({daemon}) > /dev/null 2>&1 & mkdir "$0/command"', str(home), str(scratch)]
    done = subprocess.run([*failing.prefix([home]), *words], stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"")
    assert os.listdir(home) == ["command"]
    os.mkfifo(scratch / "gone")
    (scratch / "go").write_text("go\n")
    assert (scratch / "gone").read_text() == "done\n"
    assert sorted(os.listdir(home)) == ["command", "daemon"]
    failing.close()


def test_nothing_fails_while_nobody_counts(scratch: Path) -> None:
    failing = Failing(scratch)
    failing.count(1)
    failing.stop()
    home = scratch / "home"
    home.mkdir()
    assert subprocess.run([*failing.prefix([home]), "mkdir", home / "made"], timeout=60).returncode == 0
    assert failing.stop() == Counted((), "")


def test_a_descriptor_is_closed_when_the_command_closes_it(scratch: Path) -> None:
    """The process in between keeps none of those that were inherited."""
    reader, writer = os.pipe()
    words = [*Failing(scratch).prefix([scratch]), "sh", "-c", f"exec {writer}>&-; cat"]
    with subprocess.Popen(words, pass_fds=[writer], stdin=subprocess.PIPE) as process:
        os.close(writer)
        assert os.read(reader, 1) == b""  # and the command is still there
        assert process.stdin is not None
        assert process.poll() is None
        process.stdin.close()
    os.close(reader)


def test_calls_of_one_kind_are_chosen_once() -> None:
    calls = [f"write of /h/layer-2/diff/d-2/f-{number}" for number in range(20)]
    calls += ["fsync of /h/l/AAAAAAAAAAAAAAAAAAAAAAAAAA", "fsync of /h/l/BBBBBBBBBBBBBBBBBBBBBBBBB2"]
    for _ in range(20):
        for least in (1, 10):
            numbers = chosen(least, calls)
            assert len(numbers) == 2
            assert numbers[0] <= 20 < numbers[1] <= 22
    assert chosen(5, []) == []


def test_each_system_call_is_chosen_and_then_other_kinds_of_files() -> None:
    calls = [f"{name} of /h/{letter}" for name in ("read", "write", "fsync") for letter in "abcd"]
    for _ in range(20):
        assert {calls[number - 1].split()[0] for number in chosen(0, calls)} == {"read", "write", "fsync"}
        assert len(chosen(0, calls)) == 3
        assert len(chosen(7, calls)) == 7
        assert chosen(50, calls) == list(range(1, 13))
