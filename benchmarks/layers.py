"""The layers that the benchmarks work on: those of the benchmarks that drivers of this field publish."""

from __future__ import annotations

import os
import random
from pathlib import Path

from refdriver import Driver

FILES_A_DIRECTORY = 100


def add_mixed_files(driver: Driver, layer_id: str) -> None:
    """Three files of 64 bytes, 128 bytes and 16 KiB, one of them in a directory."""
    root = Path(driver.get(layer_id))
    numbers = random.Random(layer_id)
    (root / "file-a").write_bytes(numbers.randbytes(64))
    (root / "dir-b").mkdir()
    (root / "dir-b" / "file-b").write_bytes(numbers.randbytes(128))
    (root / "file-c").write_bytes(numbers.randbytes(16 * 1024))
    driver.put(layer_id)


def add_many_files(driver: Driver, layer_id: str, count: int) -> None:
    """``count`` files of 64 bytes, 100 a directory, each with content of its own."""
    root = driver.get(layer_id)
    numbers = random.Random(layer_id)
    for number in range(count):
        directory = f"{root}/directory-{number // FILES_A_DIRECTORY}"
        if number % FILES_A_DIRECTORY == 0:
            os.makedirs(directory, exist_ok=True)
        Path(f"{directory}/file-{number}").write_bytes(numbers.randbytes(64))
    driver.put(layer_id)


def add_many_layers(driver: Driver, base: str, count: int) -> str:
    """``count`` layers over ``base``, each with two files of its own and one that all of them write; the top."""
    parent = base
    for number in range(count):
        layer_id = f"{base}-{number}"
        driver.create(layer_id, parent)
        root = Path(driver.get(layer_id))
        (root / "top-id").write_text(layer_id)
        directory = root / f"layer-{number}"
        directory.mkdir()
        (directory / "layer-id").write_text(layer_id)
        (directory / "parent-id").write_text(parent)
        driver.put(layer_id)
        parent = layer_id
    return parent
