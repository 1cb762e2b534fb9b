"""The parameters of the kernel's module overlay, which native diff and much else depends on (overlayfs.rst)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_DIRECTORY: Final = Path("/sys/module/overlay/parameters")


def parameters() -> dict[str, str]:
    """Each by its name, as the kernel writes it; none where overlay is not there yet."""
    if not _DIRECTORY.is_dir():
        return {}
    return {one.name: one.read_text().strip() for one in sorted(_DIRECTORY.iterdir())}
