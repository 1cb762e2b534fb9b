"""What an entry of an archive may say so that a Linux filesystem can hold it.

A tar header can express more than any system call takes: numbers of 95 bits and below zero in base-256 fields,
names with NUL bytes in PAX records. What lies inside of these limits is kept. What lies outside is refused before
anything is made of the entry, with the field, its value and the limit.
"""

from __future__ import annotations

from typing import Final

from refdriver.archive import tarformat
from refdriver.archive.tarformat import Member
from refdriver.errors import BadArchive

_ID_MAX: Final = 2**32 - 2  # chown(2) takes 2**32 - 1 for "leave as it is"
_SECONDS: Final = 2**63  # time_t
_NANOSECONDS: Final = 10**9
_FIRST_TIME: Final = -_SECONDS * _NANOSECONDS
_LAST_TIME: Final = _SECONDS * _NANOSECONDS - 1
_TARGET_MAX: Final = 4095  # symlink(2): PATH_MAX without its NUL
_XATTR_NAME_MAX: Final = 255  # xattr(7)
_XATTR_VALUE_MAX: Final = 65536
_BARE_NAMESPACES: Final = frozenset({"user.", "trusted.", "security.", "system."})


def check(member: Member) -> None:
    """Raise BadArchive for what no Linux filesystem can hold. Lengths of names are the business of paths."""
    if (
        member.kind != tarformat.SYMLINK
        and not member.xattrs
        and 0 <= member.uid <= _ID_MAX
        and 0 <= member.gid <= _ID_MAX
        and _FIRST_TIME <= member.mtime <= _LAST_TIME
        and b"\0" not in member.name
        and b"\0" not in member.target
    ):
        return  # most entries; the rest finds out what is wrong
    if b"\0" in member.name or b"\0" in member.target:
        raise BadArchive(f"the archive has a name with a NUL byte: {_shown(member.name)}")
    for what, number in (("uid", member.uid), ("gid", member.gid)):
        if not 0 <= number <= _ID_MAX:
            raise BadArchive(f"{_shown(member.name)} has the {what} {number}; it must be from 0 to {_ID_MAX}")
    seconds = member.mtime // _NANOSECONDS
    if not -_SECONDS <= seconds < _SECONDS:
        raise BadArchive(f"{_shown(member.name)} has an mtime of {seconds} s, which does not fit in 64 bits")
    if member.kind == tarformat.SYMLINK and not 0 < len(member.target) <= _TARGET_MAX:
        raise BadArchive(
            f"{_shown(member.name)} is a symlink with a target of {len(member.target)} bytes; it must be from 1 to"
            f" {_TARGET_MAX}"
        )
    for name, value in member.xattrs.items():
        _check_xattr(member, name, value)


def _check_xattr(member: Member, name: str, value: bytes) -> None:
    length = len(name.encode("utf-8", "surrogateescape"))
    if not 0 < length <= _XATTR_NAME_MAX or "\0" in name or name in _BARE_NAMESPACES:
        raise BadArchive(
            f"{_shown(member.name)} has an extended attribute named {name[:80]!r}, {length} bytes: no such name can"
            " be set (xattr(7))"
        )
    if len(value) > _XATTR_VALUE_MAX:
        raise BadArchive(
            f"{_shown(member.name)} has {len(value)} bytes in {name}; the kernel takes {_XATTR_VALUE_MAX}"
        )


def _shown(name: bytes) -> str:
    return repr(name if len(name) <= 300 else name[:300] + b"...")
