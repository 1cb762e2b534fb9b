"""Another kernel, another filesystem: answers to system calls of any process, given in the kernel's stead.

``pretend.py --release 3.16.0 --magic 0x9123683e --below /home -- COMMAND...`` runs a command that sees that
release in uname(2), and that filesystem in statfs(2) and fstatfs(2) of ``/home`` and of what is below it. All else
is the truth. It is for programs in any language: nothing is preloaded.

The kernel hands the calls of a process to another one, here its parent, by seccomp user notification
(seccomp_unotify(2); Linux 5.0, and 5.5 for "go on with the call"). strace can overwrite results too, but its
filter of paths also hides calls without a path, so a release and the filesystem of one path cannot be had at a
time; and a traced process is slower and cannot be traced again. What a program reads from /proc is not changed.
"""

from __future__ import annotations

import argparse
import array
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

if not __package__:  # run as a file, so that a program that is not installed starts it: see command()
    sys.path.append(str(Path(__file__).parents[2]))

from conformance.lab import libc

_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER: Final = 8
_RET_ALLOW: Final = 0x7FFF0000
_RET_USER_NOTIF: Final = 0x7FC00000
_CONTINUE: Final = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_RECEIVE: Final = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV, struct seccomp_notif of 80 bytes
_SEND: Final = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND, struct seccomp_notif_resp of 24 bytes
_UTSNAME_FIELD: Final = 65  # bytes of each of the six fields of struct new_utsname
_RELEASE: Final = 2


@dataclass(frozen=True, slots=True)
class _Calls:
    """Numbers of system calls (asm/unistd.h) and the architecture of audit.h that they belong to."""

    audit: int
    seccomp: int
    uname: int
    statfs: int
    fstatfs: int


_CALLS: Final = {
    "x86_64": _Calls(0xC000003E, 317, 63, 137, 138),
    "aarch64": _Calls(0xC00000B7, 277, 160, 43, 44),
}


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
    if platform.machine() not in _CALLS:
        return f"simulating another kernel is not supported on {platform.machine()}"
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        actions = []
    numbers = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit())
    if "user_notif" not in actions or numbers < (5, 5):
        return "simulating another kernel needs seccomp user notification (Linux 5.5, CONFIG_SECCOMP_FILTER)"
    return ""


def run(pretence: Pretence, command: Sequence[str]) -> int:
    """Run a command on the simulated kernel; its exit code, 128 and the signal if it was killed."""
    calls = _CALLS[platform.machine()]
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _become(theirs, calls, command)
    theirs.close()
    listener = _received(ours)
    ours.close()
    status = None
    if listener is not None:
        status = _answer(listener, calls, pretence, child)
        os.close(listener)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1] if status is None else status)
    return code if code >= 0 else 128 - code


def _become(channel: socket.socket, calls: _Calls, command: Sequence[str]) -> None:
    """In the child: install the filter, hand its descriptor to the parent, and be the command."""
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would answer without the parent
        listener = _install(calls)
        socket.send_fds(channel, [b"x"], [listener])
        os.close(listener)
        os.execvp(command[0], list(command))
    except OSError as error:
        os.write(2, f"simulated kernel: {error.strerror}: {command[0]}\n".encode())
    os._exit(127)


def _install(calls: _Calls) -> int:
    def statement(code: int, value: int) -> bytes:
        return struct.pack("HBBI", code, 0, 0, value)

    def jump(value: int, yes: int, no: int) -> bytes:
        return struct.pack("HBBI", 0x15, yes, no, value)  # BPF_JMP | BPF_JEQ | BPF_K

    program = b"".join(
        (
            statement(0x20, 4),  # load seccomp_data.arch (BPF_LD | BPF_W | BPF_ABS)
            jump(calls.audit, 0, 5),
            statement(0x20, 0),  # load seccomp_data.nr
            jump(calls.uname, 2, 0),
            jump(calls.statfs, 1, 0),
            jump(calls.fstatfs, 0, 1),
            statement(0x06, _RET_USER_NOTIF),
            statement(0x06, _RET_ALLOW),
        )
    )
    if os.geteuid() != 0:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    return libc.seccomp(calls.seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER, program)


def _received(channel: socket.socket) -> int | None:
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    return descriptors[0] if descriptors else None


def _answer(listener: int, calls: _Calls, pretence: Pretence, child: int) -> int | None:
    """Answer calls until the last process under the filter has ended; the child's status, None if it is not known.

    Before Linux 6.11 a process keeps its filter until it is waited for, so the child is, as soon as it ends.
    """
    status = None
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if status is None and ended in ready:
            poll.unregister(ended)
            os.close(ended)
            _, status = os.waitpid(child, 0)
        if ready.get(listener, 0) & select.POLLHUP:
            if status is None:
                os.close(ended)
            return status
        if listener not in ready:
            continue
        request = array.array("B", bytes(80))
        try:
            fcntl.ioctl(listener, _RECEIVE, request)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # the caller is gone already
                continue
            raise
        number, pid, _, call, _, _, *arguments = struct.unpack("QIIiIQ6Q", request.tobytes())
        try:
            outcome = _outcome(calls, pretence, pid, call, arguments)
        except OSError:  # what cannot be read of the caller is the kernel's to judge
            outcome = None
        answer = struct.pack("QqiI", number, 0, -(outcome or 0), _CONTINUE if outcome is None else 0)
        try:
            fcntl.ioctl(listener, _SEND, array.array("B", answer))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def _outcome(calls: _Calls, pretence: Pretence, pid: int, call: int, arguments: list[int]) -> int | None:
    """The errno of a call that was answered, 0 for success; None if the kernel is to do it."""
    if call == calls.uname:
        return _uname(pretence, pid, arguments[0])
    if pretence.magic is None:
        return None
    if call == calls.statfs:
        given = _read_path(pid, arguments[0])
        path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), given)
        reached = f"/proc/{pid}/root{path}"
    else:
        reached = f"/proc/{pid}/fd/{arguments[0]}"
        path = os.readlink(reached)
    if not _concerns(os.path.realpath(path), pretence.below):
        return None
    try:
        said = libc.statfs(reached)
    except OSError as error:
        return error.errno or errno.EIO
    _write(pid, arguments[1], struct.pack("q", pretence.magic) + said[8:])
    return 0


def _concerns(path: str, below: Sequence[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in below)


def _uname(pretence: Pretence, pid: int, address: int) -> int | None:
    if not pretence.release:
        return None
    names = os.uname()
    fields = [names.sysname, names.nodename, names.release, names.version, names.machine, "(none)"]
    fields[_RELEASE] = pretence.release
    _write(
        pid,
        address,
        b"".join(field.encode()[: _UTSNAME_FIELD - 1].ljust(_UTSNAME_FIELD, b"\0") for field in fields),
    )
    return 0


def _read_path(pid: int, address: int) -> str:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        found = b""
        while b"\0" not in found and len(found) < 4096:
            # No further than the page's end: the next one may not be there.
            length = 4096 - (address + len(found)) % 4096
            memory.seek(address + len(found))
            found += memory.read(length)
        return os.fsdecode(found.split(b"\0")[0])


def _write(pid: int, address: int, data: bytes) -> None:
    with open(f"/proc/{pid}/mem", "wb", buffering=0) as memory:
        memory.seek(address)
        memory.write(data)


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
