from __future__ import annotations

import os
from pathlib import Path

from refdriver import Driver
from refdriver.linux import mountinfo


def mounted_below(directory: Path) -> list[str]:
    """Mount points below a directory, without the home's own private mount."""
    return [m.target for m in mountinfo.below(mountinfo.read_mounts(), str(directory)) if m.fstype == "overlay"]


def everything_in(directory: Path) -> set[str]:
    """Every path below a directory, so that two moments can be compared."""
    found = set()
    for root, directories, files in os.walk(directory):
        found |= {os.path.join(root, name) for name in (*directories, *files)}
    return found


def write(driver: Driver, layer_id: str, **files: str) -> None:
    """Put files into a layer through its mount."""
    root = Path(driver.get(layer_id))
    try:
        for name, text in files.items():
            (root / name).write_text(text)
    finally:
        driver.put(layer_id)


def read(driver: Driver, layer_id: str) -> dict[str, str]:
    """The files at the root of a layer."""
    root = Path(driver.get(layer_id))
    try:
        return {path.name: path.read_text() for path in sorted(root.iterdir()) if path.is_file()}
    finally:
        driver.put(layer_id)


def build_chain(driver: Driver, length: int) -> list[str]:
    """A chain of layers, each of which adds one file and overwrites "top"."""
    ids = [f"layer-{number}" for number in range(length)]
    for number, layer_id in enumerate(ids):
        driver.create(layer_id, ids[number - 1] if number else "")
        write(driver, layer_id, **{f"file-{number}": f"{number}", "top": f"{number}"})
    return ids


def chain_content(length: int) -> dict[str, str]:
    """What :func:`build_chain` leaves at its top."""
    return {f"file-{number}": f"{number}" for number in range(length)} | {"top": f"{length - 1}"}
