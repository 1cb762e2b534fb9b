"""The kernel's log: the name of each test goes in, and what the kernel says about it comes out (kmsg(4))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_DEVICE: Final = "/dev/kmsg"
_TAINTED: Final = Path("/proc/sys/kernel/tainted")
_WARNING: Final = 4  # syslog(2): warnings and what is worse
# What concerns a run: overlay, the filesystems below, and whatever the kernel finds wrong with itself.
_ABOUT_US: Final = re.compile(
    r"overlay|\bovl|ext4|xfs|btrfs|f2fs|tmpfs|loop\d|WARNING:|BUG|Oops|Call Trace|hung task", re.I
)


def why_not() -> str:
    """Why the log cannot be used here; "" if it can."""
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return f"the kernel log cannot be read: {_DEVICE}: {error.strerror}; run as root (sudo)"
    return ""


class KernelLog:
    """The log from now on. Raises OSError when there is none to be had."""

    def __init__(self) -> None:
        self._fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._tainted = tainted()

    def write(self, text: str) -> None:
        """One line, marked as ours."""
        os.write(self._fd, b"<6>overlay-conformance: " + os.fsencode(text)[:800])

    def news(self) -> list[str]:
        """Warnings since the last call that concern filesystems or the kernel's health, each once."""
        texts = (text for priority, text in self._records() if priority & 7 <= _WARNING)
        return list(dict.fromkeys(text for text in texts if _ABOUT_US.search(text)))

    def of_the_kernel(self) -> list[str]:
        """All that the kernel itself wrote since the last call; anybody can write to its log, but not as it."""
        return [text for priority, text in self._records() if priority >> 3 == 0]

    def _records(self) -> Iterator[tuple[int, str]]:
        while True:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                return
            except BrokenPipeError:  # the log went round and overtook us
                continue
            facts, _, rest = record.partition(b";")
            yield int(facts.split(b",")[0]), rest.split(b"\n")[0].decode("utf-8", "replace")

    def newly_tainted(self) -> int:
        """The bits of taint that came since the log was opened (kernel document tainted-kernels)."""
        return tainted() & ~self._tainted

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def tainted() -> int:
    """The kernel's taint, a mask of bits; 0 where it cannot be read."""
    try:
        return int(_TAINTED.read_text())
    except OSError:
        return 0
