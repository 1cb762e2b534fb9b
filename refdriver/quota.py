"""Size limits of single layers, by xfs project quota.

A layer with a limit is a project of its own: everything below ``<home>/<id>`` inherits the project id, and
the filesystem counts and limits what a project uses. Ids begin after the home's own and are found again by
looking at the layers, so nothing has to be remembered over a restart or told to other processes.

Project ids are of the whole filesystem, and other homes on it, or other programs, take theirs from the same
numbers. So an id is taken only if the filesystem has noted nothing of it, and is claimed by doing: a directory
is put into the project, and if the project then holds more than that one directory, somebody else took it at
the same moment, saw at least as much, and both go on to other ids.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from refdriver import trees
from refdriver.errors import QuotaFailed
from refdriver.linux import libc, projectquota
from refdriver.linux.projectquota import ProjectId, Record

DEVICE_NODE: Final = "backingFsBlockDev"
_NEXT: Final = 16  # ids that are tried one after the other
_ANYWHERE: Final = 100  # ids that are tried after these, wherever they are
_MAX_ID: Final = 2**31 - 1  # more fits in 32 bits, but not in every tool's


class Records(Protocol):
    """What a filesystem notes of its projects, reached by a block device; both raise OSError."""

    def set_limit(self, device: str, project: int, limit: int, /) -> None:
        """Set a project's limit in bytes, 0 for none."""

    def get_record(self, device: str, project: int, /) -> Record:
        """What is noted of a project."""


def next_project_id(base: int, in_use: Iterator[int]) -> int:
    """The first id that may be free: after the home's own, and after every one that a layer has."""
    return max([base, *in_use]) + 1


def _candidates(first: int) -> Iterator[int]:
    """Ids to try: the next ones, and then any, as another home may have very many in a row (or have had them)."""
    yield from range(first, first + _NEXT)
    for _ in range(_ANYWHERE):
        yield first + int.from_bytes(os.urandom(8), "big") % max(1, _MAX_ID - first)


class ProjectQuota:
    """The quotas of one home. The caller holds the home's structure lock while ids are given out."""

    def __init__(self, home: str, area: str, records: Records = projectquota) -> None:
        """Make the device node, and try it on a directory in ``area``; raises QuotaFailed if that fails."""
        self._home = home
        self._records = records
        self._device = f"{home}/{DEVICE_NODE}"
        try:
            self._make_device_node()
            self._try(f"{area}/project")
        except OSError as error:
            self._remove_device_node()
            raise QuotaFailed(
                f"project quota does not work on {home}: {error.strerror}; it needs xfs mounted with 'pquota' on a"
                " kernel with xfs quota, and root"
            ) from error

    def limit(self, directory: str, size: int) -> None:
        """Make an empty directory a project of its own, limited to ``size`` bytes; raises QuotaFailed.

        With a size of 0 it gets what it would have if it were made in the home itself.
        """
        try:
            if not size:
                home = _project_of(self._home)
                return _put_into(directory, home) if home.inherit else None
            self._records.set_limit(self._device, self._claim(directory), size)
        except OSError as error:
            raise QuotaFailed(f"cannot limit {directory} to {size} bytes: {error.strerror}") from error

    def move_in(self, directory: str, target: str) -> None:
        """Move a directory into the home, and let it keep its project, if it has a limit.

        Where the home passes its own project on to what is made in it, nothing of another is moved there (xfs
        answers EXDEV). Then the directory is of the home's project for a moment; what is in it is not.
        """
        project, home = _project_of(directory), _project_of(self._home)
        if home.inherit and project != home:
            _put_into(directory, home)
        libc.renameat2(directory, target, libc.RENAME_NOREPLACE)
        if home.inherit and project != home:
            _put_into(target, project)

    def adopt(self, directory: str, layer_directory: str) -> None:
        """Let an empty directory be of a layer's project, so that what is made in it can move into the layer."""
        _put_into(directory, _project_of(layer_directory))

    def let_in(self, directory: str) -> None:
        """Let layers of any project be moved into an empty directory."""
        _put_into(directory, ProjectId(_project_of(directory).number, inherit=False))

    def release(self, layer_directory: str) -> None:
        """Clear the limit of a layer that is about to go; its id becomes free when nothing is left of it."""
        project = _project_of(layer_directory)
        if project.inherit and project.number > _project_of(self._home).number:
            self._records.set_limit(self._device, project.number, 0)

    def _try(self, directory: str) -> None:
        """Claim an id for a directory, set a limit of nothing, and give the id back at once."""
        os.mkdir(directory, 0o700)
        before = _project_of(directory)
        try:
            self._records.set_limit(self._device, self._claim(directory), 0)
        finally:
            # An inode that is removed counts for a while yet, so it leaves the project first.
            _put_into(directory, before)
            os.rmdir(directory)

    def _claim(self, directory: str) -> int:
        """The id of a project that has nothing but this empty directory; raises OSError."""
        first = next_project_id(_project_of(self._home).number, self._ids_in_use())
        for number in _candidates(first):
            if self._records.get_record(self._device, number) == Record():
                _put_into(directory, ProjectId(number, inherit=True))
                if self._records.get_record(self._device, number).inodes == 1:
                    return number
        raise OSError(errno.EAGAIN, "others took each project id that was free; try again")

    def _ids_in_use(self) -> Iterator[int]:
        with os.scandir(self._home) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    # The staging directory is removed whenever it is empty; the layers stay while this runs.
                    with suppress(FileNotFoundError):
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


def _put_into(directory: str, project: ProjectId) -> None:
    with _opened(directory) as fd:
        projectquota.set_project(fd, project)


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
