"""A question, and the layers that it is asked of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conformance.observing.seeing import Reading
from conformance.operations.archives import Entry

REFUSED: Final = "refused"
SILENT: Final = "silent"
OPAQUE: Final = ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that is asked; ``name`` is its name in files, ``asks`` the words of a table."""

    name: str
    asks: str
    read: Reading
    says: str = SILENT
    right: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Layers, as entries or as the bytes of an archive, the base first, and the questions about their tree.

    ``root`` says that only root can do what the entries say.
    """

    name: str
    layers: tuple[tuple[Entry, ...] | bytes, ...]
    questions: tuple[Question, ...]
    root: bool = False
