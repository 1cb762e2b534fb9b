"""Text of a driver, a file name or a kernel, made safe for whoever prints it.

A driver's words may hold anything: control characters and escape sequences that a terminal obeys, bidi marks that
reorder a line, bytes that are no UTF-8, and the markup of whatever page they end up on. Every report passes them
through one of these functions; result files, which are ASCII JSON, keep the words as they came.

A character is printable if ``str.isprintable`` says so: it is the space, or its Unicode category is none of Cc, Cf,
Cs, Co, Cn, Zl, Zp and Zs. Such a character is legal in XML 1.0 and can be encoded. Any other becomes an escape of
Python.
"""

from __future__ import annotations

import re
from typing import Final

LIMIT: Final = 64 << 10  # characters of one text that a report keeps
_SPECIAL: Final = re.compile(r"[\\`*_\[\]~!#]")
_ENTITIES: Final = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("|"): "&#124;"}


def printable(text: str | bytes, *, lines: bool = False) -> str:
    r"""The same text, with escapes for what is not printable; with ``lines``, line feeds stay.

    Bytes are taken as UTF-8; those that are not, alone or as surrogates of os.fsdecode, become ``\xNN``.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or (lines and one == "\n") else _escape(one) for one in text)


def _escape(one: str) -> str:
    if "\udc80" <= one <= "\udcff":
        return f"\\x{ord(one) - 0xDC00:02x}"
    return one.encode("unicode_escape").decode("ascii")


def cut(text: str, limit: int = LIMIT) -> str:
    """The text; of one longer than ``limit`` characters the beginning and the end, and how much is left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... ({len(text) - 2 * half} characters left out) ...\n{text[-half:]}"


def one_line(text: str) -> str:
    """A text as one printable line: line feeds become spaces."""
    return printable(text.replace("\n", " "))


def markdown(text: str) -> str:
    """A text as one line of Markdown, also within a table: no character of it is markup."""
    return _SPECIAL.sub(r"\\\g<0>", one_line(text)).translate(_ENTITIES)


def fenced(text: str, language: str = "") -> list[str]:
    """The lines of a code block of Markdown with a text that cannot end it."""
    said = printable(text, lines=True)
    ticks = max((len(one) for one in re.findall("`+", said)), default=0)
    fence = "`" * max(3, ticks + 1)
    return [fence + language, *said.split("\n"), fence]
