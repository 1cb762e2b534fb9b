"""System calls that fail or wait: one call of a driver, chosen by its number, is not done, or not yet.

``failing.py --control FILE --below /home -- COMMAND...`` runs a command. As long as the harness counts
(:class:`Failing`), the calls of the command that read or change what is below ``/home`` have numbers from 1 on, and
the chosen one fails, or its process is killed, or it waits until the harness lets it go on. It is for programs in
any language (conformance.lab.notified).

Only calls that wait for a disk or for the mount table are counted. stat(2) and its kin are not: what they say of a
file that is in use comes from memory, and fails only by the file's absence.
"""

from __future__ import annotations

import argparse
import errno
import mmap
import os
import platform
import select
import signal
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

if not __package__:  # run as a file, so that a program that is not installed starts it: see Failing.prefix()
    sys.path.append(str(Path(__file__).parents[2]))

from conformance.lab import notified

_SIZE: Final = 1 << 18  # bytes of the control file; what is said beyond it is not kept
_HEAD: Final = struct.Struct("<5q")  # counting, which call fails, errno, how many calls, length of their words
_COUNTED, _WATCHED = 1, 2  # after the chosen one waits, calls are counted for :meth:`Failing.made`
_KILL: Final = -1  # in the place of an errno
_HOLD: Final = -2
_HELD, _LET_GO = ".held", ".let-go"  # pipes beside the control file: a byte in each says it
_AT_CWD: Final = -100
_FOLLOWED: Final = ("/proc/self/fd/", "/proc/thread-self/fd/")


@dataclass(frozen=True, slots=True)
class _Named:
    """Of a call: its numbers on x86_64 and aarch64 (asm/unistd.h; -1 for none), and the arguments that name a file.

    ``directory`` is the index of a descriptor that ``path`` is relative to, -1 for the working directory; without a
    path it is the file.
    """

    name: str
    x86_64: int
    aarch64: int
    path: int
    directory: int = -1


_CALLS: Final = (
    _Named("read", 0, 63, -1, 0),
    _Named("write", 1, 64, -1, 0),
    _Named("open", 2, -1, 0),
    _Named("pread64", 17, 67, -1, 0),
    _Named("pwrite64", 18, 68, -1, 0),
    _Named("readv", 19, 65, -1, 0),
    _Named("writev", 20, 66, -1, 0),
    _Named("sendfile", 40, 71, -1, 1),
    _Named("fsync", 74, 82, -1, 0),
    _Named("fdatasync", 75, 83, -1, 0),
    _Named("truncate", 76, 45, 0),
    _Named("ftruncate", 77, 46, -1, 0),
    _Named("rename", 82, -1, 1),
    _Named("mkdir", 83, -1, 0),
    _Named("rmdir", 84, -1, 0),
    _Named("link", 86, -1, 1),
    _Named("unlink", 87, -1, 0),
    _Named("symlink", 88, -1, 1),
    _Named("readlink", 89, -1, 0),
    _Named("chmod", 90, -1, 0),
    _Named("fchmod", 91, 52, -1, 0),
    _Named("chown", 92, -1, 0),
    _Named("fchown", 93, 55, -1, 0),
    _Named("lchown", 94, -1, 0),
    _Named("mknod", 133, -1, 0),
    _Named("mount", 165, 40, 1),
    _Named("umount2", 166, 39, 0),
    _Named("setxattr", 188, 5, 0),
    _Named("lsetxattr", 189, 6, 0),
    _Named("fsetxattr", 190, 7, -1, 0),
    _Named("getxattr", 191, 8, 0),
    _Named("lgetxattr", 192, 9, 0),
    _Named("fgetxattr", 193, 10, -1, 0),
    _Named("listxattr", 194, 11, 0),
    _Named("llistxattr", 195, 12, 0),
    _Named("flistxattr", 196, 13, -1, 0),
    _Named("getdents64", 217, 61, -1, 0),
    _Named("openat", 257, 56, 1, 0),
    _Named("mkdirat", 258, 34, 1, 0),
    _Named("mknodat", 259, 33, 1, 0),
    _Named("fchownat", 260, 54, 1, 0),
    _Named("unlinkat", 263, 35, 1, 0),
    _Named("renameat", 264, 38, 3, 2),
    _Named("linkat", 265, 37, 3, 2),
    _Named("symlinkat", 266, 36, 2, 1),
    _Named("readlinkat", 267, 78, 1, 0),
    _Named("fchmodat", 268, 53, 1, 0),
    _Named("utimensat", 280, 88, 1, 0),
    _Named("fallocate", 285, 47, -1, 0),
    _Named("renameat2", 316, 276, 3, 2),
    _Named("copy_file_range", 326, 285, -1, 2),
    _Named("openat2", 437, 437, 1, 0),
)


@dataclass(frozen=True, slots=True)
class Counted:
    """The calls that there were, as in "fsync of /home/l", and the one of them that was chosen; "" for none."""

    calls: tuple[str, ...]
    failed: str


