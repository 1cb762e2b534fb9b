"""Another kernel, another filesystem: answers to system calls of any process, given in the kernel's stead.

``pretend.py --release 3.16.0 --magic 0x9123683e --below /home -- COMMAND...`` runs a command that sees that
release in uname(2), and that filesystem in statfs(2) and fstatfs(2) of ``/home`` and of what is below it. All else
is the truth. strace can overwrite results too, but its filter of paths also hides calls without a path, so a
release and the filesystem of one path cannot both be had. What a program reads from /proc is not changed.
"""

from __future__ import annotations

import argparse
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

if not __package__:  # run as a file, so that a program that is not installed starts it: see Pretence.prefix()
    sys.path.append(str(Path(__file__).parents[2]))

from conformance.lab import libc, notified

_UTSNAME_FIELD: Final = 65  # bytes of each of the six fields of struct new_utsname
_RELEASE: Final = 2


@dataclass(frozen=True, slots=True)
class _Calls:
    """Numbers of system calls (asm/unistd.h)."""

    uname: int
    statfs: int
    fstatfs: int


_CALLS: Final = {"x86_64": _Calls(63, 137, 138), "aarch64": _Calls(160, 43, 44)}


@dataclass(frozen=True, slots=True)
class Pretence:
    """What to simulate: a release, "" for the true one; a magic for statfs of the paths ``below``."""

    release: str = ""
    magic: int | None = None
    below: tuple[str, ...] = ()

    def prefix(self) -> list[str]:
        """The words that stand before a command, so that it sees this."""
        words = [sys.executable, "-I", "-S", __file__]  # it needs nothing but itself, and starts often
        if self.release:
            words.append(f"--release={self.release}")
        if self.magic is not None:
            words += ["--magic", hex(self.magic)]
        return [*words, *(word for path in self.below for word in ("--below", path)), "--"]


def why_not() -> str:
    """Why this host cannot simulate a kernel; "" if it can."""
    reason = notified.why_not()
    return f"simulating another kernel: {reason}" if reason else ""


def run(pretence: Pretence, command: Sequence[str]) -> int:
    """Run a command on the simulated kernel; its exit code, 128 and the signal if it was killed."""
    calls = _CALLS[platform.machine()]

    def asked(pid: int, call: int, arguments: Sequence[int]) -> int | None:
        return _outcome(calls, pretence, pid, call, arguments)

    return notified.run((calls.uname, calls.statfs, calls.fstatfs), asked, command)


def _outcome(calls: _Calls, pretence: Pretence, pid: int, call: int, arguments: Sequence[int]) -> int | None:
    """The errno of a call that was answered, 0 for success; None if the kernel is to do it."""
    if call == calls.uname:
        return _uname(pretence, pid, arguments[0])
    if pretence.magic is None:
        return None
    if call == calls.statfs:
        given = notified.read_path(pid, arguments[0])
        path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), given)
        reached = f"/proc/{pid}/root{path}"
    else:
        reached = f"/proc/{pid}/fd/{arguments[0]}"
        path = os.readlink(reached)
    if not notified.concerns(os.path.realpath(path), pretence.below):
        return None
    try:
        said = libc.statfs(reached)
    except OSError as error:
        return error.errno or errno.EIO
    notified.write(pid, arguments[1], struct.pack("q", pretence.magic) + said[8:])
    return 0


def _uname(pretence: Pretence, pid: int, address: int) -> int | None:
    if not pretence.release:
        return None
    names = os.uname()
    fields = [names.sysname, names.nodename, names.release, names.version, names.machine, "(none)"]
    fields[_RELEASE] = pretence.release
    notified.write(
        pid,
        address,
        b"".join(field.encode()[: _UTSNAME_FIELD - 1].ljust(_UTSNAME_FIELD, b"\0") for field in fields),
    )
    return 0


def main() -> int:
    """The command line: see the module."""
    parser = argparse.ArgumentParser(prog="pretend.py")
    parser.add_argument("--release", default="")
    parser.add_argument("--magic", type=lambda text: int(text, 0))
    parser.add_argument("--below", action="append", default=[])
    parser.add_argument("command", nargs="+")
    words = parser.parse_args()
    below = tuple(os.path.realpath(path) for path in words.below)
    return run(Pretence(words.release, words.magic, below), words.command)


if __name__ == "__main__":
    sys.exit(main())
