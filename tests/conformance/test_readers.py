"""The two readers of archives agree on what the suite judges a driver by."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.lab import gnutar
from conformance.operations import readers
from conformance.operations.tarforms import archive_of
from conformance.operations.tarstrategies import archives
from conformance.suites import opencases, tarcases
from conformance.suites.opencases import OpenCase
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


@pytest.mark.parametrize("case", [one for one in opencases.OPEN if not one.disputed], ids=lambda case: case.name)
def test_the_readers_agree_on_what_is_not_disputed(case: OpenCase, tmp_path: Path) -> None:
    assert readers.disagreement(*read_by_both(case.data, tmp_path)) == ""


@pytest.mark.parametrize("case", opencases.OPEN, ids=lambda case: case.name)
def test_what_is_open_is_a_tree_or_not_read(case: OpenCase) -> None:
    """udocker takes an archive with a hard link whose target no path can name."""
    with contextlib.suppress(readers.NotRead):
        assert readers.by_tarfile(case.data).tree().nodes


def test_a_hard_link_without_its_target_is_no_tree() -> None:
    link = readers.Read(b"link", "h", 0o644, 0, 0, 0, 0, b"missing", (0, 0))
    with pytest.raises(readers.NotRead, match="a hard link to b'missing', of which there is no entry"):
        readers.Reading((link,), b"").tree()


@settings(max_examples=50, deadline=None, database=None)
@given(st.data())
def test_the_readers_agree_on_what_is_drawn(data: st.DataObject) -> None:
    entries = data.draw(archives(privileged=True))
    with tempfile.TemporaryDirectory() as directory:
        one, other = read_by_both(archive_of(entries), Path(directory))
    assert readers.disagreement(one, other) == ""
    names = [readers.cleaned(entry.name) for entry in entries]
    assert [entry.name for entry in one.entries] == names
    assert [entry.size for entry in one.entries] == [len(entry.content) for entry in entries]
    assert [entry.target for entry in one.entries] == [entry.target for entry in entries]
    fields = [(entry.uid, entry.gid, entry.mode & 0o7777, entry.mtime) for entry in entries]
    assert [(entry.uid, entry.gid, entry.mode, entry.mtime) for entry in one.entries] == fields
