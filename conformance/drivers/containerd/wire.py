"""The wire format of Protocol Buffers, as much of it as containerd's messages need.

Generated code is bound to the version of the library that it was generated for; these sixty lines are bound to
the format, which does not change (https://protobuf.dev/programming-guides/encoding). A message is a dataclass
whose fields carry their numbers. Text is bytes to this code: a path need not be UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, TypeVar

_T = TypeVar("_T")
_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one value of a field is written and read; ``repeated`` is a list or a dict of such values."""

    wire_type: int
    dump: Callable[[Any], bytes]
    load: Callable[[Any], Any]
    repeated: type[list[Any]] | type[dict[str, str]] | None = None


def text(number: int) -> str:
    """A field with text."""
    return field(default="", metadata={"number": number, "codec": _TEXT})


def blob(number: int) -> bytes:
    """A field with bytes."""
    return field(default=b"", metadata={"number": number, "codec": _Codec(_BYTES, bytes, bytes)})


def integer(number: int) -> int:
    """A field with a number that is not negative, an enumeration or a truth value."""
    return field(default=0, metadata={"number": number, "codec": _Codec(_VARINT, _varint, int)})


def one(number: int, kind: type[_T]) -> _T:
    """A field with a message in it; it is always there, as an empty one is the same as none."""
    codec = _Codec(_BYTES, encode, lambda data: decode(kind, data))
    return field(default_factory=kind, metadata={"number": number, "codec": codec})


def many(number: int, kind: type[_T]) -> list[_T]:
    """A field with messages in it."""
    codec = _Codec(_BYTES, encode, lambda data: decode(kind, data), repeated=list)
    return field(default_factory=list, metadata={"number": number, "codec": codec})


def texts(number: int) -> list[str]:
    """A field with several texts."""
    codec = _Codec(_BYTES, _TEXT.dump, _TEXT.load, repeated=list)
    return field(default_factory=list, metadata={"number": number, "codec": codec})


def pairs(number: int) -> dict[str, str]:
    """A map from text to text: on the wire, messages of a key (1) and a value (2)."""
    codec = _Codec(_BYTES, lambda pair: encode(_Pair(*pair)), lambda data: decode(_Pair, data), repeated=dict)
    return field(default_factory=dict, metadata={"number": number, "codec": codec})


_TEXT: Final = _Codec(
    _BYTES,
    lambda value: value.encode("utf-8", "surrogateescape"),
    lambda data: data.decode("utf-8", "surrogateescape"),
)


@dataclass
class _Pair:
    key: str = text(1)
    value: str = text(2)


def encode(message: Any) -> bytes:
    """A message as bytes."""
    return b"".join(_encoded(each, getattr(message, each.name)) for each in fields(message))


def decode(kind: type[_T], data: bytes) -> _T:
    """A message from bytes; fields that ``kind`` does not know are left out. Raises ValueError."""
    message = kind()
    known = {each.metadata["number"]: each for each in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    for number, wire_type, value in _items(data):
        each = known.get(number)
        if each is None or each.metadata["codec"].wire_type != wire_type:
            continue
        _put(message, each, each.metadata["codec"].load(value))
    return message


def _put(message: object, each: Field[Any], value: Any) -> None:
    repeated = each.metadata["codec"].repeated
    if repeated is list:
        getattr(message, each.name).append(value)
    elif repeated is dict:
        getattr(message, each.name)[value.key] = value.value
    else:
        setattr(message, each.name, value)


def _encoded(each: Field[Any], value: Any) -> bytes:
    codec: _Codec = each.metadata["codec"]
    tag = _varint(each.metadata["number"] << 3 | codec.wire_type)
    if codec.repeated is None:
        values = [value] if value else []  # what has its default value is not written
    else:
        values = list(value.items()) if codec.repeated is dict else value
    dumped = [codec.dump(one_value) for one_value in values]
    return b"".join(tag + (_varint(len(data)) if codec.wire_type == _BYTES else b"") + data for data in dumped)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _items(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and value of every field in a message."""
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, position = _read_varint(data, position)
            yield tag >> 3, wire_type, value
            continue
        if wire_type == _BYTES:
            length, position = _read_varint(data, position)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"no message: a field of wire type {wire_type}")
        if position + length > len(data):
            raise ValueError("no message: it ends within a field")
        yield tag >> 3, wire_type, data[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("no message: it ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise ValueError("no message: a number of more than ten bytes")
