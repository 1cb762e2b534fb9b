"""How many users each mount has, kept on disk so that it outlives this process.

A mount without a file has one use: the first one needs none, and a mount that a process before this one left
counts as one. Any other number, also none of a mount that is only borrowed, is in one small file a layer. A count
holds only as long as the mount does: after a reboot, or an unmount from outside, it starts from nothing. The
caller holds the layer's lock, which also covers other processes.

A file holds exactly 20 bytes: the number in 19 digits and a newline. It is written over in one write(2) of the same
length, so a process that is killed leaves the number before or the number after it. Anything else is no number:
it is what a first write leaves that was cut short, and the mount had one use before it.

The files lie in the home itself and are named by a hash of the id, for which the length of a name always suffices.
A directory of their own would be taken for a layer by containers-storage.
"""

from __future__ import annotations

import os
import re
from typing import Final

from refdriver import files, gates, trees
from refdriver.blake import blake2b
from refdriver.linux import libc

PREFIX: Final = ".refdriver.uses-"
_DIGITS: Final = 19
_NUMBER: Final = re.compile(rb"[0-9]{19}\n")


class ReferenceCounts:
    """The counts of the layers of one home, in files of ``directory``."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def count(self, layer_id: str, target: str) -> int:
        """The uses of the overlay mounted on ``target``, 0 when none is mounted there or it is only borrowed."""
        if not is_overlay(target):
            return 0
        text = files.read_whole(self._path(layer_id), _DIGITS + 1)
        return int(text) if text is not None and _NUMBER.fullmatch(text) else 1

    def store(self, layer_id: str, count: int) -> None:
        """Remember the count of a mount. One use is what a mount without a file has."""
        if count == 1:
            self.forget(layer_id)
            return
        fd = os.open(self._path(layer_id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            files.write_whole(fd, b"%019d\n" % count)
        finally:
            os.close(fd)

    def forget(self, layer_id: str) -> None:
        """Drop the count of a layer that is not mounted any more."""
        trees.remove_file(self._path(layer_id))

    def _path(self, layer_id: str) -> str:
        digest = blake2b(os.fsencode(layer_id), digest_size=16).hexdigest()
        return f"{self._directory}/{PREFIX}{digest}"


def is_overlay(path: str) -> bool:
    """Whether ``path`` shows an overlay; one that is not there shows none."""
    try:
        return libc.filesystem_magic(path) == gates.OVERLAY_MAGIC
    except (FileNotFoundError, NotADirectoryError):
        return False
