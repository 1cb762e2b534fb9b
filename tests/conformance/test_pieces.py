"""A file that arrives in pieces: what each read of the pipe gives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from conformance.lab.pieces import pipe_of

DATA = bytes(range(256)) * 8


@pytest.mark.parametrize(
    ("sizes", "reads"), [((1,), [1] * 2048), ((511,), [511] * 4 + [4]), ((1000, 24), [1000, 24, 1000, 24])]
)
def test_each_read_gives_a_piece(sizes: Sequence[int], reads: list[int], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    with pipe_of(file, sizes, tmp_path) as pipe:
        descriptor = os.open(pipe, os.O_RDONLY)
        try:
            found = list(iter(lambda: os.read(descriptor, 4096), b""))
        finally:
            os.close(descriptor)
    assert b"".join(found) == DATA
    assert [len(one) for one in found] == reads
