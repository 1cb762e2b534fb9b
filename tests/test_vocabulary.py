"""The documents use the field's words: the left column of the vocabulary does not come back.

Pages that a command writes are tested where their text comes from. docs/glossary.md has the words to use.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
WRITTEN_BY_COMMANDS: Final = {"kill-matrix.md", "neighbours.md", "specification.md"}
DOCUMENTS: Final = [
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")) if path.name not in WRITTEN_BY_COMMANDS
]
USE_INSTEAD: Final = {
    r"at a time": "concurrent, or in parallel",
    r"by pretence|pretend(s|ed|ing)?": "simulated",
    r"breakout|leads? (out|nowhere)": "path traversal, escape",
    r"bug \d+": "the bug's own reference",
    r"comes? and goe?s?": "flaky",
    r"cs#\d+": "containers/storage#NUMBER",
    r"driver-facts|errat(um|a)": "a page of this repository, or the source itself",
    r"ends? with (\d|code|status)": "exits with status",
    r"faulty (driver|one)s?": "mutant",
    r"forgo(es|ne)?": "waives",
    r"(is|are|was|were) told": "reports, prints",
    r"lanes?": "privilege level",
    r"ma[dk]e smaller|smallest (steps|case)": "shrink, minimal example",
    r"not reached": "untested",
    r"put right": "fixed",
    r"stores? of others": "image store",
}


def old_words(text: str) -> list[str]:
    """The words of the left column in a text, each with what to use."""
    prose = " ".join(text.split())
    return [
        f"{found[0]!r}: use {instead}"
        for pattern, instead in USE_INSTEAD.items()
        for found in re.finditer(rf"\b({pattern})\b", prose, re.IGNORECASE)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_uses_the_words_of_the_field(document: Path) -> None:
    assert old_words(document.read_text()) == []


@pytest.mark.parametrize(
    "text", ["Two callers at\na time", "it ends with 1", "a Faulty driver", "failures that come and go", "lane 1"]
)
def test_an_old_word_is_found(text: str) -> None:
    assert len(old_words(text)) == 1
