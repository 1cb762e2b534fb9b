"""What the kernel knows of the process of a driver (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

from conformance.drivers.protocol import DriverFailed, ProcessState


def state_of(pid: int, *, sockets: bool = True) -> ProcessState:
    """The state of a process just now; raises DriverFailed when it is gone.

    Without ``sockets`` those do not count as descriptors: a server closes a connection after its client has.
    """
    place = Path(f"/proc/{pid}")
    try:
        root = os.stat(place / "root")
        mask = next(
            line.split()[1] for line in (place / "status").read_text().splitlines() if line.startswith("Umask:")
        )
        opened = [one for one in os.listdir(place / "fd") if sockets or not _is_socket(place / "fd" / one)]
        return ProcessState(os.readlink(place / "cwd"), (root.st_dev, root.st_ino), int(mask, 8), len(opened))
    except (OSError, StopIteration) as error:
        raise DriverFailed(f"the driver's process cannot be looked at: {error}") from error


def _is_socket(descriptor: Path) -> bool:
    try:
        return os.readlink(descriptor).startswith("socket:")
    except OSError:
        return True  # closed since
