"""The notes in the cache of what was made: ``built.json`` for Vagrant, ``uml.json`` for user-mode Linux."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from conformance.spec.values import as_plain, from_plain

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made:
    """What the Vagrantfile reads: each machine's box, files of its kernel and release, and the accelerator."""

    machines: Mapping[str, Mapping[str, str]]
    accelerator: str


@dataclass(frozen=True, slots=True)
class MadeUml(Made):
    """The same of user-mode Linux, with images for boxes: also the key of its user, and the MiB of each machine."""

    key: str
    memory: int


def write(note: Path, made: Made) -> None:
    """Write a note, whole or not at all."""
    partial = note.with_suffix(".partial")
    partial.write_text(json.dumps(as_plain(made), indent=1) + "\n")
    partial.rename(note)


def read(note: Path, kind: type[T]) -> T:
    """Back from :func:`write`; raises OSError, ValueError, and BadValue for the note of another version."""
    return from_plain(kind, json.loads(note.read_text()))
