"""How many users each mount has, kept on disk so that it outlives this process.

A mount without a file has one use: the first one needs none, and a mount that a process before this one left
counts as one. Further uses are counted in one small file a layer. A count holds only as long as the mount
does: after a reboot, or an unmount from outside, it starts from nothing. The caller holds the layer's lock,
which also covers other processes.
"""

from __future__ import annotations

import os

from refdriver import gates, trees
from refdriver.linux import libc


class ReferenceCounts:
    """The counts of the layers of one home, in files of ``directory`` named by layer id."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def count(self, layer_id: str, target: str) -> int:
        """The uses of the overlay mounted on ``target``, 0 when none is mounted there."""
        if not is_overlay(target):
            return 0
        try:
            with open(self._path(layer_id), encoding="ascii", errors="replace") as file:
                text = file.read(20)
        except FileNotFoundError:
            return 1
        return int(text) if text.isascii() and text.isdigit() and int(text) else 1

    def store(self, layer_id: str, count: int) -> None:
        """Remember the count of a mount that is there. One use is what a mount without a file has."""
        if count < 2:
            self.forget(layer_id)
            return
        fd = os.open(self._path(layer_id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.truncate(fd, os.write(fd, str(count).encode("ascii")))
        finally:
            os.close(fd)

    def forget(self, layer_id: str) -> None:
        """Drop the count of a layer that is not mounted any more."""
        trees.remove_file(self._path(layer_id))

    def _path(self, layer_id: str) -> str:
        return f"{self._directory}/{layer_id}"


def is_overlay(path: str) -> bool:
    """Whether ``path`` shows an overlay; one that is not there shows none."""
    try:
        return libc.filesystem_magic(path) == gates.OVERLAY_MAGIC
    except FileNotFoundError:
        return False
