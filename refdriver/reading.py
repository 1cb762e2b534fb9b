"""Reading layers: their archives, changes and sizes, from their own directories or from mounted trees.

Nobody waits for who reads a layer: it may be removed, or get new content, meanwhile. What was read is then no tree
that the layer ever had, and reading it is an error, at the latest at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self, TypeVar

from refdriver.archive.pack import pack_changes, pack_tree
from refdriver.archive.stream import ArchiveStream
from refdriver.changes import Change, overlay_changes, tree_changes
from refdriver.errors import UnreadableLayer
from refdriver.idmap import IdMaps
from refdriver.layermounts import LayerMounts
from refdriver.layers import Layer, LayerStore
from refdriver.locks import HomeLocks
from refdriver.nativediff import NativeDiff
from refdriver.overlayxattr import OverlayXattrs
from refdriver.sizes import changes_size, layer_size

_T = TypeVar("_T")
_ROOT: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _Trees:
    """The roots that are read, each open until the end, so that no other directory or mount is taken for it."""

    def __init__(self) -> None:
        self._open: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the roots."""
        while self._open:
            os.close(self._open.pop()[1])

    def add(self, root: str) -> str:
        """One more root; raises UnreadableLayer if it is not there."""
        try:
            self._open.append((root, os.open(root, _ROOT)))
        except OSError as error:
            raise UnreadableLayer(f"cannot read {root}: {error.strerror}") from error
        return root

    def check(self) -> None:
        """Raise UnreadableLayer for a root that is not what it was when it was added."""
        for root, fd in self._open:
            try:
                same = os.path.samestat(os.stat(root), os.fstat(fd))
            except FileNotFoundError:
                same = False
            if not same:
                raise UnreadableLayer(f"{root} was removed or replaced while it was read; read its layer again")


class LayerReader:
    """Reads the layers of one home."""

    def __init__(
        self,
        layers: LayerStore,
        mounts: LayerMounts,
        locks: HomeLocks,
        native_diff: NativeDiff,
        ids: IdMaps,
        overlay: OverlayXattrs,
    ) -> None:
        self._layers = layers
        self._mounts = mounts
        self._locks = locks
        self._native_diff = native_diff
        self._ids = ids
        self._overlay = overlay

    def diff(self, layer_id: str, parent: str) -> ArchiveStream:
        """A tar stream of what the layer changes in ``parent``, or of its whole tree without one; close it.

        Raises LayerNotFound, BrokenLayer, MountFailed; reading raises UnreadableLayer.
        """
        layer = self._layers.find(layer_id)
        with ExitStack() as held:
            trees = held.enter_context(_Trees())
            if self._native_diff_tells(layer, parent):
                chunks = pack_tree(trees.add(layer.diff), self._ids, self._overlay, trees.check)
            else:
                root, old = self._borrow_trees(held, trees, layer_id, parent)
                chunks = (
                    pack_changes(root, tree_changes(old, root), self._ids, trees.check)
                    if old
                    else pack_tree(root, self._ids, None, trees.check)
                )
            return ArchiveStream(chunks, held.pop_all().close)

    def diff_size(self, layer_id: str, parent: str) -> int:
        """The size in bytes of what the layer changes in ``parent``: non-directories, each inode once.

        Raises LayerNotFound, also when the layer is removed meanwhile, and UnreadableLayer.
        """
        layer = self._layers.find(layer_id)
        return self._read(
            layer,
            parent,
            lambda: layer_size(layer.diff),
            lambda old, root: changes_size(root, tree_changes(old, root)),
        )

    def changes(self, layer_id: str, parent: str) -> list[Change]:
        """What the layer adds, modifies and deletes in ``parent``, by path; without one it adds everything.

        Raises LayerNotFound, also when the layer is removed meanwhile, and UnreadableLayer.
        """
        layer = self._layers.find(layer_id)

        def own() -> list[Change]:
            lowers = [lower.layer.diff for lower in self._layers.lowers(layer)]
            return list(overlay_changes(layer.diff, lowers, self._overlay))

        return self._read(layer, parent, own, lambda old, root: list(tree_changes(old, root)))

    def _read(
        self, layer: Layer, parent: str, own: Callable[[], _T], compared: Callable[[str | None, str], _T]
    ) -> _T:
        """What ``own`` says of the layer's directory, or ``compared`` of the two trees."""
        with ExitStack() as held:
            trees = held.enter_context(_Trees())
            try:
                if self._native_diff_tells(layer, parent):
                    trees.add(layer.diff)
                    found = own()
                else:
                    root, old = self._borrow_trees(held, trees, layer.layer_id, parent)
                    found = compared(old, root)
                trees.check()
            except UnreadableLayer:
                self._layers.find(layer.layer_id)  # raises LayerNotFound when that is why
                raise
            return found

    def _borrow_trees(self, held: ExitStack, trees: _Trees, layer_id: str, parent: str) -> tuple[str, str | None]:
        root = self._borrow_tree(held, trees, layer_id)
        old = self._borrow_tree(held, trees, parent) if parent else None
        held.callback(trees.close)  # before the mounts are undone, which are there as long as they are open
        return root, old

    def _borrow_tree(self, held: ExitStack, trees: _Trees, layer_id: str) -> str:
        base = self._layers.base_tree(layer_id)
        if base is not None:
            return trees.add(base)
        layer = self._layers.find(layer_id)
        if not layer.has_lowers:
            return trees.add(layer.diff)
        with self._locks.layer(layer_id):
            layer = self._layers.find(layer_id)  # it may have been removed while this waited
            root = self._mounts.borrow(layer)
            with ExitStack() as borrowed:
                borrowed.callback(self._mounts.give_back, layer)
                trees.add(root)  # before somebody else can unmount it
                borrowed.pop_all()
        held.callback(self._give_back, layer)
        return root

    def _give_back(self, layer: Layer) -> None:
        with self._locks.layer(layer.layer_id):
            self._mounts.give_back(layer)

    def _native_diff_tells(self, layer: Layer, parent: str) -> bool:
        """Whether the layer's own directory holds all there is to say about its difference from ``parent``."""
        if not self._layers.is_direct_parent(layer, parent):
            return False
        # A base layer is never mounted, so no feature of a mount can have touched it.
        return not parent or self._native_diff.works()
