# ruff: noqa: ARG002 # the arguments are those of docs/adapters.md
"""A first driver, as its author writes it from docs/adapters.md alone: each layer is a copy of its parent's tree.

It knows no whiteouts, and keeps neither owners, links nor attributes. Tests measure what its author reads.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any


class Kind(Enum):
    """What became of a path."""

    ADD = 1
    MODIFY = 2
    DELETE = 3


@dataclass
class Change:
    """An entry of ``changes``."""

    path: bytes
    kind: Kind


class Driver:
    """A directory for each layer below the home."""

    def __init__(self, home: str, **asked: Any) -> None:
        self.home = Path(home)
        self.home.mkdir(parents=True, exist_ok=True)

    def _tree(self, layer_id: str) -> Path:
        return self.home / layer_id / "tree"

    def create(self, layer_id: str, parent: str = "", options: Any = None) -> None:
        """Copy the parent's tree."""
        if parent:
            shutil.copytree(self._tree(parent), self._tree(layer_id))
        else:
            self._tree(layer_id).mkdir(parents=True)
        (self.home / layer_id / "parent").write_text(parent)

    def create_read_write(self, layer_id: str, parent: str = "", options: Any = None) -> None:
        """The same."""
        self.create(layer_id, parent)

    def remove(self, layer_id: str) -> None:
        """Delete the layer's directory."""
        shutil.rmtree(self.home / layer_id)

    def get(self, layer_id: str, label: str = "") -> str:
        """Nothing is mounted."""
        return str(self._tree(layer_id))

    def put(self, layer_id: str) -> None:
        """Nothing is mounted."""

    def exists(self, layer_id: str) -> bool:
        """Whether the directory is there."""
        return self._tree(layer_id).exists()

    def status(self) -> dict[str, str]:
        """What this is."""
        return {"driver": "naive"}

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Where the tree is."""
        return {"tree": str(self._tree(layer_id))}

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """An archive of the changed files."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for change in self.changes(layer_id, parent):
                if change.kind is not Kind.DELETE:
                    name = os.fsdecode(change.path).lstrip("/")
                    tar.add(self._tree(layer_id) / name, name, recursive=False)
        archive.seek(0)
        return archive

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Unpack an archive."""
        with tarfile.open(fileobj=archive, mode="r|*") as tar:
            tar.extractall(self._tree(layer_id))
        return self.diff_size(layer_id, parent)

    def diff_size(self, layer_id: str, parent: str = "") -> int:
        """The bytes of the changed files."""
        sizes = 0
        for change in self.changes(layer_id, parent):
            path = self._tree(layer_id) / os.fsdecode(change.path).lstrip("/")
            if path.is_file():
                sizes += path.stat().st_size
        return sizes

    def changes(self, layer_id: str, parent: str = "") -> list[Change]:
        """Compare the tree with the parent's."""
        new = set(self._paths(self._tree(layer_id)))
        old = set(self._paths(self._tree(parent))) if parent else set()
        found = [Change(b"/" + path, Kind.ADD) for path in sorted(new - old)]
        found += [Change(b"/" + path, Kind.DELETE) for path in sorted(old - new)]
        for path in sorted(new & old):
            one, other = (self._tree(name) / os.fsdecode(path) for name in (layer_id, parent))
            if one.is_file() and (not other.is_file() or one.read_bytes() != other.read_bytes()):
                found.append(Change(b"/" + path, Kind.MODIFY))
        return found

    def cleanup(self) -> None:
        """Nothing is mounted."""

    def _paths(self, tree: Path) -> Iterator[bytes]:
        for root, directories, files in os.walk(tree):
            for name in [*directories, *files]:
                yield os.fsencode(os.path.relpath(os.path.join(root, name), tree))
