"""A history that runs until its machine is reset, and what is known of it afterwards.

``python -m conformance.machines.churn DRIVER BACKING DIRECTORY SEED`` makes a filesystem in a file below
DIRECTORY/BACKING-SEED, a store on it, and does the steps of the seed's history; it says "begun N" and "ended N" of
each, so that whoever listens from outside of the machine knows how far it came. What was heard is put beside the
file, as ``heard``, when the machine is back; ``overlay-conformance run`` with OVERLAY_CONFORMANCE_RESET=DIRECTORY
then judges the stores that are left.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from conformance.drivers.protocol import OpenRequest
from conformance.drivers.registry import connect
from conformance.harness.contained import contained
from conformance.harness.host import RESET
from conformance.lab import namespace
from conformance.lab.backing import Backing, NoBacking, backing_named
from conformance.lab.devices import sync_filesystem
from conformance.lab.powercut import Disk
from conformance.machines.crashes import Ended, History, Sync, do, drawn_steps

_HEARD: Final = "heard"


@dataclass(frozen=True, slots=True)
class Left:
    """What a reset left of one history."""

    seed: int
    history: History
    ended: Ended
    disk: Disk

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """The directory of the store, on its filesystem."""
        with self.disk.mounted():
            yield self.disk.target / "store"


def left_behind(backing: str) -> list[Left]:
    """All that was left on filesystems of a kind, in the directory of the environment."""
    return [_left(heard) for heard in sorted(Path(os.environ[RESET]).glob(f"{backing}-*/{_HEARD}"))]


def _left(heard: Path) -> Left:
    backing, _, seed = heard.parent.name.rpartition("-")
    history = History()
    begun, ended = _numbers(heard.read_text())
    for _ in islice(drawn_steps(int(seed), history), begun + 1):
        pass
    synced = max((one for one in range(ended + 1) if isinstance(history.steps[one], Sync)), default=-1)
    disk = Disk(backing_named(backing), heard.parent, heard.parent / "disk-mounted")
    return Left(int(seed), history, Ended(synced, begun), disk)


def _numbers(heard: str) -> tuple[int, int]:
    """The last step that had begun, and the last that had ended; a line that was cut off counts for nothing."""
    lines = [line.split() for line in heard.split("\n")[:-1]]
    found = {
        word: [int(line[1]) for line in lines if len(line) == 2 and line[0] == word] for word in ("begun", "ended")
    }
    # A step whose beginning was not heard yet may have begun.
    return max(found["begun"], default=-1) + 1, max(found["ended"], default=-1)


def main() -> None:
    """Run a history without an end; exits with 69 where the kernel does not have the filesystem."""
    driver_name, backing, parent, seed = sys.argv[1:]
    directory = Path(parent) / f"{backing}-{seed}"
    directory.mkdir(parents=True)
    kind: Backing = backing_named(backing)
    namespace.enter_private_mounts()
    disk = Disk(kind, directory, directory / "disk-mounted")
    source = contained(connect(driver_name))
    history = History()
    with ExitStack() as stack:
        try:
            disk.format()
            stack.enter_context(disk.mounted())
        except NoBacking as error:
            if kind.fstype in Path("/proc/filesystems").read_text().split():
                raise
            print(error, file=sys.stderr)  # noqa: T201
            sys.exit(os.EX_UNAVAILABLE)
        # The file itself, and its name, are on a disk that is reset too.
        subprocess.run(["sync"], check=True)
        store = disk.target / "store"
        store.mkdir()
        driver = source.open(OpenRequest(store))
        for number, step in enumerate(drawn_steps(int(seed), history)):
            print(f"begun {number}", flush=True)  # noqa: T201 # the answer
            do(step, history, driver, directory, partial(sync_filesystem, disk.target))
            print(f"ended {number}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
