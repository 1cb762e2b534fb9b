"""The scratch directory of a run, which goes with the run, or with the next one if it was killed.

A run holds a lock on a file in its directory (flock(2)); a directory whose lock is free was left over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from conformance.lab import namespace

_PREFIX: Final = "overlay-conformance-run-"
_LOCK: Final = "lock"


@contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """An empty directory below ``parent`` (the system's temporary directory), after a sweep."""
    where = parent or Path(tempfile.gettempdir())
    sweep(where)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where)).resolve()
    fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield path
    finally:
        try:
            _remove(path)
        except OSError as error:
            # It says nothing about the driver, and the next run tries again.
            sys.stderr.write(f"overlay-conformance: {path} could not be removed: {error.strerror}\n")
        finally:
            os.close(fd)


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
            with suppress(OSError):  # what cannot be removed stays for the next run, and is no reason against this
                _remove(path)
                swept.append(path)
        finally:
            os.close(fd)
    return swept


def _remove(path: Path) -> None:
    # Of a run that had no mounts of its own; through a mount, others' files would be removed.
    namespace.unmount_below(path)
    # The lock goes last: as long as anything is left, the next run can find and sweep it.
    for entry in path.iterdir():
        if entry.name != _LOCK:
            _remove_tree(entry)
    (path / _LOCK).unlink()
    path.rmdir()


def _remove_tree(path: Path) -> None:
    """Remove a tree of any depth; raises OSError. shutil.rmtree recurses, with a descriptor for each level."""
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except (OSError, RecursionError):
        done = subprocess.run(["rm", "-rf", "--", str(path)], capture_output=True, check=False)
        if done.returncode:
            raise OSError(
                errno.ENOTEMPTY, done.stderr.decode(errors="backslashreplace").strip(), str(path)
            ) from None
