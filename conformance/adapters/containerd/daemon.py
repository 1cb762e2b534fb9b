"""A containerd of our own: private in everything, and gone with the process that started it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.adapters.containerd.mounting import detach_below
from conformance.driver import DriverRefused

_START_LIMIT: Final = 60  # seconds
_STOP_LIMIT: Final = 10
# What runs containers, listens elsewhere or writes outside of the root. A containerd of another version
# ignores the names that it does not know.
_UNUSED: Final = (
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.monitor.v1.cgroups",
    "io.containerd.nri.v1.nri",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.runtime.v1.linux",
    "io.containerd.runtime.v2.shim",
    "io.containerd.runtime.v2.task",
    "io.containerd.service.v1.tasks-service",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
)
# prctl(PR_SET_PDEATHSIG, SIGKILL), for a parent that is still the one that started us, and then the daemon.
_DIE_WITH_PARENT: Final = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0);"
    " os.getppid() == int(sys.argv[1]) or os._exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)
# The kernel kills the daemon when the thread that started it ends (prctl(2)), so that thread must be one that
# lives as long as this process. It is no preexec_fn as gRPC's threads make Python code after a fork unsafe.
_STARTER: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="containerd-starter")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a daemon is started with: the command, the snapshotter, and the socket of one in another process.

    ``config`` is the text of a configuration of containerd (TOML) that is added to the adapter's own.
    """

    binary: str
    snapshotter: str
    proxy: str = ""
    config: str = ""


class Daemon:
    """Started on ``directory/root``, and running until ``stop``.

    All that it needs besides is below ``directory/run``. The socket is named through an open directory, as the
    path of a socket has at most 107 bytes (unix(7)) and that of a store as many as it likes.
    """

    def __init__(self, setup: Setup, directory: Path) -> None:
        self._directory = directory
        self._run = directory / "run"
        self._root = directory / "root"
        self.home = self._root / f"io.containerd.snapshotter.v1.{setup.snapshotter}"
        if not _is_utf8(directory):
            raise DriverRefused(f"containerd's configuration is UTF-8, and so cannot name {str(directory)!r}")
        shutil.rmtree(self._run, ignore_errors=True)  # of a process that was killed
        self._run.mkdir()
        self._fd = os.open(self._run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.address = f"/proc/self/fd/{self._fd}/containerd.sock"
        self._configure(setup)
        self._process = _STARTER.submit(self._start, setup.binary).result()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _configure(self, setup: Setup) -> None:
        def quoted(value: object) -> str:  # a basic string of TOML is one of JSON
            return json.dumps(str(value), ensure_ascii=False)

        lines = [
            "version = 2",
            f"root = {quoted(self._root)}",
            f"state = {quoted(self._run / 'state')}",
            f"disabled_plugins = {json.dumps(unused_plugins(setup.snapshotter))}",
            f"[grpc]\naddress = {quoted(self.address)}",
            f"[ttrpc]\naddress = {quoted(self.address + '.ttrpc')}",
            '[debug]\nlevel = "warn"',
        ]
        if setup.config:
            (self._run / "added.toml").write_text(setup.config, "utf-8")
            lines.insert(1, f"imports = [{quoted(f'/proc/self/fd/{self._fd}/added.toml')}]")
        if setup.proxy:
            lines.append(f"[proxy_plugins.{quoted(setup.snapshotter)}]")
            lines.append(f'type = "snapshot"\naddress = {quoted(setup.proxy)}')
        (self._run / "config.toml").write_text("\n".join(lines) + "\n", "utf-8")

    def _start(self, binary: str) -> subprocess.Popen[bytes]:
        words = [binary, "--config", f"/proc/self/fd/{self._fd}/config.toml"]
        with (self._run / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid()), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[self._fd],
                start_new_session=True,  # Ctrl-C is for the suite, which ends the daemon
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_LIMIT
        while not _listens(self.address):
            if self._process.poll() is not None:
                raise DriverRefused(f"containerd ended with {self._process.returncode}: {self._complaint()}")
            if time.monotonic() > deadline:
                raise DriverRefused(f"containerd does not listen after {_START_LIMIT} seconds: {self._complaint()}")
            time.sleep(0.002)

    def _complaint(self) -> str:
        return (self._run / "log").read_text("utf-8", "replace").strip()[-2000:]

    @property
    def running(self) -> bool:
        """Whether it was not stopped yet."""
        return self._fd >= 0

    def stop(self) -> None:
        """End the daemon, unmount what it or its store left, and remove what only a running one needs."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._fd)
        self._fd = -1
        detach_below(self._directory)
        shutil.rmtree(self._run)


def unused_plugins(snapshotter: str) -> list[str]:
    """Plugins that a daemon for one snapshotter does without."""
    return [name for name in _UNUSED if name != f"io.containerd.snapshotter.v1.{snapshotter}"]


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True
