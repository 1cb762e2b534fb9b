"""What all tests share: real mounts are made in a private mount namespace, which dies with the process."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from refdriver import trees
from refdriver.linux import libc


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "mounts: makes real mounts, so it needs root")
    # A shell without job control starts what is in the background with Ctrl-C ignored, and children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.geteuid() == 0:
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("mounts"):
            item.add_marker(pytest.mark.skip(reason="needs root for real mounts; run with sudo"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory on a filesystem that overlay can use as upper, gone after the test with what it holds."""
    path = Path(tempfile.mkdtemp(prefix="overlay-conformance-test-"))
    yield path.resolve()
    trees.remove_tree(str(path.resolve()))
