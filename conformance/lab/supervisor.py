"""A process that is not trusted, below an init of its own that outlives it and that it cannot reach.

The problem: a driver may crash, hang, fork without end, leave daemons, kill its parent, kill every process that it
may signal, or print without end, and the harness has to report which of it happened and go on. A process group does
not hold a process that calls setsid(2), PR_SET_PDEATHSIG holds no grandchild, and waiting for a child says nothing
of its children.

The solution: this module is the init (process 1) of a PID namespace (pid_namespaces(7)), and the driver is its only
child. The kernel drops signals from inside the namespace for which an init has no handler, kills every process in
it when the init ends, and no process in it can name one outside. The init reaps, keeps the last output, reports
the wait status, and ends when the other side of its socket is closed, so also when the harness is killed. Where
there is no PID namespace the same process is a child subreaper (prctl(2)) instead: it ends whatever is left when
its child ends, but can be killed by it.

Run as a script, ``supervisor.py OPTIONS`` with OPTIONS as JSON (see :class:`Options`), it needs nothing but
itself, and starts often. On the socket it takes bytes: 0 asks for the output so far, any other is a signal for the
child. It sends frames: one byte of kind, four bytes of length (little-endian), and the content:

- ``C``, first of all and by the child itself: why there is no PID namespace, "" if there is one. Its sender is the
  child, so that the receiver knows its process id by SCM_CREDENTIALS (unix(7));
- ``L``: the last output;
- ``E``: the wait status (four bytes, little-endian), and the last output. The end.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

KEPT: Final = 64 << 10  # bytes of output
_BLOCK: Final = 64 << 10
_CLONE_NEWPID: Final = 0x20000000
_PR_SET_CHILD_SUBREAPER: Final = 36
_MOST_PROCESSES: Final = 1024
_PID_MAX: Final = "/proc/sys/kernel/pid_max"
# Since this release pid_max belongs to the PID namespace; before it, a write would change the whole machine.
_OWN_PID_MAX: Final = (6, 14)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


# Not a dataclass, whose module takes as long to import as all others here. It has its own JSON for the same reason:
# this module runs as a script without the package (-I -S), so neither conformance.spec.values nor cattrs is there.
class Options(NamedTuple):
    """``link`` is the descriptor of the socket; ``umask`` None for the inherited one.

    ``limits`` are soft and hard limits by the number of the resource (setrlimit(2)).
    """

    link: int
    command: tuple[str, ...] = ()
    umask: int | None = None
    limits: tuple[tuple[int, int], ...] = ()

    def as_json(self) -> str:
        """One argument of a command line."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Back from :meth:`as_json`."""
        link, command, umask, limits = json.loads(text)
        return cls(link, tuple(command), umask, tuple((one, most) for one, most in limits))


def supervise(options: Options, become: Callable[[], None], own: Sequence[int] = ()) -> None:
    """Call ``become`` in a process below an init, and stay until all of it has ended. Does not return.

    ``own`` are descriptors for that process only: when it ends, nobody holds them any more.
    """
    link = socket.socket(fileno=options.link)
    os.set_inheritable(options.link, False)
    why_not = _enter_pid_namespace()
    if why_not:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _Init(link, own).run(options, become, why_not)
    init = os.fork()
    if init == 0:
        _limit_processes()
        _Init(link, own).run(options, become, "")
    link.close()
    for one in own:
        os.close(one)
    os.waitpid(init, 0)
    os._exit(0)


def _enter_pid_namespace() -> str:
    """The next child is the init of a PID namespace; why not, "" if it is."""
    if _LIBC.unshare(_CLONE_NEWPID) == 0:
        return ""
    return f"no PID namespace: {os.strerror(ctypes.get_errno())}"


