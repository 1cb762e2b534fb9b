"""Damaged archives, as values: each must be refused (OVL-HOSTILE-CHECKSUM, -SIZE, -JUNK and -NAME-BOMB)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.operations import archives
from conformance.operations.archives import BLOCK

_SIZE_FIELD: Final = 124  # offset in a header (tar(5))
_CHECKSUM_FIELD: Final = 148
_KIND_FIELD: Final = 156
MINUS_ONE: Final = b"\xff" * 12

# What the field says, and what that is.
SIZES: Final[Mapping[str, tuple[bytes, str]]] = {
    "too-long": (b"00077777777\0", "a size beyond the end"),
    "minus-one": (MINUS_ONE, "a size of -1 in base 256"),
    "minus": (b"-0000000001\0", "a size with a minus sign"),
    "huge": (b"\x80" + b"\x7f" + b"\xff" * 10, "a size of 2^87 in base 256"),
}

JUNK: Final[Mapping[str, bytes]] = {
    "ones": b"\xff" * 10240,
    "text": b"hello\n" * 300,
    "binary": b"\x7fELF" + b"\1" * 3000,
}

# Headers that say that a name or records follow.
EXTENSIONS: Final[Mapping[str, bytes]] = {"gnu-long-name": b"L", "pax": b"x", "pax-global": b"g"}


def wrong_checksum() -> bytes:
    """Two files, the second with a wrong checksum."""
    first, second = archives.archive([archives.file("one")]), archives.archive([archives.file("two")])
    wrong = bytearray(first[: 2 * BLOCK] + second)
    wrong[2 * BLOCK + _CHECKSUM_FIELD] ^= 1
    return bytes(wrong)


def with_size(field: bytes, content: bytes = b"content") -> bytes:
    """One file whose header has this field for its size."""
    return archives.with_field(archives.archive([archives.file("one", content)]), _SIZE_FIELD, field)


def promising(kind: bytes) -> bytes:
    """A header of an extension with 4 GiB, of which three blocks follow."""
    size = b"\x80" + (1 << 32).to_bytes(11, "big")
    return archives.with_field(with_size(size), _KIND_FIELD, kind)
