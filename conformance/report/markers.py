"""Pages with a part that a command writes, between two markers."""

from __future__ import annotations

from typing import Final

END: Final = "<!-- until here -->"


def between(text: str, begin: str, made: str) -> str:
    """A page with the part behind the marker ``begin`` replaced, up to END; without it, it is added at the end."""
    before, found, rest = text.partition(begin)
    _, _, after = rest.partition(END)
    before = before if found else text.rstrip("\n") + "\n\n"
    return f"{before}{begin}\n\n{made}\n{END}{after or chr(10)}"
