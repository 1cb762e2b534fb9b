"""Whole directory trees: making, cloning and removing them, without following anything that lies in them."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from refdriver.descent import READ, Descent
from refdriver.linux import libc, mountinfo

_BUSY_TRIES: Final = 5
_BUSY_PAUSE: Final = 0.1  # seconds; another process's lazy unmount needs a moment to finish


def make_directory(path: str, mode: int, owner: tuple[int, int]) -> None:
    """mkdir(2) with exactly this mode, whatever the umask, and this owner."""
    os.mkdir(path, 0o700)
    os.chown(path, *owner)
    os.chmod(path, mode)


def make_directories(path: str, mode: int, owner: tuple[int, int]) -> None:
    """:func:`make_directory` of a path and its missing parents; what is there already stays as it is."""
    if os.path.isdir(path):
        return
    make_directories(os.path.dirname(path), mode, owner)
    try:
        make_directory(path, mode, owner)
    except FileExistsError:  # another process was faster
        if not os.path.isdir(path):
            raise


def copy_directory_metadata(source: str, target: str) -> None:
    """Give a directory the owner, mode, extended attributes and times of another."""
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def clone_tree(source: str, target: str) -> None:
    """Make ``target`` a tree with the same directories, and hard links to all that is no directory.

    Unpacking never writes to a file that is there already, it replaces it, so the two trees can then go
    separate ways. The two must be on one filesystem.
    """
    made = []
    pending = [(source, target)]
    while pending:
        old, new = pending.pop()
        os.mkdir(new, 0o700)
        made.append((old, new))
        with os.scandir(old) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, f"{new}/{entry.name}"))
                else:
                    os.link(entry.path, f"{new}/{entry.name}", follow_symlinks=False)
    for old, new in reversed(made):  # children first: making an entry changes its directory's times
        copy_directory_metadata(old, new)


@contextmanager
def written_out(directory: str) -> Iterator[None]:
    """All that is done inside is on the disk at the end; raises OSError, EIO if something could not be written.

    The whole filesystem of ``directory`` is written, in one go: an fsync(2) of each file costs a commit of the
    journal each. It is open from the beginning, so that no error is missed that came before the end.
    """
    with _opened(directory) as fd:
        yield
        libc.syncfs(fd)


def sync_directory(path: str) -> None:
    """The names in a directory are on the disk (fsync(2))."""
    with _opened(path) as fd:
        os.fsync(fd)


def replace_directory(new: str, old: str, before: Callable[[], None]) -> None:
    """Put the directory ``new`` in the place of ``old`` in one step; ``before`` runs just ahead of it.

    What ``old`` held is then at ``new``, or gone if it was empty (rename(2), RENAME_EXCHANGE).
    """
    before()
    try:
        os.rename(new, old)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        libc.renameat2(new, old, libc.RENAME_EXCHANGE)


def remove_file(path: str) -> None:
    """unlink(2); a file that is not there is no error."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def unmount_below(directory: str) -> bool:
    """Detach every mount below a directory, in this mount namespace; whether there was any."""
    mounts = mountinfo.below(mountinfo.read_mounts(), directory)
    for mount in mounts:
        libc.umount(mount.target, libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
    return bool(mounts)


def remove_tree(path: str) -> None:
    """Unmount what is mounted below a directory and remove it all; one that is not there is no error.

    What is mounted is asked only where an entry is busy. If nothing is mounted there (a mount in another namespace
    that is just going away), it is tried again, five times in all.
    """
    attempt = 1
    while True:
        try:
            return remove_entry(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if not unmount_below(path):
                if attempt == _BUSY_TRIES:
                    raise
                attempt += 1
                time.sleep(_BUSY_PAUSE)


def remove_entry(name: str | bytes, directory: int | None = None) -> None:
    """Remove whatever lies under a name, a tree of any depth included; nothing there is no error.

    A directory on which something is mounted is never entered: rmdir(2) of it is EBUSY, and only a directory of
    which rmdir(2) says that something is in it is.
    """
    if _is_directory_to_empty(directory, name):
        _remove_content(os.open(name, READ, dir_fd=directory))
        os.rmdir(name, dir_fd=directory)


def _remove_content(directory: int) -> None:
    with Descent(directory) as way:
        levels: list[tuple[str, Iterator[str]]] = [("", iter(os.listdir(way.here)))]
        while levels:
            here, names = levels[-1]
            name = next(names, None)
            if name is not None:
                if _is_directory_to_empty(way.here, name):
                    way.down(name)
                    levels.append((name, iter(os.listdir(way.here))))
                continue
            levels.pop()
            if levels:
                way.up()
                with suppress(FileNotFoundError):  # somebody else removes it too
                    os.rmdir(here, dir_fd=way.here)


def _is_directory_to_empty(directory: int | None, name: str | bytes) -> bool:
    """Remove an entry, unless it is a directory in which something is; whether it is one."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=directory)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # POSIX lets a filesystem answer either
                raise
            return True
    except FileNotFoundError:
        return False
    return False


@contextmanager
def _opened(path: str | bytes) -> Iterator[int]:
    fd = os.open(path, READ)
    try:
        yield fd
    finally:
        os.close(fd)
