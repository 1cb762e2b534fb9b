"""A machine that is reset in the middle of a history of layers, before its cell is judged.

The history runs in the machine and says of each step that it begins and ends (conformance.machines.churn); the
machine is reset at a drawn moment, as by its button. What was heard until then is given to it when it is back, and
the cell's own run looks at the store that was left.
"""

from __future__ import annotations

import random
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from vm.machines import Guest, MachineFailed
from vm.plan import Cell

REQUIREMENT: Final = "OVL-CRASH-RESET"
_PLACE: Final = "/var/tmp/overlay-conformance-reset"
_VARIABLE: Final = "OVERLAY_CONFORMANCE_RESET"
_CHURN: Final = "PYTHONPATH=/opt/overlay-conformance exec python3 -m conformance.machines.churn"
_FIRST: Final = b"ended 5\n"  # two layers are safe, and something more was done
_START_LIMIT: Final = 300  # seconds until that was heard, and until the machine is back
_NO_BACKING: Final = 69  # churn's answer where the kernel does not have the filesystem
_LONGEST: Final = 15.0  # seconds after it


def reset_in_the_middle(cell: Cell, guest: Guest, reset: Callable[[], Guest], heard: Path) -> tuple[Guest, str]:
    """The machine as it is back, and what goes before the command of the cell, so that it judges what was left.

    ``heard`` is where what the history said is kept. A machine whose kernel does not have the filesystem is not
    reset. Raises MachineFailed.
    """
    chance = random.SystemRandom()
    name = f"{cell.backing.name}-{chance.randrange(2**32)}"
    guest.run(f"rm -rf {_PLACE} && mkdir -p {_PLACE} && sync")
    _, _, seed = name.rpartition("-")
    before = _boot(guest)
    words = [cell.driver.connection, cell.backing.name, _PLACE, seed]
    with heard.open("wb") as output:
        process = guest.start(f"{_CHURN} {shlex.join(words)} 1>&2", output)
        try:
            _until(lambda: _FIRST in heard.read_bytes() or process.poll() is not None, f"{cell.name}: no history")
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, _LONGEST))
            if process.poll() == _NO_BACKING:
                return guest, ""  # the cell's own run says so
            if process.poll() is not None:
                said = heard.read_text().strip().rpartition("\n")[2]
                raise MachineFailed(
                    f"{cell.name}: the history ended before the reset: {said}; all of it is in {heard}"
                )
            guest = reset()
        finally:
            process.kill()
            process.communicate()
    _until(lambda: _boot(guest) not in ("", before), f"{cell.name}: its machine did not come back after the reset")
    text = "".join(line for line in heard.read_text().splitlines(keepends=True) if line.endswith("\n"))
    guest.run(f"printf %s {shlex.quote(text)} >{_PLACE}/{name}/heard")
    return guest, f"{_VARIABLE}={_PLACE} "


def _boot(guest: Guest) -> str:
    """The id of this life of the machine, "" if it does not answer."""
    try:
        return guest.run("cat /proc/sys/kernel/random/boot_id", limit=20).decode().strip()
    except MachineFailed:
        return ""


def _until(holds: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + _START_LIMIT
    pause = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            raise MachineFailed(f"{complaint} within {_START_LIMIT} s")
        pause.wait(0.2)
