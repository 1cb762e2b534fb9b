"""Result files, as somebody without this project would read them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

_PROGRESS: Final = re.compile(r"overlay-conformance: \d+ s, ")


def records(path: Path, kind: str) -> list[dict[str, Any]]:
    """The records of a kind, in their order."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["record"] == kind]


def verdicts(path: Path) -> dict[str, str]:
    """The verdict on each requirement."""
    return {one["requirement"]: one["verdict"] for one in records(path, "result")}


def without_progress(said: str) -> str:
    """What a command printed on standard error, without the line that a run prints every ten seconds."""
    return "".join(line for line in said.splitlines(keepends=True) if not _PROGRESS.match(line))
