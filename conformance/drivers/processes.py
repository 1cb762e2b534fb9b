"""What the kernel knows of the process of a driver (proc(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.drivers.protocol import DriverFailed, ProcessState

_FIELDS: Final = re.compile(r"^(Umask|Threads|SigBlk|VmRSS|VmHWM):\s*(\S+)", re.MULTILINE)
_KIB: Final = 1024  # bytes of the unit of VmRSS and VmHWM
_PEAK: Final = "5"  # what clear_refs takes to reset VmHWM


@dataclass(frozen=True, slots=True)
class Memory:
    """What is resident, in bytes, and the most that was, since the process began or the peak was forgotten."""

    resident: int
    peak: int


def state_of(pid: int, *, serves: bool = False) -> ProcessState:
    """The state of a process just now; raises DriverFailed when it is gone.

    Of a process that ``serves`` clients, sockets do not count as descriptors: a server closes a connection after
    its client has. Its threads and its signal mask are left out: a runtime starts a thread when it wants to, with
    all signals blocked.
    """
    place = Path(f"/proc/{pid}")
    try:
        root = os.stat(place / "root")
        status = dict(_FIELDS.findall((place / "status").read_text()))
        opened = [one for one in os.listdir(place / "fd") if not serves or not _is_socket(place / "fd" / one)]
        return ProcessState(
            os.readlink(place / "cwd"),
            (root.st_dev, root.st_ino),
            int(status["Umask"], 8),
            len(opened),
            0 if serves else int(status["Threads"]),
            0 if serves else int(status["SigBlk"], 16),
            pid=pid,
        )
    except (OSError, KeyError, ValueError) as error:
        raise DriverFailed(f"the driver's process cannot be looked at: {error}") from error


def memory_of(pid: int) -> Memory:
    """That of a process just now; raises DriverFailed when it is gone."""
    try:
        status = dict(_FIELDS.findall(Path(f"/proc/{pid}/status").read_text()))
        return Memory(int(status["VmRSS"]) * _KIB, int(status["VmHWM"]) * _KIB)
    except (OSError, KeyError, ValueError) as error:
        raise DriverFailed(f"the memory of the driver's process cannot be looked at: {error}") from error


def forget_peak(pid: int) -> bool:
    """Whether the peak of a process is now what is resident."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text(_PEAK)
    except OSError:  # a kernel without CONFIG_PROC_PAGE_MONITOR, or the process has ended, which its next call says
        return False
    return True


def _is_socket(descriptor: Path) -> bool:
    try:
        return os.readlink(descriptor).startswith("socket:")
    except OSError:
        return True  # closed since
