"""Staging areas: where layers are made before they appear, and where they go when they disappear.

A layer is built in an area and then renamed into its place in one step; a removed layer is renamed out in
one step and deleted there. What is renamed into place is on the disk before. So a kill or a power cut at any
moment leaves a whole layer or none, and what it leaves in an area is cleared away when the home is opened next.
An area is held by a lock while it is in use, and the kernel drops the lock of a process that dies: an area that can
be locked is left over.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from refdriver import trees
from refdriver.locks import HomeLocks

_LOG = logging.getLogger("refdriver")
_LAYERS: Final = "layers"  # of an area: the layers in it, by id


def staged_layer(area: str, layer_id: str) -> str:
    """Where in an area a layer is made, or goes to; its parent directory is made."""
    os.mkdir(f"{area}/{_LAYERS}", 0o700)
    return f"{area}/{_LAYERS}/{layer_id}"


class Staging:
    """The staging areas below ``directory``, for layers whose short links are in ``link_directory``."""

    def __init__(self, directory: str, link_directory: str, locks: HomeLocks) -> None:
        self._directory = directory
        self._link_directory = link_directory
        self._locks = locks

    @contextmanager
    def area(self) -> Iterator[str]:
        """An empty directory (0700), gone at the end with all that is in it still.

        What was done in it is done by then: an area that cannot be removed is logged, and the next open tries
        again. Raised, it would make a caller repeat what succeeded.
        """
        token = secrets.token_hex(8)
        path = os.path.join(self._directory, token)
        with self._locks.staging_area(token):
            os.mkdir(path, 0o700)
            try:
                yield path
            finally:
                self._try_to_discard(path)

    def sweep(self) -> None:
        """Clear away the areas of processes that were killed."""
        for token in os.listdir(self._directory):
            if self._locks.try_staging_area(token):
                try:
                    self._try_to_discard(os.path.join(self._directory, token))
                finally:
                    self._locks.release_staging_area(token)

    def _try_to_discard(self, area: str) -> None:
        try:
            self._discard(area)
        except OSError as error:
            _LOG.warning("cannot remove %s, which is no longer used; the next open tries again: %s", area, error)

    def _discard(self, area: str) -> None:
        # A layer in an area is in no home, so its short link leads nowhere and goes first.
        try:
            layers = os.listdir(f"{area}/{_LAYERS}")
        except FileNotFoundError:
            layers = []
        for layer_id in layers:
            self._remove_short_link(f"{area}/{_LAYERS}/{layer_id}", layer_id)
        trees.remove_tree(area)

    def _remove_short_link(self, directory: str, layer_id: str) -> None:
        try:
            with open(f"{directory}/link", encoding="ascii", errors="surrogateescape") as file:
                name = file.read()
            # The file may say anything; only a link that is this layer's own is taken away.
            if "/" not in name and os.readlink(f"{self._link_directory}/{name}") == f"../{layer_id}/diff":
                os.unlink(f"{self._link_directory}/{name}")
        except ValueError:
            return  # no name of a file
        except OSError as error:
            # No file, no such link, or no link at all: nothing of this layer is in l/. With any other error the
            # area stays as it is, so that the link can still be found.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ENAMETOOLONG, errno.EISDIR):
                raise
