"""Size limits of single layers, by xfs project quota.

A layer with a limit is a project of its own: everything below ``<home>/<id>`` inherits the project id, and
the filesystem counts and limits what a project uses. Ids begin after the home's own and are found again by
looking at the layers, so nothing has to be remembered over a restart or told to other processes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from refdriver import trees
from refdriver.errors import QuotaFailed
from refdriver.linux import projectquota
from refdriver.linux.projectquota import ProjectId

DEVICE_NODE: Final = "backingFsBlockDev"


class LimitSetter(Protocol):
    """What sets a project's limit in bytes on a block device; raises OSError."""

    def __call__(self, device: str, project: int, limit: int, /) -> None:
        """Set the limit."""


def next_project_id(base: int, in_use: Iterator[int]) -> int:
    """The first id to hand out: after the home's own, and after every one that a layer has."""
    return max([base, *in_use]) + 1


class ProjectQuota:
    """The quotas of one home. The caller holds the home's structure lock while ids are given out."""

    def __init__(self, home: str, set_limit: LimitSetter = projectquota.set_limit) -> None:
        """Make the device node and try a limit of nothing on a free id; raises QuotaFailed if that fails."""
        self._home = home
        self._set_limit = set_limit
        self._device = f"{home}/{DEVICE_NODE}"
        try:
            self._make_device_node()
            self._set_limit(self._device, self._next_id(), 0)
        except OSError as error:
            self._remove_device_node()
            raise QuotaFailed(
                f"project quota does not work on {home}: {error.strerror}; it needs xfs mounted with 'pquota' on a"
                " kernel with xfs quota, and root"
            ) from error

    def limit(self, directory: str, size: int) -> None:
        """Make an empty directory a project of its own, limited to ``size`` bytes; raises QuotaFailed."""
        project = ProjectId(self._next_id(), inherit=True)
        try:
            with _opened(directory) as fd:
                projectquota.set_project(fd, project)
            self._set_limit(self._device, project.number, size)
        except OSError as error:
            raise QuotaFailed(f"cannot limit {directory} to {size} bytes: {error.strerror}") from error

    def adopt(self, directory: str, layer_directory: str) -> None:
        """Let an empty directory count towards a layer's limit, so that it can be renamed into the layer."""
        project = _project_of(layer_directory)
        if project.inherit:
            with _opened(directory) as fd:
                projectquota.set_project(fd, project)

    def release(self, layer_directory: str) -> None:
        """Clear the limit of a layer that is about to go; its id becomes free again with it."""
        project = _project_of(layer_directory)
        if project.inherit and project.number > _project_of(self._home).number:
            self._set_limit(self._device, project.number, 0)

    def _next_id(self) -> int:
        return next_project_id(_project_of(self._home).number, self._ids_in_use())

    def _ids_in_use(self) -> Iterator[int]:
        with os.scandir(self._home) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield _project_of(entry.path).number

    def _make_device_node(self) -> None:
        # Made anew each time: the home may have moved to another device, or device numbers may have changed.
        trees.remove_file(self._device)
        os.mknod(self._device, 0o600 | stat.S_IFBLK, os.stat(self._home).st_dev)

    def _remove_device_node(self) -> None:
        trees.remove_file(self._device)


def _project_of(directory: str) -> ProjectId:
    with _opened(directory) as fd:
        return projectquota.get_project(fd)


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
