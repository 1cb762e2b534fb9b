"""Operations on a real tree. Nothing is ever followed through a symlink, and no device is opened."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, Final, assert_never

from conformance.operations import ops

_LINK: Final = re.compile(rb"\{link:([^}]+)\}")
_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def perform(root: str, operation: ops.Operation) -> None:
    """Do one operation below ``root``; raises OSError as the kernel does."""
    with _parent(root, operation.path) as (directory, name):
        match operation:
            case ops.CreateFile(_, content, mode):
                _create_file(directory, name, content, mode)
            case ops.MakeDirectory(_, mode):
                os.mkdir(name, 0o700, dir_fd=directory)
                os.chmod(name, mode, dir_fd=directory)
            case ops.MakeSymlink(_, target):
                os.symlink(target, name, dir_fd=directory)
            case ops.MakeFifo(_, mode):
                os.mkfifo(name, 0o600, dir_fd=directory)
                os.chmod(name, mode, dir_fd=directory)
            case ops.MakeDevice(_, kind, major, minor, mode):
                file_type = stat.S_IFCHR if kind == ops.CHARACTER else stat.S_IFBLK
                os.mknod(name, file_type | 0o600, os.makedev(major, minor), dir_fd=directory)
                os.chmod(name, mode, dir_fd=directory)
            case ops.MakeHardLink(_, existing):
                with _parent(root, existing) as (source, old):
                    os.link(old, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
            case ops.Rename(_, to):
                with _parent(root, to) as (into, new):
                    os.rename(name, new, src_dir_fd=directory, dst_dir_fd=into)
            case ops.Unlink(_):
                os.unlink(name, dir_fd=directory)
            case ops.RemoveDirectory(_):
                os.rmdir(name, dir_fd=directory)
            case ops.RemoveTree(_):
                _remove_tree(directory, name)
            case _:
                _change(directory, name, operation)


def with_links(operation: ops.Operation, home: str) -> ops.Operation:
    """The operation with ``{link:LAYER}`` in its texts replaced by what that layer's file ``link`` holds.

    The driver wrote it: raises OSError (EINVAL) for what is no name of a file, such as a path out of the home.
    """

    def found(match: re.Match[bytes]) -> bytes:
        path = os.path.join(os.fsencode(home), match[1], b"link")
        with open(path, "rb") as file:
            name = file.read()
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            raise OSError(errno.EINVAL, f"{name[:80]!r} is no name of a short link", os.fsdecode(path))
        return name

    texts = {one.name: getattr(operation, one.name) for one in fields(operation)}
    changed: Any = {name: _LINK.sub(found, value) for name, value in texts.items() if isinstance(value, bytes)}
    return replace(operation, **changed)


def _create_file(directory: int, name: bytes, content: bytes, mode: int) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.write(fd, content)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _change(directory: int, name: bytes, operation: ops.Changing) -> None:
    match operation:
        case ops.Chown(_, uid, gid):
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        case ops.SetTimes(_, mtime_ns):
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=directory, follow_symlinks=False)
        case ops.Chmod(_, mode):
            if stat.S_ISLNK(_lstat(directory, name).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            os.chmod(name, mode, dir_fd=directory)
        case ops.SetXattr(_, key, value):
            os.setxattr(f"/proc/self/fd/{directory}/".encode() + name, key, value, follow_symlinks=False)
        case ops.Truncate(_, size):
            with _opened(directory, name) as fd:
                os.ftruncate(fd, size)
        case ops.WriteAt(_, offset, data):
            with _opened(directory, name) as fd:
                os.pwrite(fd, data, offset)
        case _:
            assert_never(operation)


def _remove_tree(directory: int, name: bytes) -> None:
    if stat.S_ISDIR(_lstat(directory, name).st_mode):
        shutil.rmtree(name, dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)


def _lstat(directory: int, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


@contextmanager
def _parent(root: str, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The directory of a path, open, and the last part of the path; raises OSError, also for what leads upwards."""
    *above, name = path.split(b"/")
    fd = os.open(root, _STEP)
    try:
        for part in above:
            if part == b"..":
                raise OSError(errno.EXDEV, "'..' in the path of an operation", os.fsdecode(path))
            deeper = os.open(part, _STEP, dir_fd=fd)
            os.close(fd)
            fd = deeper
        yield fd, name
    finally:
        os.close(fd)


@contextmanager
def _opened(directory: int, name: bytes) -> Iterator[int]:
    mode = _lstat(directory, name).st_mode
    if not stat.S_ISREG(mode):
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, os.strerror(number))
    fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)
