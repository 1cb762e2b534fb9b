"""Machines of user-mode Linux: a kernel that is a process, quicker than one that QEMU translates.

Each runs in namespaces of its own: of processes, so that one signal ends all of it; of the network, so that its
tap device has no name on this host and goes with it; of mounts, with the C library of its kernel's suite as root.
Its console is a pipe, as it cannot wait on a file (epoll(7)).
What it writes is a copy of the image, in its directory below the cache.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from vm import notes, registers
from vm.machines import MARK, MARKED, Guest, MachineFailed, Place
from vm.notes import MadeUml

NOTE: Final = "uml.json"
DIRECTORY: Final = "machines"  # below the cache
_START_LIMIT: Final = 120  # seconds; a start takes 5 to 20
_END_LIMIT: Final = 30
_HERE: Final = "10.0.0.1/30"  # the same in each machine's network, as none sees another's
_THERE: Final = "10.0.0.2"
_START: Final = """\
set -e
ip tuntap add tap0 mode tap
ip address add {here} dev tap0
ip link set tap0 up
mount --rbind /dev {root}/dev
mount -t proc proc {root}/proc
mount -t tmpfs tmp {root}/tmp
mount --bind {machine} {root}/machine
chroot {root} {kernel} 2>&1 | cat
"""


def up(name: str, place: Place) -> Guest:
    """Start a machine on a new copy of the image; raises MachineFailed."""
    destroy(name, place)
    note = notes.read(place.cache / NOTE, MadeUml)
    _home(name, place).mkdir(parents=True)
    done = subprocess.run(
        ["cp", "--reflink=auto", "--sparse=always", note.machines[name]["image"], str(_home(name, place) / "disk")],
        capture_output=True,
        text=True,
        env=MARKED,
        check=False,
    )
    if done.returncode:
        raise MachineFailed(f"{name}: no copy of the image could be made: {done.stderr.strip()}")
    return _start(name, place)


def reset(guest: Guest, place: Place) -> Guest:
    """Take its power and start it again on the disk as it is; raises MachineFailed."""
    _kill(guest.name, place)
    return _start(guest.name, place)


def destroy(name: str, place: Place) -> None:
    """End a machine and remove what it was made of; raises MachineFailed."""
    _kill(name, place)
    shutil.rmtree(_home(name, place), ignore_errors=True)


def _home(name: str, place: Place) -> Path:
    return place.cache / DIRECTORY / name


def _start(name: str, place: Place) -> Guest:
    note = notes.read(place.cache / NOTE, MadeUml)
    home, files = _home(name, place), note.machines[name]
    script = _START.format(
        here=_HERE,
        root=shlex.quote(files["root"]),
        machine=shlex.quote(str(home)),
        kernel=shlex.join(_kernel(note.memory, files["initrd"], files["root"])),
    )
    words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    place.consoles.mkdir(parents=True, exist_ok=True)
    console = place.consoles / f"{name}.console"
    to = (os.POSIX_SPAWN_OPEN, 1, str(console), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    no_input = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    said_too = (os.POSIX_SPAWN_DUP2, 1, 2)
    pid = os.posix_spawnp(words[0], words, MARKED, file_actions=(no_input, to, said_too), setsid=True)
    (home / "pid").write_text(str(pid))
    into = ("nsenter", f"--net=/proc/{pid}/ns/net")
    guest = Guest(name, "root", _THERE, "22", note.key, into)
    _await(guest, pid, console)
    return guest


def _kernel(memory: int, initrd: str, root: str) -> list[str]:
    """The command line, as it is below ``root``."""
    words = ["/usr/bin/linux.uml", f"mem={memory}M", "ubd0=/machine/disk", "root=/dev/ubda"]
    words += [f"initrd=/{Path(initrd).relative_to(root)}", "con0=null,fd:1", "con=null", "ssl=null"]
    words += ["uml_dir=/tmp/", "vec0:transport=tap,ifname=tap0,depth=128,gro=0"]
    return [*words, "seccomp=auto", f"overlay-conformance.address={_THERE}/30"]


def _await(guest: Guest, pid: int, console: Path) -> None:
    """Until it lets us in; raises MachineFailed."""
    deadline = time.monotonic() + _START_LIMIT
    while True:
        began = time.monotonic()
        with suppress(MachineFailed):
            guest.run("true", limit=10)
            return
        if not _is_ours(pid):
            raise MachineFailed(f"{guest.name} ended while it started{_known_reason(console)}; see {console}")
        if time.monotonic() > deadline:
            raise MachineFailed(f"{guest.name} let nobody in within {_START_LIMIT} s; see {console}")
        time.sleep(max(0.0, 0.2 - (time.monotonic() - began)))


def _known_reason(console: Path) -> str:
    if "set fp regs failed" in console.read_text(errors="replace"):
        return f", {registers.REASON}"
    return ""


def _kill(name: str, place: Place) -> None:
    """End its processes, if there are any; raises MachineFailed."""
    try:
        outer = int((_home(name, place) / "pid").read_text())
        end = os.pidfd_open(outer)
    except (OSError, ValueError):
        return
    try:
        if _is_ours(outer):
            # With the first process of a namespace all of it ends, and only then the outer one does.
            for pid in _children(outer) or [outer]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            waiting = select.poll()
            waiting.register(end, select.POLLIN)
            if not waiting.poll(_END_LIMIT * 1000):
                raise MachineFailed(f"{name}: process {outer} did not end within {_END_LIMIT} s")
        with suppress(ChildProcessError):
            os.waitpid(outer, os.WNOHANG)
    finally:
        os.close(end)


def _is_ours(pid: int) -> bool:
    """Whether a process was started for a machine, and has not ended."""
    try:
        return MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
