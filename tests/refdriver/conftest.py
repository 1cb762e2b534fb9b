"""A driver on a real filesystem, and what is left of it afterwards: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refdriver import Driver


@pytest.fixture
def home(scratch: Path) -> Path:
    return scratch / "home"


@pytest.fixture
def driver(home: Path) -> Iterator[Driver]:
    with Driver(home) as opened:
        yield opened
