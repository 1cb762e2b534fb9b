"""Locks of one home: between threads of this process, and between processes.

Across processes a lock is one byte of the lock file, taken with open-file-description locks (fcntl(2)):
the kernel drops them when their holder dies, so a kill leaves nothing to clear, and thousands of layers need
no lock file each. Which byte belongs to a name is a hash of it; two names that shared a byte would only wait
for each other. Such a lock belongs to the open file, not to a thread, so threads are kept apart by an
ordinary lock for each name.

Two locks are shared. Whoever mounts in the home shares the home's own mount; opening and cleanup, which make and
undo it, hold it alone. Whoever reads a layer through a mount that is not counted (a diff) borrows the layer: the
kernel drops that with the process too, so a mount that was borrowed by a killed process is known to be unused.

Order, so that no two callers wait for each other: a layer first, then a staging area, then the structure (which
layers there are) or the home's mount. Opening holds the home's mount first, and then waits for no layer.
"""

from __future__ import annotations

import fcntl
import functools
import os
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from refdriver.blake import blake2b

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux: type, whence, start, length, pid
_OFFSET_MASK: Final = 2**62 - 1
_STRUCTURE: Final = "structure"
_HOME_MOUNT: Final = "home mount"


@dataclass(slots=True)
class _ThreadLock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class HomeLocks:
    """The locks of one home, over one lock file, for one driver instance."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._by_name: dict[str, _ThreadLock] = {}
        self._home_mount = threading.Condition()
        self._home_mount_users = 0
        self._borrowed: dict[str, int] = {}
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._pid = os.getpid()
        self._closer = weakref.finalize(self, os.close, self._fd)

    def close(self) -> None:
        """Give up the lock file; the locks must not be used after it."""
        self._closer()

    def layer(self, layer_id: str) -> AbstractContextManager[None]:
        """Hold one layer: its mount, its reference count and its content."""
        return _Hold(self, "layer:" + layer_id)

    def structure(self) -> AbstractContextManager[None]:
        """Hold which layers there are and what they are built on."""
        return _Hold(self, _STRUCTURE)

    def staging_area(self, token: str) -> AbstractContextManager[None]:
        """Hold a staging area for as long as it is filled."""
        return _Hold(self, "staging:" + token)

    def try_staging_area(self, token: str) -> bool:
        """Take a staging area that nobody holds any more; it is then held until :meth:`close`."""
        with self._guard:
            if "staging:" + token in self._by_name:  # to itself this process is no other holder
                return False
        try:
            fcntl.fcntl(self._own_fd(), fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK, "staging:" + token))
        except BlockingIOError:
            return False
        return True

    def release_staging_area(self, token: str) -> None:
        """Undo :meth:`try_staging_area`."""
        _release(self._own_fd(), "staging:" + token)

    @contextmanager
    def mounting(self) -> Iterator[None]:
        """Share the home's own mount: it stays as it is while something is mounted in the home."""
        fd = self._own_fd()
        with self._home_mount:
            if not self._home_mount_users:
                _wait_for(fd, fcntl.F_RDLCK, _HOME_MOUNT)
            self._home_mount_users += 1
        try:
            yield
        finally:
            with self._home_mount:
                self._home_mount_users -= 1
                if not self._home_mount_users:
                    _release(self._own_fd(), _HOME_MOUNT)
                    self._home_mount.notify_all()

    @contextmanager
    def home_mount(self) -> Iterator[None]:
        """Hold the home's own mount alone: nobody opens, cleans up or mounts a layer meanwhile."""
        fd = self._own_fd()
        with self._home_mount:
            while self._home_mount_users:
                self._home_mount.wait()
            _wait_for(fd, fcntl.F_WRLCK, _HOME_MOUNT)
            try:
                yield
            finally:
                _release(fd, _HOME_MOUNT)

    def borrow(self, layer_id: str) -> None:
        """Begin to read a layer through a mount that is not counted. The caller holds the layer."""
        fd = self._own_fd()
        with self._guard:
            if not self._borrowed.get(layer_id):
                # Nobody takes this byte for writing, so this waits for nobody.
                _wait_for(fd, fcntl.F_RDLCK, "borrowed:" + layer_id)
            self._borrowed[layer_id] = self._borrowed.get(layer_id, 0) + 1

    def give_back(self, layer_id: str) -> None:
        """Undo one :meth:`borrow`. The caller holds the layer."""
        fd = self._own_fd()
        with self._guard:
            left = self._borrowed.pop(layer_id, 1) - 1
            if left:
                self._borrowed[layer_id] = left
            else:
                _release(fd, "borrowed:" + layer_id)

    def is_borrowed(self, layer_id: str) -> bool:
        """Whether a thread or a process that lives has borrowed the layer. The caller holds the layer."""
        fd = self._own_fd()
        with self._guard:
            if self._borrowed.get(layer_id):
                return True
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK, "borrowed:" + layer_id))
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def take(self, name: str) -> None:
        """Wait until this thread and this process have a name; pair it with :meth:`leave`."""
        with self._guard:
            entry = self._by_name.setdefault(name, _ThreadLock())
            entry.users += 1
        try:
            entry.lock.acquire()
        except BaseException:  # a signal's handler ends the process
            self._forget_thread(name, entry)
            raise
        try:
            _wait_for(self._own_fd(), fcntl.F_WRLCK, name)
        except BaseException:
            entry.lock.release()
            self._forget_thread(name, entry)
            raise

    def leave(self, name: str) -> None:
        """Undo :meth:`take`."""
        entry = self._by_name[name]
        try:
            _release(self._own_fd(), name)
        finally:
            entry.lock.release()
            self._forget_thread(name, entry)

    def _forget_thread(self, name: str, entry: _ThreadLock) -> None:
        with self._guard:
            entry.users -= 1
            if not entry.users:
                del self._by_name[name]

    def _own_fd(self) -> int:
        # After a fork, parent and child share the open file and so its locks: the child needs its own.
        if self._pid != os.getpid():
            with self._guard:
                if self._pid != os.getpid():
                    self._closer()
                    self._open()
                    # What the parent holds and has borrowed is the parent's.
                    self._home_mount_users = 0
                    self._borrowed.clear()
        return self._fd


def _wait_for(fd: int, kind: int, name: str) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _request(kind, name))


def _release(fd: int, name: str) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, name))


def _request(kind: int, name: str) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, _offset(name), 1, 0)


@functools.lru_cache(maxsize=64)  # of the few names in use: each is taken and released
def _offset(name: str) -> int:
    digest = blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "big") & _OFFSET_MASK


class _Hold:
    """Takes a lock for a block; a generator for it would take three times as long."""

    __slots__ = ("_locks", "_name")

    def __init__(self, locks: HomeLocks, name: str) -> None:
        self._locks = locks
        self._name = name

    def __enter__(self) -> None:
        self._locks.take(self._name)

    def __exit__(self, *_: object) -> None:
        self._locks.leave(self._name)
