"""The blocks of a tar archive: POSIX ustar headers with PAX records where a value does not fit (pax(1)).

Pure. Writing has code of its own because a layer has one header a file, and the standard library takes some
twenty times as long for it. Reading takes what ustar, PAX, GNU and V7 writers make.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
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
# For reading: what many headers share, mode to gid and magic to minor, is one field each.
_HEADER: Final = struct.Struct("100s24s12s12s8s1s100s88s155s12x")
_MODE_TO_GID: Final = struct.Struct("8s8s8s")
_MAGIC_TO_MINOR: Final = struct.Struct("8s32s32s8s8s")
# For writing: what is in front of the checksum, the checksum, and what is behind it.
_WRITTEN: Final = struct.Struct("148s8s356s")
_NAME_TO_MTIME: Final = struct.Struct("100s48s")
_KIND_TO_END: Final = struct.Struct("1s100s8s32s32s16s155s12x")
_MAGIC: Final = b"ustar\x0000"
_NO_CHECKSUM: Final = b" " * 8
_NO_DEVICE: Final = b"0000000\x000000000\0"
_SUM_OF_SPACES: Final = sum(_NO_CHECKSUM)
_SUMMED: Final = 256  # bytes; as many of 255 have a sum below the modulus of Adler-32, 65521
_LOW_HALF: Final = 0xFFFF
_ZEROS: Final = bytes(BLOCK)
_OCTAL_7: Final = 0o7777777
_OCTAL_11: Final = 0o77777777777
_SECOND: Final = 10**9
_NO_XATTRS: Final[Mapping[str, bytes]] = MappingProxyType({})
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
    name, target, uid, gid, size = member.name, member.target, member.uid, member.gid, member.size
    uname, gname = member.uname, member.gname
    seconds, fraction = divmod(member.mtime, _SECOND)
    records: dict[str, bytes] = {}
    prefix = b""
    if len(name) > 100:
        name, prefix = _split_name(name)
        if not name:
            records["path"] = member.name
            name = member.name[:100]
    if len(target) > 100:
        records["linkpath"] = target
        target = target[:100]
    if uid > _OCTAL_7:
        records["uid"] = b"%d" % uid
        uid = 0
    if gid > _OCTAL_7:
        records["gid"] = b"%d" % gid
        gid = 0
    if size > _OCTAL_11:
        records["size"] = b"%d" % size
        size = 0
    if fraction or not 0 <= seconds <= _OCTAL_11:
        records["mtime"] = _decimal_time(member.mtime)
        seconds = min(max(seconds, 0), _OCTAL_11)
    if len(uname) > 32:
        records["uname"] = uname
        uname = uname[:32]
    if len(gname) > 32:
        records["gname"] = gname
        gname = gname[:32]
    for attribute, value in member.xattrs.items():
        records[PAX_XATTR + attribute] = value
    numbers = _numbers(member.mode, uid, gid) + b"%011o\0%011o\0" % (size, seconds)
    before = _NAME_TO_MTIME.pack(name, numbers)
    behind, sum_behind = _kind_to_end(member.kind, target, uname, gname, member.major, member.minor, prefix)
    header = _WRITTEN.pack(before, b"%06o\0 " % (_sum(before) + _SUM_OF_SPACES + sum_behind), behind)
    return _pax_blocks(records) + header if records else header


@functools.lru_cache(maxsize=256)
def _numbers(mode: int, uid: int, gid: int) -> bytes:
    return b"%07o\0%07o\0%07o\0" % (mode, uid, gid)


@functools.lru_cache(maxsize=256)
def _kind_to_end(
    kind: bytes, target: bytes, uname: bytes, gname: bytes, major: int, minor: int, prefix: bytes
) -> tuple[bytes, int]:
    """All of a header behind the checksum, and the sum of its bytes: the same for most files of a layer."""
    device = b"%07o\0%07o\0" % (major, minor) if major or minor else _NO_DEVICE
    behind = _KIND_TO_END.pack(kind, target, _MAGIC, uname, gname, device, prefix)
    return behind, _sum(behind)


def _sum(data: bytes) -> int:
    """The sum of up to 512 bytes. Adler-32 from 0 has it in its low half, and takes a tenth of the time of sum()."""
    total = zlib.adler32(data[:_SUMMED], 0) & _LOW_HALF
    return total + (zlib.adler32(data[_SUMMED:], 0) & _LOW_HALF) if len(data) > _SUMMED else total


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
    if not body.isascii() and not all(
        _is_utf8(value) for key, value in records.items() if not key.startswith(PAX_XATTR)
    ):
        body = _record("hdrcharset", b"BINARY") + body
    return _pax_header(len(body)) + body + bytes(padding(len(body)))


@functools.lru_cache(maxsize=64)
def _pax_header(size: int) -> bytes:
    # Its name is for readers that do not know PAX; the same for all, it need not be made for each file.
    return encode(Member(b"PaxHeaders", PAX_HEADER, 0o644, size=size))


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
    length = len(rest) + 2
    if not 10 <= length <= 99:
        length = len(rest) + 1
        while length != len(rest) + len(b"%d" % length):
            length = len(rest) + len(b"%d" % length)
    return b"%d%b" % (length, rest)


def decode(block: bytes) -> Member | None:
    """The member that a header block announces, None for a block of zeros; raises BadArchive."""
    if block == _ZEROS:
        return None
    name, numbers, size, mtime, checksum, kind, target, constant, prefix = _HEADER.unpack(block)
    _check_sum(block, checksum)
    name = _text(name)
    is_ustar, uname, gname, major, minor = _magic_to_minor(constant)
    if is_ustar and (prefix := _text(prefix)):
        name = prefix + b"/" + name
    if kind == b"\0":  # V7: a directory is a name with a slash
        kind = DIRECTORY if name.endswith(b"/") else REGULAR
    mode, uid, gid = _mode_to_gid(numbers)
    return Member(
        name,
        kind,
        mode,
        uid,
        gid,
        _size(_number(size, "size")),
        _number(mtime, "mtime") * _SECOND,
        _text(target),
        uname,
        gname,
        major,
        minor,
        _NO_XATTRS,
    )


@functools.lru_cache(maxsize=256)
def _mode_to_gid(field_of_numbers: bytes) -> tuple[int, int, int]:
    mode, uid, gid = _MODE_TO_GID.unpack(field_of_numbers)
    return _number(mode, "mode") & 0o7777, _number(uid, "uid"), _number(gid, "gid")


@functools.lru_cache(maxsize=256)
def _magic_to_minor(constant: bytes) -> tuple[bool, bytes, bytes, int, int]:
    """Whether the header is of ustar, and owner names and device numbers."""
    magic, uname, gname, major, minor = _MAGIC_TO_MINOR.unpack(constant)
    return magic.startswith(b"ustar\0"), _text(uname), _text(gname), _number(major, "major"), _number(minor, "minor")


def _check_sum(block: bytes, field_of_sum: bytes) -> None:
    said = _number(field_of_sum, "checksum")
    unsigned = _sum(block) - _sum(field_of_sum) + _SUM_OF_SPACES
    if said == unsigned:
        return
    # Some old writers summed signed characters.
    if said != unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise BadArchive("the archive has a header with a wrong checksum; it is damaged or no tar archive")


def _text(value: bytes) -> bytes:
    return value.partition(b"\0")[0]


def _number(value: bytes, what: str) -> int:
    if value[0] > 127:  # GNU base-256: two's complement in the remaining bits
        bits = 8 * len(value) - 1
        number = int.from_bytes(value, "big") & ((1 << bits) - 1)
        return number - (1 << bits) if number >> (bits - 1) else number
    text = value.strip(b" \0")
    if text.isdigit():  # not what int() takes besides: a sign, an underscore, 0o
        try:
            return int(text, 8)
        except ValueError:  # 8 or 9
            text += b"?"
    if text:
        raise BadArchive(f"the archive has a header with {value!r} as {what}; it is damaged")
    return 0


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
    xattrs: dict[str, bytes] = {}
    for key, value in records.items():
        if key == "mtime" and value:  # what most headers are there for
            member.mtime = parse_time(value)
            continue
        if key.startswith(PAX_XATTR):
            xattrs[key.removeprefix(PAX_XATTR)] = value
            continue
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
            case "uname":
                member.uname = value
            case "gname":
                member.gname = value
            case _ if key.startswith("GNU.sparse."):
                raise BadArchive(f"{member.name!r} is a sparse entry (GNU.sparse), which layers may not hold")
    if xattrs:
        member.xattrs = xattrs
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
