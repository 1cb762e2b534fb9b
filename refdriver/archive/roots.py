"""Paths inside one directory that is the root of everything, however hostile the tree in it is."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from refdriver.archive.whiteouts import PREFIX
from refdriver.errors import BadArchive, BreakoutAttempt

_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_MAX: Final = 40  # as many as the kernel follows in one path (path_resolution(7))
_OPEN_MAX: Final = 64  # directories kept open; archives come in order, so a few are enough
_NAME_MAX: Final = 255
Replace = Callable[[int, bytes], bool] | None  # (parent directory, name): whether it made room


def clean_name(name: bytes, what: str) -> bytes:
    """A name without empty, ``.`` and ``..`` parts, relative to the root; empty for the root itself.

    Raises BreakoutAttempt when ``..`` would leave the root, BadArchive for a part that no filesystem takes.
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise BreakoutAttempt(f"the {what} {name!r} leads out of the layer")
            parts.pop()
        elif part not in (b"", b"."):
            # A whiteout is a name of up to 255 bytes with a prefix; it is no name on disk itself.
            if len(part.removeprefix(PREFIX)) > _NAME_MAX:
                raise BadArchive(f"the {what} {name!r} has a part of {len(part)} bytes; the most is {_NAME_MAX}")
            parts.append(part)
    return b"/".join(parts)


class _Symlink(Exception):
    """There is a symlink on a way that may not have one."""


class Root:
    """A directory to unpack into. Descriptors that it gives stay open until :meth:`forget` or a few more."""

    def __init__(self, path: str, owner: tuple[int, int]) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.path = os.readlink(f"/proc/self/fd/{self.fd}".encode())
        self._owner = owner
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        os.close(self.fd)

    def forget(self, but: int | None = None) -> None:
        """Close what is open, ``but`` one in use: a directory may be about to go."""
        for path, fd in list(self._open.items()):
            if fd != but:
                os.close(self._open.pop(path))

    def existing_directory(self, path: bytes) -> int:
        """The directory of a cleaned path; raises OSError when it is not there."""
        return self._lookup(path, make_missing=False, replace=None)

    def directory(self, path: bytes, replace: Replace) -> int:
        """The directory of a cleaned path, made 0755 with its parents where there is none.

        ``replace`` may make room for one where something else is. Raises BadArchive when something stays in
        the way.
        """
        return self._lookup(path, make_missing=True, replace=replace)

    @contextmanager
    def plain_directory(self, path: bytes, replace: Replace, *, make_missing: bool) -> Iterator[int | None]:
        """:meth:`directory`, but None instead of following a symlink on the way, or of making what is missing."""
        try:
            fd = self._walk(path, make_missing=make_missing, replace=replace, follow=False)
        except (_Symlink, FileNotFoundError, NotADirectoryError):
            yield None
            return
        try:
            yield fd
        finally:
            os.close(fd)

    def _lookup(self, path: bytes, make_missing: bool, replace: Replace) -> int:
        if not path:
            return self.fd
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            return known
        found = self._walk(path, make_missing, replace)
        if len(self._open) >= _OPEN_MAX:
            os.close(self._open.popitem(last=False)[1])
        self._open[path] = found
        return found

    def _walk(self, path: bytes, make_missing: bool, replace: Replace, follow: bool = True) -> int:
        way = [os.dup(self.fd)]
        links = 0
        todo = path.split(b"/")[::-1]
        try:
            while todo:
                part = todo.pop()
                if part in (b"", b"."):
                    continue
                if part == b"..":
                    if len(way) > 1:  # above the root is the root
                        os.close(way.pop())
                    continue
                target = self._step(way, part, path, make_missing, replace)
                if target is None:
                    continue
                if not follow:
                    raise _Symlink
                links += 1
                if links > _LINKS_MAX:
                    raise BadArchive(f"{path!r} goes through more than {_LINKS_MAX} symlinks")
                if target.startswith(b"/"):
                    while len(way) > 1:
                        os.close(way.pop())
                todo += target.split(b"/")[::-1]
            return way.pop()
        finally:
            for fd in way:
                os.close(fd)

    def _step(
        self,
        way: list[int],
        part: bytes,
        path: bytes,
        make_missing: bool,
        replace: Replace,
    ) -> bytes | None:
        """Go one directory further, or give the target of the symlink that is there instead."""
        here = way[-1]
        try:
            way.append(os.open(part, _STEP, dir_fd=here))
        except FileNotFoundError:
            if not make_missing:
                raise
            os.mkdir(part, 0o755, dir_fd=here)
            os.chmod(part, 0o755, dir_fd=here)  # whatever the umask is
            os.chown(part, *self._owner, dir_fd=here)
            way.append(os.open(part, _STEP, dir_fd=here))
        except NotADirectoryError:
            try:
                return os.readlink(part, dir_fd=here)
            except OSError:
                if not make_missing:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
                if replace is None or not replace(here, part):
                    raise BadArchive(f"{path!r} goes through {part!r}, which is no directory") from None
                way.append(os.open(part, _STEP, dir_fd=here))
        return None
