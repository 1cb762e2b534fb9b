"""A driver on a real filesystem, and what is left of it afterwards: nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugging import Client, started

from refdriver import Driver


@pytest.fixture
def home(scratch: Path) -> Path:
    return scratch / "home"


@pytest.fixture
def driver(home: Path) -> Iterator[Driver]:
    with Driver(home) as opened:
        yield opened


@pytest.fixture
def server(scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = started(scratch / "plugin.sock")
    yield process
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture
def client(server: subprocess.Popen[bytes], scratch: Path) -> Client:
    del server
    found = Client(str(scratch / "plugin.sock"))
    found.done("Init", Home=str(scratch / "home"), Opts=[])
    return found