class Failing:
    """The harness's side of a control file, which it makes in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "failing"
        self._file.write_bytes(bytes(_SIZE))
        with self._file.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _SIZE)
        self._held, self._let_go = (_pipe(self._file, one) for one in (_HELD, _LET_GO))

    def prefix(self, below: Iterable[Path]) -> tuple[str, ...]:
        """The words that stand before a command, so that its calls below these directories can fail."""
        places = (word for one in below for word in ("--below", str(one)))
        return (sys.executable, "-I", "-S", __file__, "--control", str(self._file), *places, "--")

    def count(self, number: int = 0, error: int = errno.EIO) -> None:
        """Count calls from now on, and fail the one with this number; none for 0."""
        self._shared[: _HEAD.size] = _HEAD.pack(_COUNTED, number, error, 0, 0)

    def kill(self, number: int) -> None:
        """Count calls from now on, and kill the process that makes the one with this number, which is not done."""
        self.count(number, _KILL)

    def hold(self, number: int) -> None:
        """Count calls from now on, and let the one with this number wait."""
        for pipe in (self._held, self._let_go):
            with suppress(BlockingIOError):
                os.read(pipe, _SIZE)
        self.count(number, _HOLD)

    def wait_until_held(self, limit: float) -> bool:
        """Whether a call waits, or :meth:`there_is_none` was called, within ``limit`` seconds."""
        return bool(select.select([self._held], [], [], limit)[0])

    def there_is_none(self) -> None:
        """Wait for no call any longer: the one with the number was not made."""
        os.write(self._held, b"n")

    def made(self) -> int:
        """How many calls were made since they are counted, also while one waits."""
        return int(_HEAD.unpack(self._shared[: _HEAD.size])[3])

    def let_go(self) -> None:
        """Let the call that waits be done."""
        os.write(self._let_go, b"g")

    def stop(self) -> Counted:
        """Count no longer; what there was."""
        _, chosen, _, count, length = _HEAD.unpack(self._shared[: _HEAD.size])
        said = self._shared[_HEAD.size : _HEAD.size + length].decode("utf-8", "replace")
        self._shared[: _HEAD.size] = _HEAD.pack(0, 0, 0, 0, 0)
        calls = tuple(said.split("\0")[:-1])
        return Counted(calls, calls[-1] if calls and chosen and count >= chosen else "")

    def close(self) -> None:
        """Let go of the files, and remove them."""
        self._shared.close()
        os.close(self._held)
        os.close(self._let_go)
        for suffix in ("", _HELD, _LET_GO):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)


def _pipe(file: Path, suffix: str) -> int:
    """A named pipe beside a file, open for both ends, so that nobody waits for the other one."""
    path = file.with_name(file.name + suffix)
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def run(control: Path, below: Sequence[str], command: Sequence[str]) -> int:
    """Run a command whose calls can fail; its exit code, 128 and the signal if it was killed."""
    which = {getattr(one, platform.machine()): one for one in _CALLS}
    which.pop(-1, None)
    with control.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), _SIZE)
    held, let_go = (control.with_name(control.name + suffix) for suffix in (_HELD, _LET_GO))

    def asked(pid: int, number: int, arguments: Sequence[int]) -> int | None:
        counting, chosen, error, count, length = _HEAD.unpack(shared[: _HEAD.size])
        if not counting:
            return None
        call = which[number]
        path = _path_of(call, pid, arguments)
        if not notified.concerns(path, below):
            return None
        if counting == _WATCHED:
            shared[: _HEAD.size] = _HEAD.pack(counting, chosen, error, count + 1, length)
            return None
        said = f"{call.name} of {path}\0".encode("utf-8", "replace")
        begin = _HEAD.size + length
        if begin + len(said) <= _SIZE:
            shared[begin : begin + len(said)] = said
            length += len(said)
        fails = count + 1 == chosen
        # Once: what the driver does about it is to work.
        then = (_WATCHED if error == _HOLD else 0) if fails else counting
        shared[: _HEAD.size] = _HEAD.pack(then, chosen, error, count + 1, length)
        if fails and error == _KILL:
            os.kill(pid, signal.SIGKILL)
            return errno.EINTR  # for nobody, as it is gone
        if fails and error == _HOLD:
            _say(held)
            return notified.LATER
        return int(error) if fails else None

    return notified.run(tuple(which), asked, command, let_go)


def _say(pipe: Path) -> None:
    opened = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(opened, b"h")
    os.close(opened)


def _path_of(call: _Named, pid: int, arguments: Sequence[int]) -> str:
    """The absolute path of the file that a call is about; raises OSError."""
    if call.path < 0:
        return os.readlink(f"/proc/{pid}/fd/{_descriptor(arguments[call.directory])}")
    given = notified.read_path(pid, arguments[call.path])
    for prefix in _FOLLOWED:
        if given.startswith(prefix):
            number, _, rest = given.removeprefix(prefix).partition("/")
            return os.path.normpath(os.path.join(os.readlink(f"/proc/{pid}/fd/{number}"), rest))
    if given.startswith("/"):
        return os.path.normpath(given)
    directory = _descriptor(arguments[call.directory]) if call.directory >= 0 else _AT_CWD
    where = f"/proc/{pid}/cwd" if directory == _AT_CWD else f"/proc/{pid}/fd/{directory}"
    return os.path.normpath(os.path.join(os.readlink(where), given))


def _descriptor(argument: int) -> int:
    """A descriptor is an int in a register of 64 bits."""
    return (argument & 0xFFFFFFFF) - (1 << 32 if argument & 0x80000000 else 0)


def main() -> int:
    """The command line: see the module."""
    parser = argparse.ArgumentParser(prog="failing.py")
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--below", action="append", default=[])
    parser.add_argument("command", nargs="+")
    words = parser.parse_args()
    return run(words.control, tuple(os.path.realpath(path) for path in words.below), words.command)


if __name__ == "__main__":
    sys.exit(main())
