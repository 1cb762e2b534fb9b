"""Loop devices and devices of the device mapper, which the kernel takes back when the run ends, however it ends.

A loop device is set to be freed with its last user (loop(4), LO_FLAGS_AUTOCLEAR), a mapped device to be removed
with it (dmsetup(8), remove --deferred). Between its making and that, a kill leaves a mapped device behind; the
process that made it holds an abstract socket (unix(7)) of the same name, and the next run removes what has none. A
process id would not do: each run has a PID namespace of its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

from conformance.lab import libc
from conformance.spec.errors import HarnessError

_PREFIX: Final = "overlay-conformance-"
_TARGETS: Final = ("flakey", "log-writes")
_SECTOR: Final = 512
_LOOP_CTL_GET_FREE: Final = 0x4C82  # linux/loop.h
_LOOP_CONFIGURE: Final = 0x4C0A  # since Linux 5.8
_LO_FLAGS_READ_ONLY: Final = 1
_LO_FLAGS_AUTOCLEAR: Final = 4
_LO_FLAGS_DIRECT_IO: Final = 16
# struct loop_config: the file, the size of a block, struct loop_info64 with its flags at 52, and 64 bytes reserved
_LOOP_CONFIG: Final = struct.Struct("II52xI176x64x")
_TRIES: Final = 50  # another process may take the free device that we were told of


class DeviceFailed(HarnessError):
    """The kernel did not make or change a device; the text is what dmsetup said."""


def why_not() -> str:
    """Why this host has no power cuts to offer; "" if it has."""
    if os.geteuid() != 0:
        return "the device mapper needs real root; run as root (sudo)"
    if shutil.which("dmsetup") is None:
        return "power cuts need dmsetup; on Debian: apt-get install dmsetup"
    has_mapper = _has_mapper()
    missing = [name for name in _TARGETS if not (has_mapper and _has_target(name))]
    if missing:
        return (
            f"power cuts need the device mapper's {' and '.join(missing)}, which this kernel does not have"
            " (CONFIG_DM_FLAKEY, CONFIG_DM_LOG_WRITES); kernels of 'overlay-conformance matrix' do"
        )
    return ""


def _has_mapper() -> bool:
    """Without its node dmsetup would make it, and then wait for nobody."""
    if not os.path.exists("/dev/mapper/control") and shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "dm_mod"], check=False, capture_output=True)
    return os.path.exists("/dev/mapper/control")


def _has_target(name: str) -> bool:
    if name not in _targets() and shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "dm_" + name.replace("-", "_")], check=False, capture_output=True)
    return name in _targets()


def _targets() -> set[str]:
    done = subprocess.run(["dmsetup", "targets"], check=False, capture_output=True, text=True)
    return {line.split()[0] for line in done.stdout.splitlines() if line.strip()}


def sync_filesystem(directory: Path) -> None:
    """Write all of a filesystem to its disk (syncfs(2)); raises OSError, EIO if something could not be."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc.syncfs(fd)
    finally:
        os.close(fd)


@contextmanager
def loop_device(file: Path, read_only: bool = False, direct_io: bool = False) -> Iterator[str]:
    """A loop device over a file, ``/dev/loopN``; it is freed when it is left and nobody else has it open.

    Raises OSError, and DeviceFailed when no device stays free.
    """
    flags = _LO_FLAGS_AUTOCLEAR
    flags |= (_LO_FLAGS_READ_ONLY if read_only else 0) | (_LO_FLAGS_DIRECT_IO if direct_io else 0)
    with file.open("rb" if read_only else "r+b") as backing:
        fd, path = _configured(backing.fileno(), flags)
    try:
        yield path
    finally:
        os.close(fd)


def _configured(backing: int, flags: int) -> tuple[int, str]:
    config = _LOOP_CONFIG.pack(backing, 0, flags)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return fd, path
    finally:
        os.close(control)
    raise DeviceFailed("no loop device stayed free long enough to be taken")


class Mapped:
    """A device of the device mapper with one target over all of ``size`` bytes; ``target`` as dmsetup takes it."""

    def __init__(self, size: int, target: str) -> None:
        sweep()
        self._sectors = size // _SECTOR
        self._name = f"{_PREFIX}{os.urandom(8).hex()}"
        held = _hold(self._name)
        assert held, "the name is of chance"
        self._held = held
        _dmsetup("create", self._name, "--noudevsync", "--table", self._table(target))
        try:
            minor = _dmsetup("info", "-c", "--noheadings", "-o", "minor", self._name).strip()
            self.path = f"/dev/dm-{minor}"
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            _dmsetup("remove", "--deferred", "--noudevsync", self._name)
        except BaseException:
            with suppress(DeviceFailed):
                _dmsetup("remove", "--noudevsync", self._name)
            self._held.close()
            raise

    def _table(self, target: str) -> str:
        return f"0 {self._sectors} {target}"

    def become(self, target: str) -> None:
        """Take another target from now on; what is under way is done before, and no filesystem is frozen."""
        _dmsetup("load", self._name, "--table", self._table(target))
        _dmsetup("suspend", "--nolockfs", "--noudevsync", self._name)
        _dmsetup("resume", "--noudevsync", self._name)

    def tell(self, *words: str) -> None:
        """A message to the target."""
        _dmsetup("message", self._name, "0", *words)

    def remove(self) -> None:
        """Remove it now, with all that its target has to finish; raises DeviceFailed while it is in use."""
        _dmsetup("message", self._name, "0", "@cancel_deferred_remove")  # which would be done later than we go on
        os.close(self._fd)
        _dmsetup("remove", "--noudevsync", self._name)
        self._held.close()


def sweep() -> list[str]:
    """Remove mapped devices of runs that were killed; their names."""
    swept = []
    for line in _dmsetup("ls").splitlines():
        name = line.split()[0]
        if not name.startswith(_PREFIX):
            continue
        with _hold(name) or nullcontext() as held:
            if held is None:
                continue  # its run is under way
            with suppress(DeviceFailed):  # in use still: it goes with its last user
                _dmsetup("remove", "--noudevsync", name)
                swept.append(name)
    return swept


def _hold(name: str) -> socket.socket | None:
    """The abstract socket of this name; None if a living process has it."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0{name}")
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return held


def _dmsetup(*words: str) -> str:
    done = subprocess.run(["dmsetup", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise DeviceFailed(f"dmsetup {' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
