"""A process below a supervisor (conformance.lab.supervisor), from the side of the harness."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from conformance.lab import supervisor
from conformance.lab.supervisor import KEPT, Options

_HEAD: Final = 5  # a byte of kind and four of length
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_START_LIMIT: Final = 30.0  # seconds for the supervisor and its child to be there
_REPORT_LIMIT: Final = 5.0  # for an answer of the supervisor, which does nothing but answer
_END_LIMIT: Final = 10.0  # for the kernel to end what is in a PID namespace
_STACK_LIMIT: Final = 3.0
_STACK_SETTLED: Final = 0.3


class NotStarted(Exception):
    """The supervisor did not start the process; the text says what it said."""


class Supervised:
    """A process in a PID namespace of its own, that ends with the harness at the latest.

    ``start`` gives the words of a command that becomes the supervisor with these options; without it the process is
    ``options.command``, with ``prefix`` before the supervisor. ``isolated`` says why there is no PID namespace; "".
    """

    def __init__(
        self,
        options: Options,
        *,
        start: Callable[[Options], Sequence[str]] | None = None,
        prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._lock = threading.RLock()
        self._link, theirs = socket.socketpair()
        self._status: int | None = None
        self._output = b""
        options = options._replace(link=theirs.fileno())
        words = start(options) if start else [sys.executable, "-I", "-S", supervisor.__file__, options.as_json()]
        try:
            self._link.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            with theirs:
                self._process = subprocess.Popen(
                    [*prefix, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno(), *pass_fds],
                    start_new_session=True,  # Ctrl-C is for the harness, which ends it
                )
        except BaseException:
            self._link.close()
            raise
        try:
            self.pid, self.isolated = self._hello()
        except BaseException:
            self.kill()
            raise

    def _hello(self) -> tuple[int, str]:
        """The process id of the child, as this process names it, and why it has no PID namespace."""
        self._link.settimeout(_START_LIMIT)
        try:
            head, ancillary, _, _ = self._link.recvmsg(_HEAD, socket.CMSG_SPACE(_CREDENTIALS.size))
            if len(head) == _HEAD and head[:1] == b"C":
                content = self._received(int.from_bytes(head[1:], "little"))
                return _CREDENTIALS.unpack(ancillary[0][2])[0], content.decode()
        except (OSError, IndexError):
            pass
        self._process.kill()
        said = self._process.stderr.read(KEPT) if self._process.stderr else b""
        raise NotStarted(said.decode("utf-8", "replace").strip() or "it ended without a message")

    def _received(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            data = self._link.recv(size - len(found))
            if not data:
                raise ConnectionError("the supervisor has ended")
            found += data
        return found

    def _frame(self, limit: float) -> bytes:
        """The kind of the next frame, whose content is kept; raises OSError, TimeoutError when none comes."""
        self._link.settimeout(max(limit, 0.001))
        head = self._received(1)
        self._link.settimeout(_REPORT_LIMIT)
        size = int.from_bytes(self._received(4), "little")
        if size > KEPT + 4:
            raise ConnectionError("no frame of a supervisor")
        content = self._received(size)
        if head == b"E":
            self._status, content = int.from_bytes(content[:4], "little"), content[4:]
        self._output = content
        return head

    @property
    def command_line(self) -> str:
        """What the process runs (proc(5)), "" if it is gone."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        return ""

    def signal(self, number: int) -> None:
        """Send the process a signal, if it is there."""
        with self._lock, contextlib.suppress(OSError):
            self._link.send(bytes([number]))

    def output(self) -> str:
        """The last that it printed, at most KEPT bytes."""
        with self._lock:
            if self._status is None:
                try:
                    self._link.send(b"\0")
                    while self._frame(_REPORT_LIMIT) not in (b"L", b"E"):
                        pass
                except OSError:
                    pass
            return self._output.decode("utf-8", "backslashreplace").strip()

    def wait(self, limit: float) -> int | None:
        """How it ended, within so many seconds: an exit status, or a negative signal; None if it did not.

        A supervisor that ended without a report, which takes a signal from outside, is one that died of SIGKILL.
        """
        with self._lock:
            deadline = time.monotonic() + limit
            while self._status is None:
                try:
                    self._frame(deadline - time.monotonic())
                except TimeoutError:
                    return None
                except OSError:
                    self._status = int(signal.SIGKILL)
            return os.waitstatus_to_exitcode(self._status)

    def stack(self, number: int = 0) -> str:
        """Where it stands: what it prints on a signal that makes it, or what the kernel knows of it."""
        said = ""
        if number:
            before = self.output()
            self.signal(number)
            changed = time.monotonic()
            deadline = changed + _STACK_LIMIT
            # It is written line by line, so it is whole when nothing more comes for a while.
            while time.monotonic() < (deadline if said in ("", before) else changed + _STACK_SETTLED):
                now = self.output()
                if now != said:
                    said, changed = now, time.monotonic()
                os.sched_yield()
            said = "" if said == before else said
        return said or as_the_kernel_knows(self.pid)

    def end(self, grace: float) -> None:
        """Ask it to end by SIGTERM; after ``grace`` seconds it is killed, with all that it started."""
        self.signal(signal.SIGTERM)
        self.wait(grace)
        self.kill()

    def kill(self) -> None:
        """End it now, with all that it started."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)  # which another thread may be reading from
        with self._lock:
            self._link.close()
            if self._process.stderr:
                self._process.stderr.close()
        try:
            self._process.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            # Something in it cannot be killed, such as a process in an uninterruptible call of the kernel.
            self._process.kill()
        if self._status is None:
            self._status = int(signal.SIGKILL)

    def forget(self) -> None:
        """In a forked child of the harness: let go of it, and leave it to the parent."""
        self._link.close()
        self._process.returncode = 0  # it is no child of this process


def why_not() -> str:
    """Why a process gets no PID namespace of its own here; "" if it does."""
    try:
        process = Supervised(Options(0, ("true",)))
    except NotStarted as error:
        return f"no supervisor: {error}"
    process.wait(_REPORT_LIMIT)
    process.kill()
    return process.isolated


def as_the_kernel_knows(pid: int) -> str:
    """Of each thread of a process: its name, its state, and the call of the kernel that it is in (proc(5))."""
    lines = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        with contextlib.suppress(OSError):
            status = dict(
                line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line
            )
            said = f"thread {status['Name']}: {status['State']}"
            for name in ("wchan", "syscall", "stack"):
                with contextlib.suppress(OSError):
                    content = (task / name).read_text().strip()
                    said += f"\n  {name}: {content}" if content and content != "0" else ""
            lines.append(said)
    return "\n".join(lines)


def how_it_ended(status: int) -> str:
    """A wait status in words: "died of SIGSEGV", "ended with status 3"."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"died of {signal.Signals(-status).name}"
    except ValueError:
        return f"died of signal {-status}"
