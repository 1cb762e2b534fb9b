"""The blocks of a tar archive: POSIX ustar headers with PAX records where a value does not fit (pax(1)).

Pure. Writing has code of its own because a layer has one header a file, and the standard library takes some
twenty times as long for it. Reading takes what ustar, PAX, GNU and V7 writers make.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from zlib import adler32

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
# What the headers of a layer's files have in common is in few pieces: mode to gid, and all behind the checksum.
_HEADER: Final = struct.Struct("100s24s12s12s8s356s")
_MODE_TO_GID: Final = struct.Struct("8s8s8s")
_KIND_TO_END: Final = struct.Struct("1s100s8s32s32s16s155s12s")
# For writing: what is in front of the checksum, the checksum, and what is behind it.
_WRITTEN: Final = struct.Struct("100s48s8s356s")
_MAGIC: Final = b"ustar\x0000"
_NO_CHECKSUM: Final = b" " * 8
_SUM_OF_SPACES: Final = sum(_NO_CHECKSUM)
_SUMMED: Final = 256  # bytes; as many of 255 have a sum below the modulus of Adler-32, 65521
_LOW_HALF: Final = 0xFFFF
_ZEROS: Final = bytes(BLOCK)
_OCTAL_7: Final = 0o7777777
_OCTAL_11: Final = 0o77777777777
_SECOND: Final = 10**9
NO_XATTRS: Final[Mapping[str, bytes]] = MappingProxyType({})
_SHORT_HEAD: Final = 64  # bytes
_NEWLINE: Final = 10
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
    if not 0 <= seconds <= _OCTAL_11:
        records["mtime"] = _decimal_time(member.mtime)
        seconds = min(max(seconds, 0), _OCTAL_11)
    elif fraction:
        records["mtime"] = b"%d.%09d" % (seconds, fraction)
    if len(uname) > 32:
        records["uname"] = uname
        uname = uname[:32]
    if len(gname) > 32:
        records["gname"] = gname
        gname = gname[:32]
    if member.xattrs:
        for attribute, value in member.xattrs.items():
            records[PAX_XATTR + attribute] = value
    numbers = _numbers(member.mode, uid, gid) + b"%011o\0%011o\0" % (size, seconds)
    behind, sum_behind = _kind_to_end(member.kind, target, uname, gname, member.major, member.minor, prefix)
    checksum = (adler32(name + numbers, 0) & _LOW_HALF) + _SUM_OF_SPACES + sum_behind
    header = _WRITTEN.pack(name, numbers, b"%06o\0 " % checksum, behind)
    return _pax_blocks(records) + header if records else header


@functools.lru_cache(maxsize=256)
def _numbers(mode: int, uid: int, gid: int) -> bytes:
    return b"%07o\0%07o\0%07o\0" % (mode, uid, gid)


@functools.lru_cache(maxsize=256)
def _kind_to_end(
    kind: bytes, target: bytes, uname: bytes, gname: bytes, major: int, minor: int, prefix: bytes
) -> tuple[bytes, int]:
    """All of a header behind the checksum, and the sum of its bytes: the same for most files of a layer."""
    device = b"%07o\0%07o\0" % (major, minor)
    behind = _KIND_TO_END.pack(kind, target, _MAGIC, uname, gname, device, prefix, b"")
    return behind, _sum(behind)


def _sum(data: bytes) -> int:
    """The sum of up to 512 bytes: the low half of Adler-32 from 0, which takes a tenth of the time of sum()."""
    total = adler32(data[:_SUMMED], 0) & _LOW_HALF
    return total + (adler32(data[_SUMMED:], 0) & _LOW_HALF) if len(data) > _SUMMED else total


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
    ordered = sorted(records.items()) if len(records) > 1 else records.items()
    body = b"".join([_record(key, value) for key, value in ordered])
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
    name, numbers, size, mtime, checksum, behind = _HEADER.unpack(block)
    kind, target, prefix, uname, gname, device, sum_behind = _behind_checksum(behind)
    _check_sum(block, checksum, (adler32(block[:148], 0) & _LOW_HALF) + _SUM_OF_SPACES + sum_behind)
    name = name.partition(b"\0")[0]
    if prefix:
        name = prefix + b"/" + name
    if kind == b"\0":  # V7: a directory is a name with a slash
        kind = DIRECTORY if name.endswith(b"/") else REGULAR
    major, minor = _device(device)
    mode, uid, gid = _mode_to_gid(numbers)
    return Member(
        name,
        kind,
        mode,
        uid,
        gid,
        _size(_number(size, "size")),
        _seconds(mtime) * _SECOND,
        target,
        uname,
        gname,
        major,
        minor,
        NO_XATTRS,
    )


@functools.lru_cache(maxsize=256)
def _mode_to_gid(field_of_numbers: bytes) -> tuple[int, int, int]:
    mode, uid, gid = _MODE_TO_GID.unpack(field_of_numbers)
    return _number(mode, "mode") & 0o7777, _number(uid, "uid"), _number(gid, "gid")


@functools.lru_cache(maxsize=256)
def _device(field_of_numbers: bytes) -> tuple[int, int]:
    return _number(field_of_numbers[:8], "major"), _number(field_of_numbers[8:], "minor")


@functools.lru_cache(maxsize=256)
def _seconds(field_of_time: bytes) -> int:
    return _number(field_of_time, "mtime")


@functools.lru_cache(maxsize=256)
def _behind_checksum(behind: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes, int]:
    """What a header has behind its checksum: kind, target, prefix, owner names, device numbers, and its sum."""
    kind, target, magic, uname, gname, device, prefix, _ = _KIND_TO_END.unpack(behind)
    prefix = _text(prefix) if magic.startswith(b"ustar\0") else b""
    return kind, _text(target), prefix, _text(uname), _text(gname), device, _sum(behind)


def _check_sum(block: bytes, field_of_sum: bytes, unsigned: int) -> None:
    if field_of_sum == b"%06o\0 " % unsigned:  # as most write it
        return
    said = _number(field_of_sum, "checksum")
    # Some old writers summed signed characters.
    if said != unsigned and said != unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
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
        equals = body.find(b"=", start)
        # The first two words are the same in most headers; a long one is not worth remembering.
        head = _record_head if equals - start <= _SHORT_HEAD else _record_head.__wrapped__
        length, key = head(body[start:equals])
        end = start + length
        if not 0 < equals < end <= len(body) or body[end - 1] != _NEWLINE:
            raise BadArchive("the archive has a PAX record whose length is wrong; it is damaged")
        records[key] = body[equals + 1 : end - 1]
        start = end
    return records


@functools.lru_cache(maxsize=64)
def _record_head(head: bytes) -> tuple[int, str]:
    """Length and key of a record, from what it has in front of its first "="; raises BadArchive."""
    digits, space, key = head.partition(b" ")
    if not space or not digits.isdigit() or len(digits) > _LENGTH_DIGITS:
        raise BadArchive("the archive has a PAX record without a length; it is damaged")
    return int(digits), key.decode("utf-8", "surrogateescape")


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
    member.xattrs = xattrs
    return member


def parse_time(value: bytes) -> int:
    """Nanoseconds from ``[-]SECONDS[.FRACTION]``; what is below a nanosecond is cut off; raises BadArchive."""
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or not (fraction.isdigit() or not fraction) or len(whole) > 19:
        raise BadArchive(f"the archive has {value!r} as a time; it is damaged")
    nanoseconds = int(whole + fraction[:9].ljust(9, b"0"))
    return -nanoseconds if value.startswith(b"-") else nanoseconds


def _decimal(key: str, value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise BadArchive(f"the archive has {value!r} as PAX {key}; it is damaged")
    return int(value)
