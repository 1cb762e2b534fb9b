"""Archives by the grammar of tar: every form in which programs write an entry, byte by byte.

An entry is a value that says what is written and in which form: V7, ustar, GNU tar or pax. The writer of
archives.py has one way for each value; this one has those that archives in the wild have. Nothing here says what
an archive means: readers.py asks two programs that no driver has a part in.

Sources: pax(1) (POSIX.1-2017) for ustar and pax, "Basic Tar Format" and "Storing Sparse Files" of the manual of
GNU tar for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 512
RECORD: Final = 20 * BLOCK
TIME: Final = 1_500_000_000  # seconds

V7: Final = "v7"
USTAR: Final = "ustar"
GNU: Final = "gnu"
PAX: Final = "pax"
FORMS: Final = (V7, USTAR, GNU, PAX)

FILE: Final = b"0"
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
CHARACTER: Final = b"3"
BLOCK_DEVICE: Final = b"4"
DIRECTORY: Final = b"5"
FIFO: Final = b"6"
_PAX_HEADER: Final = b"x"
_PAX_GLOBAL: Final = b"g"
_LONG_NAME: Final = b"L"
_LONG_TARGET: Final = b"K"

_NAME: Final = 100
_PREFIX: Final = 155
_OWNER_NAME: Final = 32
_MAGICS: Final = {V7: bytes(8), USTAR: b"ustar\x0000", GNU: b"ustar  \0", PAX: b"ustar\x0000"}
# How the octal digits of a number fill its field: what stands before them, and what ends them.
DIGITS: Final = {
    "zeros, NUL": (b"0", b"\0"),
    "zeros, space": (b"0", b" "),
    "zeros": (b"0", b""),
    "spaces, NUL": (b" ", b"\0"),
    "spaces, space and NUL": (b" ", b" \0"),
}

Records = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Form:
    """How an entry is written. ``always`` says that what fits into the header goes into the extension, too.

    ``first`` is the extension of GNU tar that comes first, L (name) or K (target). ``digits`` is a key of DIGITS.
    ``signed`` sums the header as signed characters, as some old writers did.
    """

    name: str = USTAR
    always: bool = False
    first: str = "L"
    digits: str = "zeros, NUL"
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Tarred:
    """One entry as it is written. ``mtime`` is in nanoseconds; only pax has room for a fraction of a second.

    ``size`` is what the header says, None for the length of ``content``. ``records`` are further records of pax,
    behind those that the form needs. ``size_record`` writes the size into a record, and ``size`` into the header.
    """

    name: bytes
    kind: bytes = FILE
    content: bytes = b""
    target: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = TIME * 10**9
    major: int = 0
    minor: int = 0
    uname: bytes = b""
    gname: bytes = b""
    form: Form = Form()
    size: int | None = None
    size_record: bool = False
    records: Records = ()

    def describe(self) -> str:
        """One readable line."""
        said = f"{self.form.name} entry of type {self.kind.decode('latin-1')!r}: {_short(self.name)}"
        if self.target:
            said += f" -> {_short(self.target)}"
        said += f", mode {self.mode:o}, {self.uid}:{self.gid}, mtime {self.mtime} ns, {len(self.content)} bytes"
        if self.major or self.minor:
            said += f", device {self.major}:{self.minor}"
        if self.records:
            said += f", records {dict(self.records)}"
        return said


def _short(name: bytes) -> str:
    return repr(name)[1:] if len(name) <= 60 else f"{name[:50]!r}...({len(name)} bytes)"[1:]


def archive_of(entries: Iterable[Tarred], blocks_of_end: int = 2, *, record: bool = True) -> bytes:
    """The bytes of an archive; it ends with so many blocks of zeros, and is filled up to whole records."""
    data = b"".join(map(entry_of, entries)) + bytes(blocks_of_end * BLOCK)
    return data + bytes(-len(data) % RECORD) if record else data


def entry_of(entry: Tarred) -> bytes:
    """The blocks of one entry: its extensions, its header, and its content."""
    return _extensions(entry) + header_of(entry) + padded(entry.content)


def padded(content: bytes) -> bytes:
    """Content filled up to a whole block."""
    return content + bytes(-len(content) % BLOCK)


def global_header(records: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The blocks of a global header of pax."""
    body = records_of(records)
    return header_of(Tarred(b"pax_global_header", _PAX_GLOBAL, form=Form(PAX), size=len(body))) + padded(body)


def pax_header(body: bytes) -> bytes:
    """The blocks of an extended header of pax with these records."""
    return header_of(Tarred(b"PaxHeaders/x", _PAX_HEADER, form=Form(PAX), size=len(body))) + padded(body)


