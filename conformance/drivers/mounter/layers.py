"""The layers of a mounter, which the harness keeps: plain directories, and a list of them.

``HOME/layers.json`` has the list. A layer's directory is ``HOME/NUMBER``, as a short name leaves room in the page
of mount options, and any id is allowed. In it are ``diff``, the upper directory, ``work`` and ``merged``. A layer
that has children is mounted with its ``diff`` as the uppermost lower, and an upper directory below ``view`` that
goes with the mount: an upper directory that is a lower of another mount is undefined behaviour (overlayfs.rst,
"Sharing and copying layers").
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from conformance.drivers.protocol import DriverRefused
from conformance.lab.removal import remove_tree

_LIST: Final = "layers.json"
_EMPTY: Final = "empty"  # the lower of a layer without a parent, as overlay takes at least one


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer in the list; ``parent`` is an id, "" for none."""

    layer_id: str
    parent: str
    number: int


@dataclass(frozen=True, slots=True)
class Stack:
    """What is mounted to show a layer: paths relative to the home, ``lowers`` from the uppermost down."""

    lowers: tuple[str, ...]
    upper: str
    work: str
    merged: str
    read_only: bool


class Layers:
    """The layers of one home. Every method that takes an id raises DriverRefused if there is no such layer."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / _EMPTY).mkdir(mode=0o755, exist_ok=True)
        self._next = 1
        self._layers: dict[str, Layer] = {}
        if (home / _LIST).exists():
            content: dict[str, Any] = json.loads((home / _LIST).read_text(encoding="utf-8"))
            self._next = content["next"]
            self._layers = {one[0]: Layer(*one) for one in content["layers"]}
        else:
            self._write()

    def __contains__(self, layer_id: str) -> bool:
        return layer_id in self._layers

    def named(self, layer_id: str) -> Layer:
        """The layer with this id."""
        if layer_id not in self._layers:
            raise DriverRefused(f"there is no layer {layer_id!r}")
        return self._layers[layer_id]

    def create(self, layer_id: str, parent: str) -> None:
        """Make a layer; raises DriverRefused for an id that is empty or taken, and for an unknown parent."""
        if not layer_id or layer_id in self._layers:
            raise DriverRefused(f"the id {layer_id!r} is {'taken' if layer_id else 'empty'}")
        if parent:
            self.named(parent)
        layer = Layer(layer_id, parent, self._next)
        place = self.home / str(layer.number)
        place.mkdir(mode=0o755)
        for name, mode in (("diff", 0o755), ("work", 0o700), ("merged", 0o700)):
            (place / name).mkdir()
            (place / name).chmod(mode)  # whatever the umask is
        self._next += 1
        self._layers[layer_id] = layer
        self._write()

    def remove(self, layer_id: str) -> None:
        """Remove a layer, which is not mounted; raises DriverRefused if it has children."""
        layer = self.named(layer_id)
        if children := self.children(layer_id):
            raise DriverRefused(f"{layer_id!r} is the parent of {', '.join(map(repr, children))}")
        remove_tree(self.home / str(layer.number))
        del self._layers[layer_id]
        self._write()

    def children(self, layer_id: str) -> list[str]:
        """The ids of the layers whose parent this is."""
        return [one.layer_id for one in self._layers.values() if one.parent == layer_id]

    def upper(self, layer_id: str) -> Path:
        """The directory that holds what the layer changes."""
        return self.home / str(self.named(layer_id).number) / "diff"

    def lowers(self, layer_id: str) -> list[Path]:
        """The directories of the layers below it, from its parent down."""
        found = []
        above = self.named(layer_id)
        while above.parent:
            above = self.named(above.parent)
            found.append(self.home / str(above.number) / "diff")
        return found

    def begin_view(self, layer_id: str) -> Stack:
        """What to mount to show a layer; makes the directories that only this mount has."""
        number = self.named(layer_id).number
        lowers = tuple(str(one.relative_to(self.home)) for one in self.lowers(layer_id)) or (_EMPTY,)
        stack = Stack(lowers, f"{number}/diff", f"{number}/work", f"{number}/merged", read_only=False)
        if not self.children(layer_id):
            return stack
        view = self.home / str(number) / "view"
        for directory in (view, view / "diff", view / "work"):
            directory.mkdir(exist_ok=True)
        status = self.upper(layer_id).stat()  # an overlay's root directory is that of its upper
        os.chown(view / "diff", status.st_uid, status.st_gid)
        (view / "diff").chmod(status.st_mode & 0o7777)
        os.utime(view / "diff", ns=(status.st_atime_ns, status.st_mtime_ns))
        return replace(
            stack,
            lowers=(stack.upper, *(one for one in lowers if one != _EMPTY)),
            upper=f"{number}/view/diff",
            work=f"{number}/view/work",
            read_only=True,
        )

    def end_view(self, layer_id: str) -> None:
        """Remove what :meth:`begin_view` made, where nothing is mounted any more."""
        view = self.home / str(self.named(layer_id).number) / "view"
        if view.is_dir():
            remove_tree(view)

    def _write(self) -> None:
        listed = [[one.layer_id, one.parent, one.number] for one in self._layers.values()]
        new = self.home / f".{_LIST}"
        new.write_text(json.dumps({"next": self._next, "layers": listed}), encoding="utf-8")
        new.replace(self.home / _LIST)
