"""The blocks of a tar archive: POSIX ustar headers with PAX records where a value does not fit (pax(1)).

Pure. Writing has code of its own because a layer has one header a file, and the standard library takes some
twenty times as long for it. Reading takes what ustar, PAX, GNU and V7 writers make.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from refdriver.errors import BadArchive

BLOCK: Final = 512
END_OF_ARCHIVE: Final = bytes(2 * BLOCK)

REGULAR: Final = b"0"
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
CHARACTER: Final = b"3"
BLOCK_DEVICE: Final = b"4"
DIRECTORY: Final = b"5"
FIFO: Final = b"6"
CONTIGUOUS: Final = b"7"
PAX_HEADER: Final = b"x"
PAX_GLOBAL: Final = b"g"
GNU_LONG_NAME: Final = b"L"
GNU_LONG_LINK: Final = b"K"

PAX_XATTR: Final = "SCHILY.xattr."
_HEADER: Final = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
# For writing, with the numbers from mode to mtime and the device numbers as one field each.
_WRITTEN: Final = struct.Struct("100s48s8s1s100s8s32s32s16s155s12x")
_MAGIC: Final = b"ustar\x0000"
_NO_CHECKSUM: Final = b" " * 8
_NO_DEVICE: Final = b"0000000\x000000000\0"
_CONSTANT_SUM: Final = sum(_MAGIC) + sum(_NO_CHECKSUM)
_OCTAL_7: Final = 0o7777777
_OCTAL_11: Final = 0o77777777777
_SECOND: Final = 10**9
_LENGTH_DIGITS: Final = 10  # of the length of a PAX record; ustar sizes have eleven octal ones


@dataclass(slots=True)
class Member:
    """One entry of an archive: ``mode`` holds permission bits only, ``mtime`` is in nanoseconds.

    Not frozen, because packing makes one for each file and a frozen dataclass takes three times as long.
    """

    name: bytes
    kind: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    target: bytes = b""
    uname: bytes = b""
    gname: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def padding(size: int) -> int:
    """How many bytes fill data of ``size`` up to a whole block."""
    return -size % BLOCK


def encode(member: Member) -> bytes:
    """The header blocks of a member: PAX records first where the ustar header cannot say it all."""
    records: dict[str, bytes] = {}
    name, prefix = member.name, b""
    if len(name) > 100:
        name, prefix = _split_name(name)
        if not name:
            records["path"] = member.name
            name = member.name[:100]
    if len(member.target) > 100:
        records["linkpath"] = member.target
    if member.uid > _OCTAL_7:
        records["uid"] = b"%d" % member.uid
    if member.gid > _OCTAL_7:
        records["gid"] = b"%d" % member.gid
    if member.size > _OCTAL_11:
        records["size"] = b"%d" % member.size
    seconds, fraction = divmod(member.mtime, _SECOND)
    if fraction or not 0 <= seconds <= _OCTAL_11:
        records["mtime"] = _decimal_time(member.mtime)
        seconds = min(max(seconds, 0), _OCTAL_11)
    if len(member.uname) > 32:
        records["uname"] = member.uname
    if len(member.gname) > 32:
        records["gname"] = member.gname
    for attribute, value in member.xattrs.items():
        records[PAX_XATTR + attribute] = value
    header = _block(
        name,
        member.kind,
        member.mode,
        member.uid if member.uid <= _OCTAL_7 else 0,
        member.gid if member.gid <= _OCTAL_7 else 0,
        member.size if member.size <= _OCTAL_11 else 0,
        seconds,
        member.target[:100],
        member.uname[:32],
        member.gname[:32],
        member.major,
        member.minor,
        prefix,
    )
    return _pax_blocks(records) + header if records else header


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    target: bytes,
    uname: bytes,
    gname: bytes,
    major: int,
    minor: int,
    prefix: bytes,
) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    device = b"%07o\0%07o\0" % (major, minor) if major or minor else _NO_DEVICE
    # The sum of all bytes with the checksum as spaces; zeros need no adding.
    total = _CONSTANT_SUM + sum(name + numbers + kind + target + uname + gname + device + prefix)
    return _WRITTEN.pack(name, numbers, b"%06o\0 " % total, kind, target, _MAGIC, uname, gname, device, prefix)


def _split_name(name: bytes) -> tuple[bytes, bytes]:
    """Name and prefix fields of a name over 100 bytes; an empty name where no slash is in the right place."""
    slash = name.rfind(b"/", 0, 156)
    rest = name[slash + 1 :]
    if slash <= 0 or not rest or len(rest) > 100:
        return b"", b""
    return rest, name[:slash]


def _decimal_time(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(abs(nanoseconds), _SECOND)
    return b"%b%d.%09d" % (b"-" if nanoseconds < 0 else b"", seconds, fraction)


def _pax_blocks(records: Mapping[str, bytes]) -> bytes:
    body = b"".join([_record(key, value) for key, value in sorted(records.items())])
    if not all(_is_utf8(value) for key, value in records.items() if not key.startswith(PAX_XATTR)):
        body = _record("hdrcharset", b"BINARY") + body
    return _pax_header(len(body)) + body + bytes(padding(len(body)))


@functools.lru_cache(maxsize=64)
def _pax_header(size: int) -> bytes:
    # Its name is for readers that do not know PAX; the same for all, it need not be made for each file.
    return _block(b"PaxHeaders", PAX_HEADER, 0o644, 0, 0, size, 0, b"", b"", b"", 0, 0, b"")


def _is_utf8(value: bytes) -> bool:
    if value.isascii():
        return True
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _record(key: str, value: bytes) -> bytes:
    """LENGTH, space, KEY, "=", VALUE and a newline, where LENGTH counts itself."""
    rest = b" %b=%b\n" % (key.encode("utf-8", "surrogateescape"), value)
    length = len(rest) + 1
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d%b" % (length, rest)


def decode(block: bytes) -> Member | None:
    """The member that a header block announces, None for a block of zeros; raises BadArchive."""
    fields = _HEADER.unpack(block)
    name, mode, uid, gid, size, mtime, checksum, kind, target, magic, uname, gname, major, minor, prefix = fields
    if not any(block):
        return None
    _check_sum(block, checksum)
    name = _text(name)
    if magic.startswith(b"ustar\0") and (prefix := _text(prefix)):
        name = prefix + b"/" + name
    if kind == b"\0":  # V7: a directory is a name with a slash
        kind = DIRECTORY if name.endswith(b"/") else REGULAR
    return Member(
        name,
        kind,
        _number(mode, "mode") & 0o7777,
        _number(uid, "uid"),
        _number(gid, "gid"),
        _size(_number(size, "size")),
        _number(mtime, "mtime") * _SECOND,
        _text(target),
        _text(uname),
        _text(gname),
        _number(major, "major"),
        _number(minor, "minor"),
    )


def _check_sum(block: bytes, field_of_sum: bytes) -> None:
    unsigned = sum(block) - sum(field_of_sum) + sum(_NO_CHECKSUM)
    # Some old writers summed signed characters.
    signed = unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    if _number(field_of_sum, "checksum") not in (unsigned, signed):
        raise BadArchive("the archive has a header with a wrong checksum; it is damaged or no tar archive")


def _text(value: bytes) -> bytes:
    return value.partition(b"\0")[0]


def _number(value: bytes, what: str) -> int:
    if value[0] & 0x80:  # GNU base-256: two's complement in the remaining bits
        bits = 8 * len(value) - 1
        number = int.from_bytes(value, "big") & ((1 << bits) - 1)
        return number - (1 << bits) if number >> (bits - 1) else number
    text = value.strip(b" \0")
    if not text:
        return 0
    try:
        if text.translate(None, b"01234567"):
            raise ValueError
        return int(text, 8)
    except ValueError:
        raise BadArchive(f"the archive has a header with {value!r} as {what}; it is damaged") from None


def _size(size: int) -> int:
    if not 0 <= size < 2**63:
        raise BadArchive(f"the archive has an entry of {size} bytes; it is damaged")
    return size


def decode_pax(body: bytes) -> dict[str, bytes]:
    """The records of a PAX header; raises BadArchive when lengths and text do not agree.

    Only positions move through ``body``: cutting each record off its front would copy the rest every time.
    """
    records = {}
    start = 0
    while start < len(body):
        space = body.find(b" ", start, start + _LENGTH_DIGITS + 1)
        digits = body[start:space] if space > start else b""
        if not digits.isdigit():
            raise BadArchive("the archive has a PAX record without a length; it is damaged")
        end = start + int(digits)
        equals = body.find(b"=", space + 1, end)
        if end > len(body) or equals < 0 or body[end - 1 : end] != b"\n":
            raise BadArchive("the archive has a PAX record whose length is wrong; it is damaged")
        key = body[space + 1 : equals].decode("utf-8", "surrogateescape")
        records[key] = body[equals + 1 : end - 1]
        start = end
    return records


def with_pax(member: Member, records: Mapping[str, bytes]) -> Member:
    """A member as its PAX records correct it; raises BadArchive for numbers that are none and sparse files.

    A record without a value leaves what the header says (pax(1): it deletes records of the same name).
    """
    for key, value in records.items():
        match key:
            case _ if not value:
                continue
            case "path":
                member.name = value
            case "linkpath":
                member.target = value
            case "uid":
                member.uid = _decimal(key, value)
            case "gid":
                member.gid = _decimal(key, value)
            case "size":
                member.size = _size(_decimal(key, value))
            case "mtime":
                member.mtime = parse_time(value)
            case "uname":
                member.uname = value
            case "gname":
                member.gname = value
            case _ if key.startswith("GNU.sparse."):
                raise BadArchive(f"{member.name!r} is a sparse entry (GNU.sparse), which layers may not hold")
    member.xattrs = {
        key.removeprefix(PAX_XATTR): value for key, value in records.items() if key.startswith(PAX_XATTR)
    }
    return member


def parse_time(value: bytes) -> int:
    """Nanoseconds from ``[-]SECONDS[.FRACTION]``; what is below a nanosecond is cut off; raises BadArchive."""
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or not (fraction.isdigit() or not fraction) or len(whole) > 19:
        raise BadArchive(f"the archive has {value!r} as a time; it is damaged")
    nanoseconds = int(whole) * _SECOND + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if value.startswith(b"-") else nanoseconds


def _decimal(key: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise BadArchive(f"the archive has {value!r} as PAX {key}; it is damaged")
    return int(value)