def records_of(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Records of pax: LENGTH, space, KEY, "=", VALUE, newline, where LENGTH counts itself."""
    return b"".join(_record(key, value) for key, value in records)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _extensions(entry: Tarred) -> bytes:
    if entry.form.name == GNU:
        long = {"L": (_LONG_NAME, entry.name), "K": (_LONG_TARGET, entry.target)}
        order = "LK" if entry.form.first == "L" else "KL"
        names = b"".join(_long(*long[one]) for one in order if _is_long(entry, long[one][1]))
        return names + (pax_header(records_of(entry.records)) if entry.records else b"")
    records = (*_needed(entry), *entry.records)
    return pax_header(records_of(records)) if records else b""


def _is_long(entry: Tarred, text: bytes) -> bool:
    return len(text) > _NAME or (entry.form.always and bool(text))


def _long(kind: bytes, text: bytes) -> bytes:
    header = header_of(Tarred(b"././@LongLink", kind, mtime=0, form=Form(GNU), size=len(text) + 1))
    return header + padded(text + b"\0")


def _needed(entry: Tarred) -> Records:
    """What pax writes into records: what has no room in the header, or all."""
    if entry.form.name != PAX:
        return ((b"size", b"%d" % len(entry.content)),) if entry.size_record else ()
    always, seconds = entry.form.always, entry.mtime // 10**9
    found: list[tuple[bytes, bytes]] = []
    if always or split(entry.name) is None:
        found.append((b"path", entry.name))
    if (always and entry.target) or len(entry.target) > _NAME:
        found.append((b"linkpath", entry.target))
    found += [
        (key, b"%d" % number)
        for key, number in ((b"uid", entry.uid), (b"gid", entry.gid))
        if always or not _fits(number, 8, entry.form)
    ]
    if always or entry.mtime % 10**9 or not _fits(seconds, 12, entry.form):
        found.append((b"mtime", decimal(entry.mtime)))
    found += [
        (key, name)
        for key, name in ((b"uname", entry.uname), (b"gname", entry.gname))
        if (always and name) or len(name) > _OWNER_NAME
    ]
    if entry.size_record or (always and entry.kind == FILE):
        found.append((b"size", b"%d" % len(entry.content)))
    if not all(_is_utf8(value) for _, value in found):
        found.insert(0, (b"hdrcharset", b"BINARY"))
    return tuple(found)


def decimal(nanoseconds: int) -> bytes:
    """A time as pax writes it: a decimal number of seconds, without zeros at its end."""
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}{seconds}.{fraction:09d}".rstrip("0").rstrip(".").encode()


def _is_utf8(value: bytes) -> bool:
    return value.decode("utf-8", "surrogateescape").encode("utf-8", "replace") == value


def split(name: bytes) -> tuple[bytes, bytes] | None:
    """The fields name and prefix of ustar for a name; None if it does not fit."""
    if len(name) <= _NAME:
        return name, b""
    slash = name.rfind(b"/", 0, _PREFIX + 1)
    if slash <= 0 or not 0 < len(name) - slash - 1 <= _NAME:
        return None
    return name[slash + 1 :], name[:slash]


def header_of(entry: Tarred) -> bytes:
    """The header block; what has no room in it is cut there, as its extension says it all."""
    form = entry.form
    name, prefix = entry.name, b""
    if form.name in (USTAR, PAX) and entry.kind not in (_PAX_HEADER, _PAX_GLOBAL):
        name, prefix = split(entry.name) or (entry.name[:_NAME], b"")
    size = entry.size if entry.size is not None else len(entry.content)
    limits = [(entry.mode, 8), (entry.uid, 8), (entry.gid, 8), (size, 12), (entry.mtime // 10**9, 12)]
    numbers = b"".join(number_field(value, width, form) for value, width in limits)
    devices = b"".join(number_field(value, 8, form) for value in (entry.major, entry.minor))
    ustar = form.name != V7
    block = (
        name[:_NAME].ljust(_NAME, b"\0")
        + numbers
        + b" " * 8
        + (entry.kind if ustar or entry.kind not in (FILE, DIRECTORY) else b"\0")
        + entry.target[:_NAME].ljust(_NAME, b"\0")
        + _MAGICS[form.name]
        + (entry.uname[:_OWNER_NAME].ljust(_OWNER_NAME, b"\0") if ustar else b"")
        + (entry.gname[:_OWNER_NAME].ljust(_OWNER_NAME, b"\0") if ustar else b"")
        + (devices if ustar else b"")
        + (prefix if form.name in (USTAR, PAX) else b"")
    ).ljust(BLOCK, b"\0")
    return summed(block, signed=form.signed)


def summed(block: bytes, *, signed: bool = False) -> bytes:
    """A header block with its checksum."""
    bare = block[:148] + b" " * 8 + block[156:]
    total = sum(bare)
    as_signed = total - 256 * sum(byte > 127 for byte in bare)
    if signed and as_signed >= 0:  # a field of octal digits has no sign
        total = as_signed
    return bare[:148] + b"%06o\0 " % total + bare[156:]


def number_field(value: int, width: int, form: Form) -> bytes:
    """A number in octal digits; in base 256 where they do not suffice, or always, in the form of GNU tar.

    In the other forms a number that does not fit is 0 in the header.
    """
    before, end = DIGITS[form.digits]
    fits = _fits(value, width, form)
    if form.name == GNU and (form.always or not fits):
        return bytes([0xFF if value < 0 else 0x80]) + value.to_bytes(width - 1, "big", signed=True)
    return (b"%o" % (value if fits else 0)).rjust(width - len(end), before) + end


def _fits(value: int, width: int, form: Form) -> bool:
    most: int = 8 ** (width - max(1, len(DIGITS[form.digits][1])))
    return 0 <= value < most


def has_room(entry: Tarred) -> bool:
    """Whether the form of an entry can say its names and numbers; a fraction of a second counts for nothing."""
    form = entry.form
    if form.name in (GNU, PAX):
        return True
    ids = _fits(entry.uid, 8, form) and _fits(entry.gid, 8, form)
    if not ids or not _fits(entry.mtime // 10**9, 12, form) or len(entry.target) > _NAME:
        return False
    if form.name == V7:
        return len(entry.name) < _NAME and entry.kind in (FILE, HARD_LINK, SYMLINK, DIRECTORY)
    return split(entry.name) is not None and max(len(entry.uname), len(entry.gname)) <= _OWNER_NAME
