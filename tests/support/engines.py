"""Docker Engine in namespaces of its own: no mount, process, address or file of it is seen on the host.

A shell is process 1 of the namespaces. It ends when its standard input is closed, so everything in them ends with
the test's process, however that ends. Only control groups are left, without processes; :func:`namespaces` removes
them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATH = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}"  # another docker may be first
PROGRAMS = {"dockerd": "docker.io", "docker": "docker.io", "containerd": "containerd", "runc": "runc"}
SECONDS = 60.0
CONTROL_GROUPS = Path("/sys/fs/cgroup")
# An engine that stops ends its containerd, and may notice that as an error before it has stopped to listen.
AT_ITS_END = r"transport is closing.* module=libcontainerd"
# What an engine writes outside of its own directories is in memory: its plugins, network namespaces and sockets
# below /run, its key below /etc. It loads no profile into AppArmor where it sees none.
PREPARE = """\
set -e
mount -t tmpfs none /run
mount -t tmpfs none /etc/docker 2>/dev/null || {
    mkdir -p "$1/etc/upper" "$1/etc/work"
    mount -t overlay none -o "lowerdir=/etc,upperdir=$1/etc/upper,workdir=$1/etc/work" /etc
}
[ ! -d /sys/kernel/security ] || mount -t tmpfs none /sys/kernel/security
mkdir -p /run/docker/plugins
echo ready
read -r _ || :
"""


def lacking() -> str:
    """Why there can be no engine here; "" if nothing is in the way."""
    for program, package in PROGRAMS.items():
        if not shutil.which(program, path=PATH):
            return f"needs {program}; apt-get install {package}"
    said = subprocess.run(["dockerd", "--version"], env={"PATH": PATH}, capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)", said.stdout)
    assert found, said.stdout
    if int(found[1]) >= 28:  # docker/cli, docs/deprecated.md#graphdriver-plugins-experimental
        return f"Docker Engine {found[1]} has no graph-driver plugins; it takes 27 or earlier"
    if not os.access(CONTROL_GROUPS, os.W_OK):
        return "control groups cannot be written to, and runc needs them"
    return ""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Where engines run. ``pid`` is a process of them, as the host numbers it."""

    pid: int
    scratch: Path

    def command(self, *words: str | Path) -> list[str]:
        spaces = f"/proc/{self.pid}/ns"
        names = {"mount": "mnt", "net": "net", "ipc": "ipc", "uts": "uts", "pid": "pid_for_children"}
        return ["nsenter", *(f"--{one}={spaces}/{file}" for one, file in names.items()), *map(str, words)]

    def path(self, path: str | Path) -> Path:
        """A file that is mounted in the namespaces, for a process outside of them."""
        return Path(f"/proc/{self.pid}/root{path}")

    def mounted(self) -> list[str]:
        """Mount points below the scratch directory."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.split()[4].startswith(f"{self.scratch}/")]

    def start(self, ready: str, *words: str | Path) -> Daemon:
        """A daemon that has said that it is ready."""
        # nsenter passes no signal on, so the process says its number in the namespace.
        command = self.command("sh", "-c", 'echo $$ && exec "$@" 2>&1', "sh", *words)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self.environment, text=True
        )
        assert process.stdout
        daemon = Daemon(self, process, process.stdout.readline().strip(), ready)
        daemon.reader.start()
        assert daemon.is_ready.wait(SECONDS), daemon.lines
        assert process.poll() is None, daemon.lines
        return daemon

    @property
    def environment(self) -> Mapping[str, str]:
        # The classic builder makes its layers by the graph driver; HOME has the client's configuration.
        return {**os.environ, "PATH": PATH, "HOME": str(self.scratch / "client"), "DOCKER_BUILDKIT": "0"}


class Daemon:
    """A process in the namespaces, and the lines that it wrote."""

    def __init__(self, inside: Namespaces, process: subprocess.Popen[str], number: str, ready: str) -> None:
        self.lines: list[str] = []
        self.is_ready = threading.Event()
        self.reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._inside = inside
        self._process = process
        self._number = number

    def stop(self) -> None:
        """SIGTERM, as a service manager does; fails for a status other than 0."""
        subprocess.run(self._inside.command("kill", "-TERM", self._number), check=True)
        assert self._process.wait(SECONDS) == 0, self.lines
        self.reader.join(SECONDS)
        assert not self.reader.is_alive(), "a process that it started has its output open"

    def errors(self) -> list[str]:
        """Those of an engine, and of the containerd that it starts."""
        found = [line for line in self.lines if re.search(r"level=(error|fatal|panic)|^panic: ", line)]
        return [line for line in found if not re.search(AT_ITS_END, line)]

    def _read(self, ready: str) -> None:
        assert self._process.stdout
        with self._process.stdout as output:
            for line in output:
                self.lines.append(line.rstrip())
                if ready in line:
                    self.is_ready.set()
        self.is_ready.set()  # it will never say it


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker Engine with directories of its own, called by ``docker``."""

    namespaces: Namespaces
    name: str
    driver: str

    @property
    def data(self) -> Path:
        return self.namespaces.scratch / self.name / "data"

    def start(self) -> Daemon:
        place = self.namespaces.scratch / self.name
        return self.namespaces.start(
            "API listen on",
            *("dockerd", "--experimental", "--storage-driver", self.driver, "--host", self._host),
            *("--data-root", self.data, "--exec-root", place / "exec", "--pidfile", place / "pid"),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"),
            *("--cgroup-parent", f"/{self.namespaces.scratch.name}"),
        )

    def run(self, *words: str | Path, stdin: bytes = b"") -> str:
        """The output of a command of ``docker``; fails with its errors."""
        command = self.namespaces.command("docker", "--host", self._host, *words)
        environment = self.namespaces.environment
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, env=environment)
        assert done.returncode == 0, (words, done.stderr.decode())
        return done.stdout.decode()

    @property
    def _host(self) -> str:
        return f"unix://{self.namespaces.scratch}/{self.name}.sock"


@contextmanager
def namespaces(scratch: Path) -> Iterator[Namespaces]:
    """Namespaces of mounts, processes, network, IPC and host name; nothing of them is left."""
    spaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc", "--uts"]
    (scratch / "client").mkdir()
    process = subprocess.Popen(
        ["unshare", *spaces, "bash", "-c", PREPARE, "prepare", scratch],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        assert process.stdout.readline() == b"ready\n"
        yield Namespaces(process.pid, scratch)
    finally:
        process.stdin.close()
        process.wait(SECONDS)
        process.stdout.close()
        for group in control_groups(scratch.name):
            group.rmdir()


def control_groups(name: str) -> list[Path]:
    """Those below a group of this name in every hierarchy, the deepest first."""
    tops = [path for pattern in (name, f"*/{name}") for path in CONTROL_GROUPS.glob(pattern)]
    return [Path(directory) for top in tops for directory, _, _ in os.walk(top, topdown=False)]
