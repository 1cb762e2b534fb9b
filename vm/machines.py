"""Machines over Vagrant: the only module that knows python-vagrant.

Vagrant is asked in a process of its own, ``python -m vm.machines up NAME``: so a start that hangs can be ended.
Commands in a machine go over plain ssh, which is quicker than Vagrant's by seconds.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from conformance.spec.errors import HarnessError
from vm import hosts, notes

PREFIX: Final = "overlay-conformance-matrix-"
MARK: Final = f"OVERLAY_CONFORMANCE_PREFIX={PREFIX}"
# By this ``clean`` knows processes whose runner was killed.
MARKED: Final = {**os.environ, **dict([MARK.split("=")])}
UPLOADED: Final = "uploaded"  # in the cache, with the name of a box: libvirt has its image, whole
_START_LIMIT: Final = 600  # seconds; a start takes 15 to 50 without KVM, on a host that does nothing else
_END_LIMIT: Final = 180
_RUBY: Final = re.compile(r"^\s+from |\.rb:\d+:in |^<internal:|^:\d+:in ")
_SSH: Final = (
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=6"),
    *("-o", "LogLevel=ERROR"),
)


class MachineFailed(HarnessError):
    """A machine did not start, hung or went away; the text says what is known."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where Vagrant keeps its books of our machines, and where machines write to their serial line."""

    cache: Path
    consoles: Path
    provider: str = "libvirt"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of Vagrant for these machines, which are no others'."""
        own = {
            "OVERLAY_CONFORMANCE_CACHE": str(self.cache),
            "OVERLAY_CONFORMANCE_CONSOLE": str(self.consoles),
            "OVERLAY_CONFORMANCE_SYNC": "no",
            "VAGRANT_DOTFILE_PATH": str(self.cache / "vagrant"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
        }
        return {**MARKED, **own}


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine that runs, by its way in; ``into`` is what a command says first that enters its network."""

    name: str
    user: str
    host: str
    port: str
    key: str
    into: tuple[str, ...] = ()

    def start(self, command: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Begin a command as root; its output is a pipe, and what it complains of goes to ``log``."""
        return subprocess.Popen(
            [*self._words(), f"sudo sh -c {shlex.quote(command)}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=MARKED,
            start_new_session=True,  # a Ctrl-C is the runner's to hear, and not the cell's end
        )

    def run(self, command: str, limit: float = 120, given: bytes = b"") -> bytes:
        """What a command of root says; raises MachineFailed if it fails or takes longer than ``limit`` seconds.

        Its standard input is ``given``.
        """
        words = [*self._words(), f"sudo sh -c {shlex.quote(command)}"]
        try:
            done = subprocess.run(
                words,
                input=given,
                capture_output=True,
                env=MARKED,
                timeout=limit,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise MachineFailed(f"{self.name} did not answer within {limit:.0f} s: {command[:80]}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise MachineFailed(f"{self.name}: {command[:80]} ended with {done.returncode}: {said}")
        return done.stdout

    def _words(self) -> list[str]:
        return [*self.into, "ssh", *_SSH, "-i", self.key, "-p", self.port, f"{self.user}@{self.host}"]


class Machines(Protocol):
    """What makes machines: this module by Vagrant, :mod:`vm.uml` as processes."""

    def up(self, name: str, place: Place) -> Guest:
        """Start a machine; raises MachineFailed."""

    def destroy(self, name: str, place: Place) -> None:
        """End a machine and remove what it was made of; raises MachineFailed."""

    def reset(self, guest: Guest, place: Place) -> Guest:
        """Take a machine's power and start it again on its disk as it is; raises MachineFailed."""


def up(name: str, place: Place) -> Guest:
    """Start a machine anew, also if a runner that was killed has left one; raises MachineFailed."""
    if f"{PREFIX}{name}" in hosts.machines(PREFIX):
        destroy(name, place)
    return Guest(name, **json.loads(_ask(["up", name, place.provider], place, _START_LIMIT)))


def destroy(name: str, place: Place) -> None:
    """End a machine and remove what it was made of, if need be without Vagrant; raises MachineFailed."""
    said = ""
    try:
        _ask(["destroy", name], place, _END_LIMIT)
    except MachineFailed as failed:
        said = str(failed)
    full = f"{PREFIX}{name}"
    if full in hosts.machines(PREFIX):
        hosts.delete_machine(full)
    for volume in hosts.volumes(f"{full}."):
        hosts.delete_volume(volume)
    if full in hosts.machines(PREFIX):
        raise MachineFailed(f"{name} could not be destroyed: {said or 'libvirt still has it'}")


def reset(guest: Guest, place: Place) -> Guest:
    """Reset a machine as by its button: nothing is written out, and it starts again; raises MachineFailed."""
    if place.provider != "libvirt":
        raise MachineFailed(f"{guest.name}: a machine of {place.provider} has no reset")
    words = ["virsh", "-q", "-c", "qemu:///system", "reset", f"{PREFIX}{guest.name}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineFailed(f"{guest.name} could not be reset: {done.stderr.strip()}")
    return guest


def _ask(words: list[str], place: Place, limit: float) -> str:
    process = subprocess.Popen(
        [sys.executable, "-m", "vm.machines", *words],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, complaint = process.communicate(timeout=limit)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise MachineFailed(f"vagrant {' '.join(words)} took longer than {limit:.0f} s") from error
        raise
    if process.returncode:
        raise MachineFailed(f"vagrant {' '.join(words)}: {_told(complaint)}")
    return said.splitlines()[-1] if said else ""


def _told(complaint: str) -> str:
    """What Vagrant says is wrong, without the places in its source."""
    lines = (line for line in complaint.splitlines() if line.strip() and not _RUBY.search(line))
    return "\n".join(lines)[-1500:]


def vagrant_root() -> Path:
    """The directory of the Vagrantfile: that of the checkout, or of the installed package."""
    here = Path(__file__).parent
    return here.parent if (here.parent / "Vagrantfile").exists() else here


def main() -> None:
    """One question to Vagrant."""
    vagrant: Any = importlib.import_module("vagrant")  # has no types, and only this process needs it

    verb, name, *rest = sys.argv[1:]
    # What Vagrant says of its work goes to the error output, and is read only if it fails.
    machines = vagrant.Vagrant(vagrant_root(), env=dict(os.environ), out_cm=_errors, err_cm=_errors)
    try:
        _answer(machines, verb, name, *rest)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the reason was said already, by Vagrant itself


def _answer(machines: Any, verb: str, name: str, provider: str = "") -> None:
    if verb == "up":
        with _alone_if_first(name, Path(os.environ["OVERLAY_CONFORMANCE_CACHE"])):
            machines.up(vm_name=name, provider=provider)
        found = machines.conf(vm_name=name)
        said = {
            "user": found["User"],
            "host": found["HostName"],
            "port": found["Port"],
            "key": found["IdentityFile"],
        }
        print(json.dumps({key: value.strip('"') for key, value in said.items()}))  # noqa: T201 # the answer
    else:
        machines.destroy(vm_name=name)


@contextmanager
def _alone_if_first(name: str, cache: Path) -> Iterator[None]:
    """Vagrant uploads a box with its first machine; another meanwhile would start from a half of it."""
    machines = notes.read(cache / "built.json", notes.Made).machines
    box = machines[name]["box"]
    uploaded = cache / f"{UPLOADED}-{box}"
    with (cache / "uploading").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = hosts.volumes(f"{box}_")
        if there and uploaded.exists():
            fcntl.flock(lock, fcntl.LOCK_UN)
            yield
            return
        if not hosts.machines("overlay-conformance-"):
            # What is left of an upload that was killed, and of boxes that no machine has any more.
            whole = {one["box"] for one in machines.values() if (cache / f"{UPLOADED}-{one['box']}").exists()}
            for volume in hosts.volumes("overlay-conformance-"):
                if volume.rpartition("_vagrant_box_image")[0] not in whole:
                    hosts.delete_volume(volume)
        yield
        uploaded.touch()


@contextmanager
def _errors() -> Iterator[IO[str]]:
    yield sys.stderr


if __name__ == "__main__":
    main()
