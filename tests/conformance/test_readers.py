"""The two readers of archives agree on what the suite judges a driver by."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.lab import gnutar
from conformance.operations import readers
from conformance.suites import tarcases
from conformance.suites.tarcases import TarCase

CASES = [*tarcases.NAMES, *tarcases.KINDS, *tarcases.NUMBERS, *tarcases.RECORDS, *tarcases.SECOND_GLOBAL_HEADER]


def read_by_both(data: bytes, directory: Path) -> tuple[readers.Reading, readers.Reading]:
    file = directory / "archive.tar"
    file.write_bytes(data)
    return readers.by_tarfile(data), readers.by_gnu_tar(*gnutar.list_and_contents(file))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_readers_agree(case: TarCase, tmp_path: Path) -> None:
    one, other = read_by_both(tarcases.joined([case]), tmp_path)
    assert readers.disagreement(one, other) == ""
    assert one.entries[-1].name == b"last"


@pytest.mark.parametrize("data", tarcases.ENDS.values(), ids=tarcases.ENDS.keys())
def test_the_readers_agree_on_ends(data: bytes, tmp_path: Path) -> None:
    one, other = read_by_both(data, tmp_path)
    assert readers.disagreement(one, other) == ""
    assert [entry.name for entry in one.entries] == [b"last"]
