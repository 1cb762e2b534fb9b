"""The scratch directory of a run, which goes with the run, or with the next one if it was killed.

A run holds a lock on a file in its directory (flock(2)); a directory whose lock is free was left over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from conformance.lab import mountinfo, namespace

_PREFIX: Final = "overlay-conformance-run-"
_LOCK: Final = "lock"


@contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """An empty directory below ``parent`` (the system's temporary directory), after a sweep."""
    where = parent or Path(tempfile.gettempdir())
    sweep(where)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where)).resolve()
    # By its mount of now: in the mounts that a run moves to, the parent directory is read-only.
    above = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield path
    finally:
        _remove(path, above)
        os.close(fd)
        os.close(above)


def sweep(where: Path) -> list[Path]:
    """Remove the directories of runs that were killed; those that were removed."""
    swept = []
    for path in where.glob(_PREFIX + "*"):
        try:
            fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            continue  # being made or removed just now, or somebody else's
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            _remove(path, None)
            swept.append(path)
        finally:
            os.close(fd)
    return swept


def _remove(path: Path, above: int | None) -> None:
    if left := namespace.mounts_below(path):
        raise OSError(f"{left[0]} is still mounted; {path} is left, as it may show files of the host")
    # The lock goes last: as long as anything is left, the next run can find and sweep it.
    for entry in path.iterdir():
        if entry.name != _LOCK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (path / _LOCK).unlink()
    if any(one.point == str(path) for one in mountinfo.mounts()):  # on itself, by this process
        namespace.unmount(path)
    os.rmdir(path if above is None else path.name, dir_fd=above)
