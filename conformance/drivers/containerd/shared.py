"""One containerd for all stores of a snapshotter outside of it.

A containerd collects the garbage of the whole snapshotter: it removes what its own database does not have. Two on
one snapshotter would remove each other's layers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conformance.drivers.containerd.daemon import Daemon


class SharedDaemon:
    """Runs while a store uses it, and is started again for the next one, on the same root."""

    def __init__(self, start: Callable[[], Daemon]) -> None:
        self._start = start
        self._daemon: Daemon | None = None
        self._users = 0

    def lease(self) -> Lease:
        """The daemon for one more store; raises DriverRefused or DriverFailed if it does not start."""
        if self._daemon is None or not self._daemon.running:
            self._daemon = self._start()
        self._users += 1
        return Lease(self._daemon, self._give_back)

    def stop(self) -> None:
        """End it, whoever uses it."""
        if self._daemon:
            self._daemon.stop()

    def _give_back(self) -> None:
        self._users -= 1
        if not self._users and self._daemon:
            self._daemon.stop()


class Lease:
    """A daemon as one store has it: that this store stops it ends it only for the last one."""

    def __init__(self, daemon: Daemon, give_back: Callable[[], None]) -> None:
        self._daemon = daemon
        self._give_back = give_back
        self._held = True

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._daemon.address

    @property
    def home(self) -> Path:
        """Where a snapshotter of its own would keep its layers."""
        return self._daemon.home

    def how_it_ended(self) -> str:
        """In words; "" while it runs."""
        return self._daemon.how_it_ended()

    def stack(self) -> str:
        """Where it stands, and the last that it printed."""
        return self._daemon.stack()

    def stop(self) -> None:
        """End the use; to do it again changes nothing."""
        if self._held:
            self._held = False
            self._give_back()
