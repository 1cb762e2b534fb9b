"""System calls of other processes, answered by this one: a command runs, and some of its calls are asked about.

The kernel hands the calls of a process to another one, here its parent, by seccomp user notification
(seccomp_unotify(2); Linux 5.0, and 5.5 for "go on with the call"). It is for programs in any language: nothing is
preloaded. A traced process would be slower, and could not be traced again.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from conformance.lab import libc

Asked = Callable[[int, int, Sequence[int]], int | None]
"""Of a call, by the id of its thread, its number and its arguments: the errno that answers it, 0 for success; None
if the kernel is to do it; LATER if it is to do it when the caller of run() lets it. An OSError is None: what cannot
be read of the caller is the kernel's to judge."""

LATER: Final = -1

_HELD_LIMIT: Final = 60.0  # seconds that a call waits at most, if nobody lets it go
_MOST_DESCRIPTORS: Final = 1 << 16
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER: Final = 8
_RET_ALLOW: Final = 0x7FFF0000
_RET_USER_NOTIF: Final = 0x7FC00000
_CONTINUE: Final = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_RECEIVE: Final = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV, struct seccomp_notif of 80 bytes
_SEND: Final = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND, struct seccomp_notif_resp of 24 bytes
_SET_FLAGS: Final = 0x40082104  # SECCOMP_IOCTL_NOTIF_SET_FLAGS (Linux 6.6)
_SYNC_WAKE_UP: Final = 1  # the two processes take turns, and need one processor
# Of each architecture: its number in audit.h, and that of seccomp(2).
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}


def why_not() -> str:
    """Why this host cannot answer system calls of others; "" if it can."""
    if platform.machine() not in _ARCHITECTURES:
        return f"answering system calls is not supported on {platform.machine()}"
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        actions = []
    numbers = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit())
    if "user_notif" not in actions or numbers < (5, 5):
        return "answering system calls needs seccomp user notification (Linux 5.5, CONFIG_SECCOMP_FILTER)"
    return ""


def run(numbers: Sequence[int], asked: Asked, command: Sequence[str], lets_go: Path | None = None) -> int:
    """Run a command, and ask about calls with these numbers; its exit code, 128 and the signal if it was killed.

    A byte in the pipe ``lets_go`` lets a call that was answered with LATER be done. Other calls go on meanwhile.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _become(theirs, numbers, command)
    theirs.close()
    _let_go(ours.fileno())
    listener = _received(ours)
    ours.close()
    status = None
    if listener is not None:
        gate = os.open(lets_go, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) if lets_go else -1
        status = _answer(listener, asked, child, gate)
        os.close(listener)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1] if status is None else status)
    return code if code >= 0 else 128 - code


def _let_go(kept: int) -> None:
    """Close what was inherited for the command: the other ends are to see when the command has closed its own."""
    os.closerange(3, kept)
    os.closerange(kept + 1, _MOST_DESCRIPTORS)


def _become(channel: socket.socket, numbers: Sequence[int], command: Sequence[str]) -> None:
    """In the child: install the filter, hand its descriptor to the parent, and be the command."""
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would answer without the parent
        listener = _install(numbers)
        socket.send_fds(channel, [b"x"], [listener])
        os.close(listener)
        os.execvp(command[0], list(command))
    except OSError as error:
        os.write(2, f"answered system calls: {error.strerror}: {command[0]}\n".encode())
    os._exit(127)


def _install(numbers: Sequence[int]) -> int:
    def statement(code: int, value: int) -> bytes:
        return struct.pack("HBBI", code, 0, 0, value)

    def jump(value: int, yes: int, no: int) -> bytes:
        return struct.pack("HBBI", 0x15, yes, no, value)  # BPF_JMP | BPF_JEQ | BPF_K

    audit, seccomp = _ARCHITECTURES[platform.machine()]
    count = len(numbers)
    program = b"".join(
        (
            statement(0x20, 4),  # load seccomp_data.arch (BPF_LD | BPF_W | BPF_ABS)
            jump(audit, 0, count + 1),
            statement(0x20, 0),  # load seccomp_data.nr
            *(jump(number, count - index, 0) for index, number in enumerate(numbers)),
            statement(0x06, _RET_ALLOW),
            statement(0x06, _RET_USER_NOTIF),
        )
    )
    if os.geteuid() != 0:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    return libc.seccomp(seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER, program)


def _received(channel: socket.socket) -> int | None:
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    return descriptors[0] if descriptors else None


def _answer(listener: int, asked: Asked, child: int, gate: int) -> int | None:
    """Answer calls until the child has ended; its status, None if it is not known.

    What it leaves running, such as a filesystem in a process, is answered by a process of its own until that ends.
    Before Linux 6.11 a process keeps its filter until it is waited for, so the child is, as soon as it ends.
    """
    status = None
    detached = False
    held = -1  # the number of a request that is answered later
    with contextlib.suppress(OSError):  # older kernels wake the other process as any other
        fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while True:
        ready = dict(poll.poll(None if held < 0 else _HELD_LIMIT * 1000))
        if held >= 0 and (gate in ready or not ready):
            with contextlib.suppress(BlockingIOError):
                os.read(gate, 1)
            poll.unregister(gate)  # another process of the same pipe may hold a call next
            _send(listener, held, None)
            held = -1
        if status is None and ended in ready:
            poll.unregister(ended)
            os.close(ended)
            _, status = os.waitpid(child, 0)
            ready = dict(poll.poll(0))
        if ready.get(listener, 0) & select.POLLHUP:
            if status is None:
                os.close(ended)
            if detached:
                os._exit(0)
            return status
        if status is not None and not detached:
            if os.fork():
                return status
            detached = True
            _let_go_of_output()
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
            outcome = asked(pid, call, arguments)
        except OSError:
            outcome = None
        if outcome == LATER:
            held = number
            poll.register(gate, select.POLLIN)
        else:
            _send(listener, number, outcome)


def _let_go_of_output() -> None:
    """Let who reads the output of the command see its end."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


def _send(listener: int, number: int, outcome: int | None) -> None:
    answer = struct.pack("QqiI", number, 0, -(outcome or 0), _CONTINUE if outcome is None else 0)
    try:
        fcntl.ioctl(listener, _SEND, array.array("B", answer))
    except OSError as error:
        if error.errno != errno.ENOENT:  # the caller is gone already
            raise


def concerns(path: str, below: Sequence[str]) -> bool:
    """Whether a path is one of these directories, or is below one."""
    return any(path == one or path.startswith(f"{one}/") for one in below)


def read_path(pid: int, address: int) -> str:
    """The path at an address of another process; raises OSError."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        found = b""
        while b"\0" not in found and len(found) < 4096:
            # No further than the page's end: the next one may not be there.
            length = 4096 - (address + len(found)) % 4096
            memory.seek(address + len(found))
            found += memory.read(length)
        return os.fsdecode(found.split(b"\0")[0])


def write(pid: int, address: int, data: bytes) -> None:
    """Write to the memory of another process; raises OSError."""
    with open(f"/proc/{pid}/mem", "wb", buffering=0) as memory:
        memory.seek(address)
        memory.write(data)
