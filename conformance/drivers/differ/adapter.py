"""A command that writes the archive of a layer from two directories, as a driver.

The harness keeps the layers as whole trees, and applies archives to them; the command writes diffs. What is judged
is what the command writes: of itself, and by what the model makes of it. What the harness does is declined.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from conformance.drivers.connection import Kind, declined_in, parse_arguments
from conformance.drivers.differ import trees
from conformance.drivers.differ.script import Differing
from conformance.drivers.protocol import Change, DriverFailed, DriverInfo, DriverRefused, OpenRequest
from conformance.drivers.source import DriverSource
from conformance.drivers.unpacker import running
from conformance.drivers.unpacker.adapter import is_here, version_of
from conformance.drivers.unpacker.tool import TAR, Tool, differ_of
from conformance.lab.removal import remove_tree

_HARNESS: Final = "the harness keeps the layers of a differ, as directories, and applies archives to them"
_NONE: Final = "a differ writes archives; it has nothing for this"
_DECLINED: Final = {
    **dict.fromkeys(
        (
            "applied-size",
            "apply-stream",
            "aufs-metadata",
            "bare-home",
            "busy-parents",
            "counted-gets",
            "home-layout",
            "ids-are-paths",
            "layer-store",
            "nested-whiteouts",
            "own-layers",
            "own-trees",
            "processes",
            "shared-home",
        ),
        _HARNESS,
    ),
    **dict.fromkeys(
        (
            "changes",
            "create-options",
            "diff-size",
            "empty-ids",
            "gates-backing",
            "gates-kernel",
            "gates-zfs",
            "id-maps",
            "image-mounts",
            "image-stores",
            "kernel-overlay",
            "labels",
            "layer-limits",
            "layer-options",
            "limit-128",
            "metadata",
            "options",
            "overlay",
            "own-mounts",
            "status",
        ),
        _NONE,
    ),
}


def source(arguments: str) -> DriverSource:
    """``COMMAND``; raises BadConnection, and OSError when a command is missing."""
    connection = parse_arguments("differ", arguments)
    tool = differ_of(connection)
    missing = [one for one in tool.needs if not is_here(one)]
    if missing:
        raise OSError(f"there is no command {missing[0]!r}" + (f"; {tool.install}" if tool.install else ""))
    return DriverSource(
        DriverInfo(
            f"differ:{arguments}", version_of(tool), {**_DECLINED, **tool.decline, **declined_in(connection)}
        ),
        lambda request: _Differ(tool, request),
        dialect=Differing(tool),
        next_step="docs/listers.md explains how to run the command by hand",
    )


class _Differ:
    """A directory for each layer, with its parent's name and its whole tree."""

    def __init__(self, tool: Tool, request: OpenRequest) -> None:
        self._tool = tool
        self._request = request
        self._layers = request.directory / "layers"
        self._work = request.directory / "work"
        self._layers.mkdir(parents=True, exist_ok=True)

    def _place(self, layer_id: str) -> Path:
        return self._layers / f"layer-{quote(layer_id, safe='')}"

    def _known(self, layer_id: str) -> Path:
        place = self._place(layer_id)
        if not place.is_dir():
            raise DriverRefused(f"there is no layer {layer_id!r}")
        return place

    @property
    def home(self) -> str:
        return str(self._layers)

    @property
    def image_store(self) -> str:
        return str(self._layers)

    def create(
        self, layer_id: str, parent: str, options: Mapping[str, str] | None = None, *, read_write: bool = True
    ) -> None:
        del read_write
        if options:
            raise DriverRefused("a layer of a differ has no options")
        place = self._place(layer_id)
        if place.exists():
            raise DriverRefused(f"there is a layer {layer_id!r} already")
        below = self._known(parent) / "tree" if parent else None
        place.mkdir()
        if below:
            running.run(["cp", "-a", "--", str(below), str(place / "tree")], self._request.limit, "create")
        else:
            (place / "tree").mkdir()
            (place / "tree").chmod(0o755)

    def remove(self, layer_id: str) -> None:
        remove_tree(self._known(layer_id))

    def exists(self, layer_id: str) -> bool:
        return self._place(layer_id).is_dir()

    def get(self, layer_id: str, label: str = "") -> str:
        if label:
            raise DriverRefused("a differ takes no label")
        return str(self._known(layer_id) / "tree")

    def put(self, layer_id: str) -> None:
        self._known(layer_id)

    def diff(self, layer_id: str, parent: str, archive: Path) -> None:
        upper = self._known(layer_id) / "tree"
        self._begin()
        empty = self._work / "empty"
        empty.mkdir()
        empty.chmod(0o755)
        lower = self._known(parent) / "tree" if parent else empty
        archive.unlink(missing_ok=True)
        values = {"lower": lower, "upper": upper, "archive": archive, "work": self._work / "own"}
        text = self._tool.filled({name: [str(path)] for name, path in values.items()})
        printed = archive if self._tool.result == TAR else None
        try:
            running.run(running.words_of(text, self._work, printed), self._request.limit, "diff")
        finally:
            remove_tree(self._work)
        if not archive.is_file():
            raise DriverFailed("the command left no {archive}")

    def _begin(self) -> None:
        if os.path.lexists(self._work):
            remove_tree(self._work)
        running.make(self._work)

    def apply_diff(self, layer_id: str, parent: str, archive: Path) -> int | None:
        del parent  # the layer has its parent's tree
        place = self._known(layer_id)
        self._begin()
        try:
            trees.apply(archive, place / "tree", self._work)
        finally:
            remove_tree(self._work)
        return None

    def status(self) -> Mapping[str, str]:
        raise DriverRefused(_NONE)

    def metadata(self, layer_id: str) -> Mapping[str, str]:
        raise DriverRefused(f"{layer_id}: {_NONE}")

    def diff_size(self, layer_id: str, parent: str) -> int:
        raise DriverRefused(f"{layer_id} on {parent!r}: {_NONE}")

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        raise DriverRefused(f"{layer_id} on {parent!r}: {_NONE}")

    def reopen(self) -> _Differ:
        return _Differ(self._tool, self._request)

    def leave(self) -> None:
        """Nothing runs between two calls."""

    def close(self) -> None:
        """Nothing is mounted."""


KIND: Final = Kind(
    "differ",
    (("PRESET", "umoci"), ("COMMAND", "my-tool diff {lower} {upper} --output {archive}")),
    source,
)
