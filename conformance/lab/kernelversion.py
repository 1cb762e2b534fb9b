"""The release of the running kernel, as numbers."""

from __future__ import annotations

import os
import re


def at_least(release: str) -> bool:
    """Whether the running kernel is ``MAJOR.MINOR`` or later."""
    return numbers(os.uname().release) >= numbers(release)


def numbers(release: str) -> tuple[int, ...]:
    """The first two numbers of a release; () when it has none."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return tuple(map(int, match.groups())) if match else ()