def _limit_processes() -> None:
    """A fork bomb fills this PID namespace and not the machine, where the kernel can tell them apart."""
    release = os.uname().release.split("-")[0].split(".")
    try:
        if tuple(int(part) for part in release[:2]) >= _OWN_PID_MAX:
            with open(_PID_MAX, "w") as file:
                file.write(str(_MOST_PROCESSES))
    except (OSError, ValueError):
        pass  # then the limit of a call ends it


class _Init:
    """Starts the child, and serves the socket until the child or the other side has ended."""

    def __init__(self, link: socket.socket, own: Sequence[int]) -> None:
        self._link = link
        self._own = own
        self._output = bytearray()

    def run(self, options: Options, become: Callable[[], None], why_not: str) -> None:
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._pipe, output = os.pipe2(os.O_CLOEXEC)
        self._child = os.fork()
        if self._child == 0:
            signal.set_wakeup_fd(-1)
            for one in (woken, wake, self._pipe):
                os.close(one)
            _start(self._link, options, output, become, why_not)
        for one in (output, *self._own):
            os.close(one)
        os.set_blocking(self._pipe, False)
        try:
            self._serve(woken)
        except OSError:
            pass  # the other side is gone
        finally:
            if why_not:
                _end_children(self._child)
            os._exit(0)

    def _serve(self, woken: int) -> None:
        poll = select.poll()
        for one in (self._link.fileno(), self._pipe, woken):
            poll.register(one, select.POLLIN)
        while True:
            ready = [number for number, _ in poll.poll()]
            if self._pipe in ready and not self._read():
                poll.unregister(self._pipe)
            if self._link.fileno() in ready and not self._answer():
                return
            if woken in ready:
                os.read(woken, _BLOCK)
                if self._reap():
                    return

    def _read(self) -> bool:
        """Keep what was printed; whether there may be more."""
        try:
            data = os.read(self._pipe, _BLOCK)
        except BlockingIOError:
            return True
        self._output += data
        del self._output[:-KEPT]
        return bool(data)

    def _answer(self) -> bool:
        """Do what was asked; whether the other side is there."""
        asked = self._link.recv(64)
        for one in asked:
            if one:
                os.kill(self._child, one)
            else:
                send(self._link, b"L", bytes(self._output))
        return bool(asked)

    def _reap(self) -> bool:
        """Wait for whatever ended; whether the child has, which is reported then."""
        ended = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pid = 0
            if pid == 0:
                break
            if pid == self._child:
                ended = status
        if ended is None:
            return False
        # One that it left behind may print for ever.
        for _ in range(2 * KEPT // _BLOCK + 1):
            before = len(self._output)
            if not self._read() or len(self._output) == before:
                break
        send(self._link, b"E", ended.to_bytes(4, "little") + self._output)
        return True


def send(link: socket.socket, kind: bytes, content: bytes) -> None:
    """One frame."""
    link.sendall(kind + len(content).to_bytes(4, "little") + content)


def _start(link: socket.socket, options: Options, output: int, become: Callable[[], None], why_not: str) -> None:
    """The child, until it is the driver. Does not return."""
    try:
        os.setsid()
        if os.getpid() != 1:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.close(output)
        if options.umask is not None:
            os.umask(options.umask)
        for one, most in options.limits:
            hard = resource.getrlimit(one)[1]
            wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(one, (wanted, wanted))
        send(link, b"C", why_not.encode())
        link.close()
        become()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "backslashreplace"))
    os._exit(127)


def _end_children(child: int) -> None:
    """Without a PID namespace: kill the child's process group, and all that is left below this process."""
    for kill, number in ((os.killpg, child), (os.kill, child)):
        with contextlib.suppress(OSError):
            kill(number, signal.SIGKILL)
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                left = [int(one) for one in file.read().split()]
        except OSError:
            left = []
        for one in left:
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def execute(command: tuple[str, ...]) -> None:
    """Become a command; raises OSError."""
    for one in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a command would go on to
        signal.signal(one, signal.SIG_DFL)
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    asked = Options.from_json(sys.argv[1])
    supervise(asked, lambda: execute(asked.command))
