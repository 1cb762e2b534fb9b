"""Compressed layers, byte by byte, so that every build of the corpus has the same bytes on every host.

Compression libraries differ in their output. Blocks without compression are part of both formats: RFC 1952 with
RFC 1951 (3.2.4), and RFC 8878 (3.1.1.2). A decompressor has to read them as any others.
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import Final

_STORED: Final = 0xFFFF  # bytes of a block of deflate without compression
_RAW: Final = 128 << 10  # bytes of a block of zstd
_GZIP: Final = b"\x1f\x8b\x08"
_ZSTD: Final = bytes.fromhex("28b52ffd")
_SKIPPABLE: Final = bytes.fromhex("502a4d18")
_EXTRA, _NAME, _COMMENT = 4, 8, 16  # flags of a gzip header


class Packing(enum.Enum):
    """How the bytes of a layer are stored in its blob; the values end the name of its file."""

    PLAIN = "tar"
    GZIP = "tar.gz"
    GZIP_HEADER = "header.tar.gz"
    GZIP_MEMBERS = "members.tar.gz"
    ZSTD = "tar.zst"
    ZSTD_FRAMES = "frames.tar.zst"

    @property
    def media_type(self) -> str:
        """The type of the layer (image-spec, layer.md)."""
        suffix = {"gz": "+gzip", "zst": "+zstd"}.get(self.value.rpartition(".")[2], "")
        return f"application/vnd.oci.image.layer.v1.tar{suffix}"


def packed(data: bytes, packing: Packing) -> bytes:
    """The bytes of a blob."""
    half = len(data) // 2
    match packing:
        case Packing.PLAIN:
            return data
        case Packing.GZIP:
            return _member(data)
        case Packing.GZIP_HEADER:
            return _member(data, _EXTRA | _NAME | _COMMENT, b"\x04\0ab\0\0" + b"layer.tar\0" + b"a comment\0")
        case Packing.GZIP_MEMBERS:
            return _member(data[:half]) + _member(b"") + _member(data[half:])
        case Packing.ZSTD:
            return _frame(data)
        case Packing.ZSTD_FRAMES:
            return _frame(data[:half]) + _SKIPPABLE + struct.pack("<I", 5) + b"12345" + _frame(data[half:])


def _member(data: bytes, flags: int = 0, more: bytes = b"") -> bytes:
    """A member of gzip without a time, of an unknown system."""
    pieces = [data[at : at + _STORED] for at in range(0, len(data), _STORED)] or [b""]
    blocks = [
        bytes([at == len(pieces) - 1]) + struct.pack("<HH", len(piece), len(piece) ^ 0xFFFF) + piece
        for at, piece in enumerate(pieces)
    ]
    head = _GZIP + bytes([flags]) + bytes(5) + b"\xff" + more
    return head + b"".join(blocks) + struct.pack("<II", zlib.crc32(data), len(data))


def _frame(data: bytes) -> bytes:
    """A frame of zstd: a single segment, with its size in four bytes."""
    pieces = [data[at : at + _RAW] for at in range(0, len(data), _RAW)] or [b""]
    blocks = [
        ((len(piece) << 3) | (at == len(pieces) - 1)).to_bytes(3, "little") + piece
        for at, piece in enumerate(pieces)
    ]
    return _ZSTD + b"\xa0" + struct.pack("<I", len(data)) + b"".join(blocks)
