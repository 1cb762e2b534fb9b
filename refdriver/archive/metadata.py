"""Owners and extended attributes of what an archive brings: set as the archive has them, or refused by name."""

from __future__ import annotations

import errno
import os
from typing import Final

from refdriver.archive.tarformat import Member
from refdriver.errors import BadArchive, IncompatibleFilesystem, NeedsRoot
from refdriver.idmap import IdMaps

_NOT_GIVEN_AWAY: Final = (errno.EPERM, errno.EINVAL, errno.EOVERFLOW)  # chown(2)
_NOT_TAKEN: Final = (
    errno.EINVAL,
    errno.ERANGE,
    errno.E2BIG,
)  # setxattr(2), of name and value
_NO_ROOM: Final = (errno.EOPNOTSUPP, errno.ENOSPC)


def owner(ids: IdMaps, member: Member) -> tuple[int, int]:
    """The uid and gid on the host of an entry's owner; raises BadArchive when the id maps do not have them."""
    uid, gid = ids.uid_to_host(member.uid), ids.gid_to_host(member.gid)
    if uid is None or gid is None:
        raise BadArchive(f"{member.name!r} belongs to {member.uid}:{member.gid}, which the id maps do not map")
    return uid, gid


class Owners:
    """The owners of the entries of one archive, on the host. Most entries have that of the entry before."""

    def __init__(self, ids: IdMaps) -> None:
        self.root = ids.root
        self._ids = ids
        self._in_archive = (-1, -1)
        self._on_host = (0, 0)

    def of(self, member: Member) -> tuple[int, int]:
        """:func:`owner` of an entry; raises BadArchive."""
        if (member.uid, member.gid) != self._in_archive:
            self._on_host = owner(self._ids, member)
            self._in_archive = member.uid, member.gid
        return self._on_host


def chown(target: int | bytes | str, owner: tuple[int, int], member: Member, directory: int | None) -> None:
    """Give a descriptor, a path or a name in ``directory`` (not followed) to the owner of an entry.

    Raises NeedsRoot when the kernel refuses it to this process.
    """
    uid, gid = owner
    try:
        if directory is None:
            os.chown(target, uid, gid)
        else:
            os.chown(target, uid, gid, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NOT_GIVEN_AWAY:
            raise
        raise NeedsRoot(
            f"{member.name!r} belongs to {uid}:{gid}, and giving it away needs real root: {error.strerror}"
        ) from error


def set_xattr(target: int | str, name: str, value: bytes, owner: bytes) -> None:
    """Set an attribute of ``owner``, the entry's name; without it the layer would be another layer.

    Raises NeedsRoot, BadArchive (the kernel takes no such name or value) and IncompatibleFilesystem.
    """
    try:
        os.setxattr(target, name, value)
    except PermissionError as error:
        raise NeedsRoot(f"cannot set {name} of {owner!r}: {error.strerror}") from error
    except OSError as error:
        if error.errno in _NOT_TAKEN:
            raise BadArchive(
                f"{owner!r} has {len(value)} bytes in {name} that the kernel does not take: {error.strerror}"
            ) from error
        if error.errno not in _NO_ROOM:
            raise
        raise IncompatibleFilesystem(
            f"the filesystem cannot hold {name} ({len(value)} bytes) of {owner!r}: {error.strerror}"
        ) from error
