"""The entries of an archive with all that a layer takes of them, as Python's tarfile reads it.

readers.py compares two readers and needs no attributes; this is what the model of applying (applying.py) reads.
Names and targets are raw: what an absolute name or a ".." means is a question of the model.
"""

from __future__ import annotations

import io
import stat
import tarfile
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final

from conformance.operations.readers import NotRead
from conformance.operations.trees import CAPABILITY, Node

HARD_LINK: Final = 0  # no type bits: a further name of another entry
_SECOND: Final = 10**9
_XATTR: Final = "SCHILY.xattr."
_BITS: Final = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.LNKTYPE: HARD_LINK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


@dataclass(frozen=True, slots=True)
class Member:
    """An entry: the inode that it makes, whose type bits are HARD_LINK for a hard link to ``node.target``.

    ``left_out`` are attributes that an inode of this type does not hold, or that a layer does not carry.
    """

    name: bytes
    node: Node
    left_out: tuple[str, ...] = field(default=())

    @property
    def is_link(self) -> bool:
        """Whether this is a hard link."""
        return stat.S_IFMT(self.node.mode) == HARD_LINK


def members_of(data: bytes) -> list[Member]:
    """All entries of an uncompressed archive in their order; raises NotRead."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8") as tar:
            return [_member(tar, one) for one in tar]
    except (tarfile.TarError, EOFError, ValueError, OverflowError, InvalidOperation, KeyError) as error:
        raise NotRead(f"tarfile: {type(error).__name__}: {error}") from error


def _member(tar: tarfile.TarFile, found: tarfile.TarInfo) -> Member:
    bits = _BITS.get(found.type, stat.S_IFREG)
    content = b""
    if bits == stat.S_IFREG and (file := tar.extractfile(found)):
        content = file.read()
    said = {
        key.removeprefix(_XATTR): value.encode("utf-8", "surrogateescape")
        for key, value in found.pax_headers.items()
        if key.startswith(_XATTR)
    }
    xattrs = {name: value for name, value in said.items() if is_carried(name, bits)}
    node = Node(
        bits | (0o777 if bits == stat.S_IFLNK else found.mode & 0o7777),
        found.uid,
        found.gid,
        int(Decimal(found.pax_headers.get("mtime", str(int(found.mtime)))) * _SECOND),
        content,
        _bytes(found.linkname) if bits in (stat.S_IFLNK, HARD_LINK) else b"",
        (found.devmajor, found.devminor) if bits in (stat.S_IFCHR, stat.S_IFBLK) else (0, 0),
        xattrs,
    )
    return Member(_bytes(found.name), node, tuple(sorted(said.keys() - xattrs.keys())))


def is_carried(name: str, bits: int) -> bool:
    """Whether an attribute of an inode is one that layers carry, as observe.py has it."""
    if bits not in (stat.S_IFREG, stat.S_IFDIR):
        return False
    return name == CAPABILITY or (name.startswith("user.") and not name.startswith("user.overlay."))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
