"""A containerd of our own: private in everything, and gone with the process that started it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.drivers.containerd.mounting import detach_below
from conformance.drivers.containerd.transfer import Unpacking
from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused
from conformance.lab.supervised import NotStarted, Supervised, how_it_ended
from conformance.lab.supervisor import Options

_STOP_LIMIT: Final = 10.0  # seconds
_REPORT_LIMIT: Final = 1.0  # seconds to hear that it ended, after its connection did
_POLL: Final = 0.002
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


@dataclass(frozen=True, slots=True)
class Setup:
    """What a daemon is started with: the command, the snapshotter, and the socket of one in another process.

    ``config`` is the text of a configuration of containerd (TOML) that is added to the adapter's own. Archives
    become layers by the service diff, or by ``unpacking``.
    """

    binary: str
    snapshotter: str
    proxy: str = ""
    config: str = ""
    unpacking: Unpacking | None = None


class Daemon:
    """Started on ``directory/root``, and running until ``stop``.

    All that it needs besides is below ``directory/run``. The socket is named through an open directory, as the
    path of a socket has at most 107 bytes (unix(7)) and that of a store as many as it likes.
    """

    def __init__(
        self, setup: Setup, directory: Path, limit: CallLimit | None = None, umask: int | None = None
    ) -> None:
        self._directory = directory.resolve()  # before it runs, and as the kernel names what is mounted there
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
        words = (setup.binary, "--config", f"/proc/self/fd/{self._fd}/config.toml")
        try:
            self._process = Supervised(Options(0, words, umask), pass_fds=[self._fd])
        except NotStarted as error:
            os.close(self._fd)
            raise DriverFailed(f"no process for containerd: {error}") from error
        try:
            self._wait_until_ready(limit or CallLimit())
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
        if setup.unpacking:
            lines.append(setup.unpacking.configuration(setup.snapshotter))
        (self._run / "config.toml").write_text("\n".join(lines) + "\n", "utf-8")

    def _wait_until_ready(self, limit: CallLimit) -> None:
        deadline = time.monotonic() + limit.left()
        while not _listens(self.address):
            status = self._process.wait(_POLL)
            if status is not None and status < 0:
                raise DriverFailed(f"containerd {how_it_ended(status)} at its start", self._process.output())
            if status is not None:
                raise DriverRefused(f"containerd {how_it_ended(status)}: {self._process.output()[-2000:]}")
            if time.monotonic() > deadline:
                raise limit.exceeded("on its socket", self.stack())

    def how_it_ended(self) -> str:
        """In words; "" while it runs."""
        status = self._process.wait(_REPORT_LIMIT)
        return "" if status is None else how_it_ended(status)

    def stack(self) -> str:
        """Where it stands, and the last that it printed."""
        return f"{self._process.command_line}\n{self._process.stack()}\n{self._process.output()}".strip()

    @property
    def running(self) -> bool:
        """Whether it was not stopped yet."""
        return self._fd >= 0

    def stop(self) -> None:
        """End the daemon, unmount what it or its store left, and remove what only a running one needs.

        To do it again changes nothing.
        """
        if not self.running:
            return
        self._process.end(_STOP_LIMIT)
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
