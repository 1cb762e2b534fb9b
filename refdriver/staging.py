"""Staging areas: where layers are made before they appear, and where they go when they disappear.

A layer is built in an area and then renamed into its place in one step; a removed layer is renamed out in
one step and deleted there. What is renamed into place is on the disk before. So a kill or a power cut at any
moment leaves a whole layer or none, and what it leaves in an area is cleared away when the home is opened next.
An area is held by a lock while it is in use, and the kernel drops the lock of a process that dies: an area that can
be locked is left over.

The directory of the areas is there only while there is an area: see :mod:`refdriver.home`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from refdriver import files, trees
from refdriver.layers import remove_short_link
from refdriver.locks import HomeLocks

_LAYERS: Final = "layers"  # of an area: the layers in it, by id
_AREA: Final = "refdriver-"  # how names of areas begin; containers-storage has its own in the same directory
_LOG: Final = logging.getLogger("refdriver")


def staged_layer(area: str, layer_id: str) -> str:
    """Where in an area a layer is made, or goes to; its parent directory is made."""
    os.mkdir(f"{area}/{_LAYERS}", 0o700)
    return f"{area}/{_LAYERS}/{layer_id}"


class Staging:
    """The staging areas below ``directory``, for layers whose short links are in ``link_directory``."""

    def __init__(
        self, directory: str, link_directory: str, locks: HomeLocks, root: tuple[int, int], prefix: str = _AREA
    ) -> None:
        self._directory = directory
        self._link_directory = link_directory
        self._locks = locks
        self._root = root
        self._prefix = prefix

    @contextmanager
    def area(self) -> Iterator[str]:
        """An empty directory (0700), gone at the end with all that is in it still.

        What was done inside is done whether or not the area can be cleared away: a failure of that is logged, and
        the next opening of the home tries again.
        """
        token = os.urandom(8).hex()
        path = os.path.join(self._directory, self._prefix + token)
        with self._locks.staging_area(token):
            self.make_directory(path)
            try:
                yield path
            finally:
                self._clear(path)

    def make_directory(self, path: str) -> None:
        """Make a directory below the staging directory, with its parents, while others remove empty ones."""
        while True:
            try:
                trees.make_directory(path, 0o700, self._root)
            except FileNotFoundError:
                if path == self._directory and not files.is_directory(os.path.dirname(path)):
                    raise
                if path != self._directory:
                    with suppress(FileExistsError):
                        self.make_directory(os.path.dirname(path))
            else:
                return

    def sweep(self) -> None:
        """Clear away the areas of processes that were killed."""
        for name in files.names_in(self._directory):
            token = name.removeprefix(self._prefix)
            if name.startswith(self._prefix) and self._locks.try_staging_area(token):
                try:
                    self._clear(os.path.join(self._directory, name))
                finally:
                    self._locks.release_staging_area(token)
        files.remove_empty(self._directory)

    def _clear(self, area: str) -> None:
        try:
            self._discard(area)
            files.remove_empty(self._directory)
        except OSError as error:
            _LOG.warning("cannot clear away %s, the next opening of the home tries again: %s", area, error)

    def _discard(self, area: str) -> None:
        # A layer in an area is in no home, so its short link dangles, if it has one, and goes first.
        layers = f"{area}/{_LAYERS}"
        found = files.names_in(layers)
        for layer_id in found:
            remove_short_link(self._link_directory, f"{layers}/{layer_id}", layer_id)
        if not found:  # as after each create
            with suppress(OSError):
                os.rmdir(layers)
                os.rmdir(area)
                return
        trees.remove_tree(area)
