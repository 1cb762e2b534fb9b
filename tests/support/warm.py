"""Workers that are forked: a process that has imported what they need starts each in some milliseconds.

This file, run as a command, reads requests from a socket, its descriptor 0. It forks a process that forks the
worker and ends, so that the worker becomes a child of the process of the test, which is a subreaper as long as it
follows one (conformance.lab.descendants). All else is as of a worker that is started: its session, descriptors,
environment, and task. How a worker starts is for the tests that start the command.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Self
from unittest.mock import patch

from conformance.harness import following

WORKERS = (
    "conformance.harness.compare",
    "conformance.harness.diagnosis",
    "conformance.harness.validating.worker",
    "conformance.harness.worker",
    "conformance.observing.worker",
    "conformance.selftest.generated.trials",
    "conformance.selftest.trials",
)
# What a worker of a run imports, but for the suites.
_IMPORTED = (
    "conformance.harness.worker",
    "conformance.drivers.containers_storage.adapter",
    "conformance.drivers.mounter.adapter",
    "conformance.drivers.python.adapter",
    "conformance.evidence.pytest_evidence",
    "conformance.pytest_entry",
    "_hypothesis_pytestplugin",
)
_MOST = 1 << 17  # bytes of a request
# What Python reads when it starts, besides PYTHONPATH: a worker with other values is started.
_READ_AT_START = ("LANG", "LC_", "LD_", "MALLOC_", "PYTHON", "TZ")


class Forked:
    """A worker, with what of subprocess.Popen is used of one."""

    def __init__(self, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.pid = pid
        self.stdin: IO[bytes] | None = stdin
        self.stdout: IO[bytes] | None = stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            handle = os.pidfd_open(self.pid)
            try:
                if not select.select([handle], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired("worker", timeout or 0)
            finally:
                os.close(handle)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self.stdin, self.stdout):
            if pipe:
                pipe.close()
        self.wait()


class Server:
    """The process that forks workers, from the side of the test. It ends with the process of the test."""

    def __init__(self) -> None:
        self._beginning = _beginning(following.environment())
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = [sys.executable, __file__]
            self._process = subprocess.Popen(
                words,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=following.environment(),
            )

    def forks(self, env: Mapping[str, str]) -> bool:
        """Whether a worker that is started in this environment would be like one that is forked."""
        return _beginning(env) == self._beginning and self._process.poll() is None

    def fork(self, module: str) -> Forked:
        """A worker in the present environment and directory; raises OSError."""
        request = {"module": module, "env": following.environment(), "directory": os.getcwd()}
        reads, stdin = os.pipe()
        stdout, writes = os.pipe()
        try:
            socket.send_fds(self._link, [json.dumps(request).encode()], [reads, writes, 2])
        finally:
            os.close(reads)
            os.close(writes)
        pid = int(self._link.recv(_MOST))
        return Forked(pid, os.fdopen(stdin, "wb", buffering=0), os.fdopen(stdout, "rb", buffering=0))

    def close(self) -> None:
        """End it."""
        self._link.close()
        self._process.wait()


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Workers that are followed in here are forked, where they are like those that are started."""
    started, server = following.start, Server()

    def start(module: str, prefix: Sequence[str]) -> contextlib.AbstractContextManager[following.Worker]:
        if prefix or module not in WORKERS or not server.forks(following.environment()):
            return started(module, prefix)
        return server.fork(module)

    try:
        with patch.object(following, "start", start):
            yield
    finally:
        server.close()


def _beginning(env: Mapping[str, str]) -> dict[str, str]:
    return {key: said for key, said in env.items() if key.startswith(_READ_AT_START) and key != "PYTHONPATH"}


def _serve(link: socket.socket) -> None:
    """Fork a worker for each request, until there are no more; in the worker, this runs it and returns."""
    for module in _IMPORTED:
        importlib.import_module(module)
    while True:
        request, descriptors, _, _ = socket.recv_fds(link, _MOST, 3)
        if not request:
            return
        reads, writes = os.pipe()
        between = os.fork()
        if not between:
            handle = os.pidfd_open(os.getpid())
            worker = os.fork()
            if worker:
                os.write(writes, str(worker).encode())
                os._exit(0)
            select.select([handle], [], [])  # until the process of the test is the parent
            for descriptor in (handle, reads, writes):
                os.close(descriptor)
            link.close()
            _be_worker(json.loads(request), descriptors)
            return
        os.waitpid(between, 0)
        link.send(os.read(reads, _MOST))
        for descriptor in (reads, writes, *descriptors):
            os.close(descriptor)


def _be_worker(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["directory"])
    own = {os.path.abspath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one}
    os.environ.clear()
    os.environ.update(request["env"])
    more = [os.path.abspath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    sys.path[:] = [request["directory"], *more, *(one for one in sys.path[1:] if one not in own)]
    sys.path_importer_cache.clear()
    sys.argv = [request["module"]]
    importlib.import_module(request["module"]).main()


if __name__ == "__main__":
    gc.disable()
    sys.path[0] = os.getcwd()  # as of python -m
    _serve(socket.socket(fileno=os.dup(0)))
