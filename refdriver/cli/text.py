"""Names of any bytes as text that a terminal, a line of a file and JSON can hold, without loss.

And id maps from text.
"""

from __future__ import annotations

from refdriver.errors import BadOption
from refdriver.idmap import IdMap


def id_map(text: str) -> IdMap:
    """Read ``CONTAINER:HOST:SIZE``; raises BadOption."""
    fields = text.split(":")
    if len(fields) != 3 or not all(field.isascii() and field.isdigit() for field in fields):
        raise BadOption(f"id map {text!r} is not CONTAINER:HOST:SIZE, three whole numbers")
    return IdMap(*map(int, fields))


def printable(name: bytes) -> str:
    r"""A name as text: printable UTF-8 as it is, each byte of anything else as ``\xNN``, a backslash as ``\\``.

    Two names never give the same text; docs/driver.md shows how to go back.
    """
    text = name.decode("utf-8", "surrogateescape")
    return "".join(_escape(character) for character in text)


def one_line(message: str) -> str:
    """A message without what could break a line or steer a terminal. For people: not to be read back."""
    return "".join(character if character.isprintable() else _bytes_of(character) for character in message)


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    return character if character.isprintable() else _bytes_of(character)


def _bytes_of(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
