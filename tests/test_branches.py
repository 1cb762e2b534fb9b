"""The list of the branches that the suite does not execute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.branches import BadUncovered, branches_of, listed_in, stale, statements_of, table_of, unexplained
from conformance.selftest.generated.mutants import modules_of

ROOT = Path(__file__).parent.parent

SOURCE = """\
class Reader:
    def read(self, size):
        if (
            size < 0
            and size != -1
        ):  # two lines
            raise ValueError
        for one in range(size):
            print(one)
"""
ENTRY = """\
[[uncovered]]
module = "reader"
function = "Reader.read"
line = "if ( size < 0 and size != -1 ):"
target = "raise ValueError"
kind = "failure"
reason = "Nobody asks for less."
"""


def listed(directory: Path, text: str) -> Path:
    (directory / "uncovered.toml").write_text(text)
    return directory / "uncovered.toml"


def test_a_branch_is_named_by_texts(tmp_path: Path) -> None:
    branches = branches_of("reader", SOURCE, [(3, 8), (8, 9)], [(3, 7), (8, -2)])
    assert [(one.function, one.target, one.executed) for one in branches] == [
        ("Reader.read", "raise ValueError", False),
        ("Reader.read", "for one in range(size):", True),
        ("Reader.read", "exit", False),
        ("Reader.read", "print(one)", True),
    ]
    entries = listed_in(listed(tmp_path, ENTRY))
    assert [one.target for one in unexplained(entries, branches)] == ["exit"]
    assert not stale(entries, branches)
    # Elsewhere in the file it is the same branch.
    moved = branches_of("reader", "import os\n" + SOURCE, [(4, 9), (9, 10)], [(4, 8), (9, -3)])
    assert [one.target for one in unexplained(entries, moved)] == ["exit"]


@pytest.mark.parametrize("change", [{"module": "writer"}, {"function": "read"}, {"line": "if"}, {"target": "exit"}])
def test_an_entry_that_is_of_no_branch_is_stale(tmp_path: Path, change: dict[str, str]) -> None:
    branches = branches_of("reader", SOURCE, [(3, 8)], [(3, 7)])
    (entry,) = listed_in(listed(tmp_path, ENTRY))
    assert stale([replace(entry, **change)], branches)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('reason = "Nobody asks for less."', 'reason = " "'),
        ('kind = "failure"', 'kind = "rare"'),
        ('function = "Reader.read"\n', ""),
        ('line = "if ( size < 0 and size != -1 ):"\n', ""),
        ('kind = "failure"\n', 'kind = "failure"\nnumber = 3\n'),
    ],
)
def test_an_entry_that_says_too_little_is_refused(tmp_path: Path, old: str, new: str) -> None:
    assert old in ENTRY
    with pytest.raises(BadUncovered, match=r"uncovered\.toml"):
        listed_in(listed(tmp_path, ENTRY.replace(old, new)))


def test_the_list_of_the_reference_driver_is_of_its_source() -> None:
    """An entry names a statement of its function, and one of the same function that it goes to."""
    sources = {one.name: statements_of(one.source) for one in modules_of("refdriver:Driver")}
    wrong = [
        entry
        for entry in listed_in(ROOT / "refdriver" / "mutants" / "uncovered.toml")
        for text in filter(None, (entry.line, "" if entry.target == "exit" else entry.target))
        if (entry.function, text) not in sources.get(entry.module, ())
    ]
    assert wrong == []


def test_an_entry_of_another_function_is_not_of_the_source() -> None:
    (entry,) = statements_of("def read():\n    return 1\n") - {("", ""), ("read", "def read():")}
    assert entry == ("read", "return 1")


def test_the_page_has_the_list() -> None:
    """Write it with: python -c 'from benchmarks import branches as b; print(b.table_of(b.listed_in(FILE)))'."""
    page = (ROOT / "docs" / "selftest.md").read_text()
    assert table_of(listed_in(ROOT / "refdriver" / "mutants" / "uncovered.toml")) in page
