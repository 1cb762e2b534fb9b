"""Paths inside one directory that is the root of everything, however hostile the tree in it is."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from refdriver.archive.whiteouts import META_PREFIX, PREFIX
from refdriver.descent import SEARCH, Descent
from refdriver.errors import BadArchive, BreakoutAttempt

_LINKS_MAX: Final = 40  # as many as the kernel follows in one path (path_resolution(7))
_OPEN_MAX: Final = 24  # directories kept open; archives come in order, so a few are enough
_NAME_MAX: Final = 255
_PATH_MAX: Final = 4095  # bytes of a path in a system call
Replace = Callable[[int, bytes], bool] | None  # (parent directory, name): whether it made room


def clean_name(name: bytes, what: str) -> bytes:
    """A name without empty, ``.`` and ``..`` parts, relative to the root; empty for the root itself.

    Raises BreakoutAttempt when ``..`` would leave the root, BadArchive for a part or a path that no system call
    takes, and for a path through a whiteout: what is deleted holds nothing.
    """
    if len(name) <= _NAME_MAX:
        short = name.removeprefix(b"./").removesuffix(b"/")
        if short and short[0] not in b"./" and b"/." not in short and b"//" not in name:
            return short  # what most entries have: no part is empty, "." or "..", too long or a whiteout
    if len(name) > 2 * _PATH_MAX:  # so that no time is spent on a megabyte of "d/"
        raise BadArchive(f"the {what} {name[:80]!r}... has {len(name)} bytes; the most is {_PATH_MAX}")
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
    if any(part.startswith(PREFIX) and not part.startswith(META_PREFIX) for part in parts[:-1]):
        raise BadArchive(f"the {what} {name!r} is below a whiteout, which is no directory; the archive is damaged")
    return b"/".join(parts)


def by_descriptor(fd: int) -> str:
    """A path to an open directory, for calls that refuse descriptors without read access."""
    return f"/proc/self/fd/{fd}"


def lstat_or_none(directory: int, name: bytes) -> os.stat_result | None:
    """lstat(2) of a name in an open directory; None if there is no such name."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


class _Symlink(Exception):
    """There is a symlink on a way that may not have one."""


class Root:
    """A directory to unpack into. Descriptors that it gives stay open until :meth:`forget` or a few more."""

    def __init__(self, path: str, owner: tuple[int, int]) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self.path = os.readlink(os.fsencode(by_descriptor(self.fd)))
        self._owner = owner
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._last: tuple[bytes, int] = (b"", self.fd)  # of those the one that was asked for last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        os.close(self.fd)

    def forget(self, but: int | None = None) -> None:
        """Close what is open, ``but`` one in use: a directory may be about to go."""
        self._last = b"", self.fd
        for path, fd in list(self._open.items()):
            if fd != but:
                os.close(self._open.pop(path))

    def real_path(self, directory: int, name: bytes) -> bytes:
        """``/DIRECTORY/NAME`` of an open directory below the root, whatever symlinks led there."""
        return os.readlink(os.fsencode(by_descriptor(directory)))[len(self.path) :] + b"/" + name

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
        if path == self._last[0]:
            return self._last[1]
        if not path:
            return self.fd
        known = self._open.get(path)
        if known is not None:
            self._open.move_to_end(path)
            self._last = path, known
            return known
        found = self._walk(path, make_missing, replace)
        if len(self._open) >= _OPEN_MAX:
            os.close(self._open.popitem(last=False)[1])
        self._open[path] = found
        self._last = path, found
        return found

    def _walk(self, path: bytes, make_missing: bool, replace: Replace, follow: bool = True) -> int:
        way = Descent(os.dup(self.fd), SEARCH)
        lengths = [len(self.path)]  # of the path of each directory on the way
        links = 0
        todo = path.split(b"/")[::-1]
        try:
            while todo:
                part = todo.pop()
                if part in (b"", b"."):
                    continue
                if part == b"..":
                    if way.depth:  # above the root is the root
                        way.up()
                        lengths.pop()
                    continue
                lengths.append(lengths[-1] + 1 + len(part))
                if lengths[-1] > _PATH_MAX:
                    raise BadArchive(f"{path[:80]!r}... is too deep: with the home it has over {_PATH_MAX} bytes")
                target = self._step(way, part, path, make_missing, replace)
                if target is None:
                    continue
                lengths.pop()
                if not follow:
                    raise _Symlink
                links += 1
                if links > _LINKS_MAX:
                    raise BadArchive(f"{path!r} goes through more than {_LINKS_MAX} symlinks")
                if target.startswith(b"/"):
                    way.close()
                    way = Descent(os.dup(self.fd), SEARCH)
                    del lengths[1:]
                todo += target.split(b"/")[::-1]
            return way.take()
        finally:
            way.close()

    def _step(
        self,
        way: Descent,
        part: bytes,
        path: bytes,
        make_missing: bool,
        replace: Replace,
    ) -> bytes | None:
        """Go one directory further, or give the target of the symlink that is there instead."""
        here = way.here
        try:
            way.down(part)
        except FileNotFoundError:
            if not make_missing:
                raise
            os.mkdir(part, 0o755, dir_fd=here)
            os.chmod(part, 0o755, dir_fd=here)  # whatever the umask is
            os.chown(part, *self._owner, dir_fd=here)
            way.down(part)
        except NotADirectoryError:
            try:
                return os.readlink(part, dir_fd=here)
            except OSError as error:
                if error.errno != errno.EINVAL:  # readlink(2) of what is no symlink
                    raise
                if not make_missing:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
                if replace is None or not replace(here, part):
                    raise BadArchive(f"{path!r} goes through {part!r}, which is no directory") from None
                way.down(part)
        return None
