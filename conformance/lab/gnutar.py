"""GNU tar, as a reader of archives that no driver has a part in."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_LIST: Final = ("--list", "--verbose", "--full-time", "--utc", "--numeric-owner", "--quoting-style=c")
_SECONDS: Final = 60


class NoAnswer(Exception):
    """GNU tar refuses the archive; the text is what it says."""


@functools.cache
def is_here() -> bool:
    """Whether the command tar is there, and is that of GNU."""
    if shutil.which("tar") is None:
        return False
    said = subprocess.run(["tar", "--version"], capture_output=True, check=False, timeout=_SECONDS).stdout
    return b"GNU tar" in said


def list_and_contents(archive: Path) -> tuple[str, bytes]:
    """The list of an archive's entries, and the contents of its files one behind the other; raises NoAnswer."""
    listing = _run(*_LIST, "--file", str(archive))
    return listing.decode("ascii", "replace"), _run("--extract", "--to-stdout", "--file", str(archive))


def _run(*words: str) -> bytes:
    done = subprocess.run(
        ["tar", "--force-local", *words],
        capture_output=True,
        check=False,
        timeout=_SECONDS,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        raise NoAnswer(f"GNU tar: {done.stderr.decode('utf-8', 'replace').strip()[:300]}")
    return done.stdout
