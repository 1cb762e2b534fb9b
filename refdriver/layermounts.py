"""Mounting the layers of one home, once each however many use them."""

from __future__ import annotations

import logging
import os

from refdriver import trees
from refdriver.home import Home
from refdriver.labels import label_option
from refdriver.layers import Layer, LayerStore
from refdriver.linux import libc
from refdriver.mounts import MountRequest, mount_overlay
from refdriver.refcounts import ReferenceCounts
from refdriver.staging import Staging

_LOG = logging.getLogger("refdriver")


class LayerMounts:
    """The mounts of one home's layers. The caller holds the lock of the layer that it names."""

    def __init__(
        self, home: Home, layers: LayerStore, staging: Staging, root: tuple[int, int], userxattr: bool
    ) -> None:
        self._home = home
        self._layers = layers
        self._staging = staging
        self._root = root
        self._option = "userxattr" if userxattr else ""
        self._counts = ReferenceCounts(home.reference_counts)

    def target(self, layer: Layer) -> str:
        """Where a layer is mounted. One of an image store gets a mount point in the home."""
        return layer.merged if layer.writable else f"{self._home.read_only_mounts}/{layer.layer_id}"

    def users(self, layer: Layer) -> int:
        """How many uses of the layer's mount have not been put."""
        return self._counts.count(layer.layer_id, self.target(layer))

    def get(self, layer: Layer, mount_label: str) -> str:
        """Mount the layer, or count one more use of its mount; raises MountFailed, BrokenLayer, BadOption."""
        target = self.target(layer)
        label = label_option(mount_label)
        users = self.users(layer)
        if not users:
            self._mount(layer, label)
        self._counts.store(layer.layer_id, users + 1)
        return target

    def put(self, layer: Layer) -> None:
        """Count one use less, and unmount after the last; without a use it does nothing."""
        users = self.users(layer)
        if users > 1:
            self._counts.store(layer.layer_id, users - 1)
        else:
            self.drop(layer)

    def drop(self, layer: Layer) -> None:
        """Unmount the layer whoever uses it; a failure is logged."""
        target = self.target(layer)
        if self.users(layer):
            try:
                libc.umount(target, libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
            except OSError as error:
                _LOG.warning("cannot unmount %s: %s", target, error.strerror)
        self._counts.forget(layer.layer_id)
        if not layer.writable and os.path.isdir(target):
            os.rmdir(target)

    def mount_staged(self, layer: Layer, upper: str, work: str, target: str) -> None:
        """Mount what the layer would be with another upper."""
        lowers = tuple(lower.link for lower in self._layers.lowers(layer))
        self._mount_overlay(MountRequest(lowers, upper, work, target, (self._option,)))

    def _mount(self, layer: Layer, label: str) -> None:
        lowers = tuple(lower.link for lower in self._layers.lowers(layer))
        target = self.target(layer)
        options = (self._option, label)
        # containers-storage removes a layer's mount point when it unmounts.
        trees.make_directories(target, 0o700, self._root)
        if layer.writable:
            trees.make_directories(layer.work, 0o700, self._root)
            self._mount_overlay(MountRequest(lowers, layer.diff, layer.work, target, options))
        else:
            # Without an upper the kernel writes nothing: image stores stay as they are.
            self._mount_overlay(MountRequest((layer.diff, *lowers), "", "", target, options))

    def _mount_overlay(self, request: MountRequest) -> None:
        mount_overlay(request, self._home.path, self._staging.area)
        if not request.work:
            return
        try:
            # Overlay made it as the mounting root; mapped root must be able to move directories through it.
            os.chown(f"{request.work}/work", *self._root)
        except FileNotFoundError:
            # The kernel mounts without a work directory, and then read-only, where there is no room for one.
            _LOG.warning("%s is full, and so it is mounted read-only", request.upper)
        except OSError:
            libc.umount(request.target, libc.MNT_DETACH)
            raise
