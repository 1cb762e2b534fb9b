"""Tar headers field by field, so that a test may write what no library would."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

BLOCK = 512
END = bytes(2 * BLOCK)


@dataclass(frozen=True)
class Header:
    """The raw fields of one ustar header. Numbers are bytes as they stand in the block."""

    name: bytes = b"x"
    kind: bytes = b"0"
    mode: bytes = b"0000644\0"
    uid: bytes = b"0000000\0"
    gid: bytes = b"0000000\0"
    size: bytes = b"00000000000\0"
    mtime: bytes = b"00000000000\0"
    target: bytes = b""
    magic: bytes = b"ustar\x0000"
    major: bytes = b"0000000\0"
    minor: bytes = b"0000000\0"
    prefix: bytes = b""
    pax: tuple[tuple[bytes, bytes], ...] = field(default=())

    def blocks(self, data: bytes = b"") -> bytes:
        """The PAX header, if there are records, then this one, then the data."""
        parts = (
            self.name.ljust(100, b"\0")[:100],
            self.mode + self.uid + self.gid + self.size + self.mtime,
            b" " * 8,
            self.kind,
            self.target.ljust(100, b"\0")[:100],
            self.magic,
            bytes(64),
            self.major + self.minor,
            self.prefix.ljust(155, b"\0")[:155],
        )
        block = b"".join(parts).ljust(BLOCK, b"\0")
        assert len(block) == BLOCK
        block = block[:148] + b"%06o\0 " % sum(block) + block[156:]
        return pax(*self.pax) + block + padded(data) if self.pax else block + padded(data)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """An extended header with these records."""
    return extended(b"".join(record(key, value) for key, value in records), kind)


def extended(body: bytes, kind: bytes = b"x") -> bytes:
    """A header of this kind over a body."""
    return replace(Header(b"extended", kind), size=octal(len(body), 12)).blocks(body)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d" % length + rest


def octal(number: int, width: int) -> bytes:
    """With a NUL at its end."""
    return b"%0*o\0" % (width - 1, number)


def base256(number: int, width: int) -> bytes:
    """The extension of GNU for what octal digits cannot say."""
    bits = 8 * width
    return (number % (1 << (bits - 1)) | 1 << (bits - 1)).to_bytes(width, "big")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
