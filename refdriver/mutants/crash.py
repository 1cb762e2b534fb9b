"""Mutants of crashes of the reference driver."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, Final

from refdriver import layers, trees
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant

_DISKS: Final = "device-mapper"


@mutant(
    breaks=("OVL-CRASH-AGAIN",),
    source="containers/storage#326: an empty link",
    backing="ext4",
    hard=True,
    needs=_DISKS,
)
class CreateRenamesUnsyncedFiles(Patched):
    """The files link and lower are renamed into place before they are on the disk."""

    @staticmethod
    @replaces(layers._write)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Write, and sync nothing."""
        del original, kwargs
        path, text, mode = args
        with open(path, "x") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)


@mutant(
    breaks=("OVL-CRASH-POWER-APPLY",), source="containers/storage#1136", backing="ext4", hard=True, needs=_DISKS
)
class ApplyRenamesUnsyncedTree(Patched):
    """What was unpacked is renamed into place before it is on the disk."""

    @staticmethod
    @replaces(trees.written_out)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nothing at the end."""
        del original, args, kwargs
        return contextlib.nullcontext()
