"""Locks of one home: between threads of this process, and between processes.

Across processes a lock is one byte of the lock file, taken with open-file-description locks (fcntl(2)):
the kernel drops them when their holder dies, so a kill leaves nothing to clear, and thousands of layers need
no lock file each. Which byte belongs to a name is a hash of it; two names that shared a byte would only wait
for each other. Such a lock belongs to the open file, not to a thread, so threads are kept apart by an
ordinary lock for each name.

Order, so that no two callers wait for each other: a layer first, then the structure (which layers there are).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux: type, whence, start, length, pid
_OFFSET_MASK: Final = 2**62 - 1
_STRUCTURE: Final = "structure"


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
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._pid = os.getpid()
        self._closer = weakref.finalize(self, os.close, self._fd)

    def close(self) -> None:
        """Give up the lock file; the locks must not be used after it."""
        self._closer()

    @contextmanager
    def layer(self, layer_id: str) -> Iterator[None]:
        """Hold one layer: its mount, its reference count and its content."""
        with self._hold("layer:" + layer_id):
            yield

    @contextmanager
    def structure(self) -> Iterator[None]:
        """Hold which layers there are and what they are built on."""
        with self._hold(_STRUCTURE):
            yield

    @contextmanager
    def staging_area(self, token: str) -> Iterator[None]:
        """Hold a staging area for as long as it is filled."""
        with self._hold("staging:" + token):
            yield

    def try_staging_area(self, token: str) -> bool:
        """Take a staging area that nobody holds any more; it is then held until :meth:`close`."""
        try:
            fcntl.fcntl(self._own_fd(), fcntl.F_OFD_SETLK, _request(fcntl.F_WRLCK, "staging:" + token))
        except BlockingIOError:
            return False
        return True

    def release_staging_area(self, token: str) -> None:
        """Undo :meth:`try_staging_area`."""
        fcntl.fcntl(self._own_fd(), fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, "staging:" + token))

    @contextmanager
    def _hold(self, name: str) -> Iterator[None]:
        with self._guard:
            entry = self._by_name.setdefault(name, _ThreadLock())
            entry.users += 1
        try:
            with entry.lock:
                fd = self._own_fd()
                fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _request(fcntl.F_WRLCK, name))
                try:
                    yield
                finally:
                    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, name))
        finally:
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
        return self._fd


def _request(kind: int, name: str) -> bytes:
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return _FLOCK.pack(kind, os.SEEK_SET, int.from_bytes(digest, "big") & _OFFSET_MASK, 1, 0)
