"""What a run that was killed left behind, found by its names and its books, and removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vm import hosts, uml
from vm.machines import MARK, PREFIX, UPLOADED

_OURS: Final = "overlay-conformance-"


def clean(cache: Path, *, everything: bool = False) -> list[str]:
    """Remove leftovers; what was removed. With ``everything``, also what was built, and boxes in Vagrant."""
    found = [*_processes(), *_domains(), *_volumes(cache)]
    books = cache / "vagrant"
    if books.exists():
        shutil.rmtree(books)
        found.append(f"Vagrant's books in {books}")
    machines = cache / uml.DIRECTORY
    if machines.exists():
        shutil.rmtree(machines)
        found.append(f"disks in {machines}")
    if everything:
        found += [*_boxes(), *_built(cache)]
    if hosts.remove_network():
        found.append(f"network {hosts.NETWORK}")
    if hosts.stop_libvirt():
        found.append("the daemon of libvirt that we had started")
    return found


def _processes() -> Iterator[str]:
    """Processes that were started for machines, and lost who started them."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
        except OSError:
            continue
        mine = int(process.name) == os.getpid()
        if not mine and MARK.encode() in environment.split(b"\0"):
            try:
                os.kill(int(process.name), signal.SIGKILL)
            except ProcessLookupError:
                continue
            yield f"process {process.name}: {' '.join(command)[:80]}"


def _domains() -> Iterator[str]:
    for name in hosts.machines(PREFIX):
        hosts.delete_machine(name)
        yield f"machine {name}"


def _volumes(cache: Path) -> Iterator[str]:
    """Disks of machines, and what Vagrant uploaded of boxes; those of a machine that was started by hand stay."""
    in_use = bool(hosts.machines(_OURS))
    for name in hosts.volumes(PREFIX if in_use else _OURS):
        hosts.delete_volume(name)
        yield f"volume {name}"
    if not in_use:
        for mark in cache.glob(f"{UPLOADED}*"):
            mark.unlink()


def _boxes() -> Iterator[str]:
    if shutil.which("vagrant") is None:
        return
    done = subprocess.run(["vagrant", "box", "list"], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        name = line.split()[0] if line.split() else ""
        if name.startswith("overlay-conformance-"):
            subprocess.run(["vagrant", "box", "remove", "--force", name], capture_output=True, check=False)
            yield f"box {name}"


def _built(cache: Path) -> Iterator[str]:
    if cache.is_dir():
        shutil.rmtree(cache)
        yield f"what was built in {cache}"
