"""Mounting the layers of one home, once each however many use them.

There are two kinds of use. A get is counted on disk until its put, over processes and restarts. A diff borrows: it
uses the same mount, uncounted, and a lock that the kernel drops with its process says that it does. So a mount with
no count and no borrower was left by a process that was killed, and whoever finds it unmounts it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from refdriver import files, trees
from refdriver.errors import MountFailed
from refdriver.home import Home
from refdriver.labels import label_option
from refdriver.layers import Layer, LayerStore
from refdriver.linux import libc, mountinfo
from refdriver.locks import HomeLocks
from refdriver.mounts import MountRequest, mount_overlay
from refdriver.refcounts import ReferenceCounts, is_overlay
from refdriver.staging import Staging

_LOG = logging.getLogger("refdriver")


class LayerMounts:
    """The mounts of one home's layers. The caller holds the lock of the layer that it names."""

    def __init__(
        self,
        home: Home,
        layers: LayerStore,
        staging: Staging,
        locks: HomeLocks,
        root: tuple[int, int],
        userxattr: bool,
    ) -> None:
        self._home = home
        self._layers = layers
        self._staging = staging
        self._locks = locks
        self._root = root
        self._option = "userxattr" if userxattr else ""
        self._counts = ReferenceCounts(home.path)
        self._home_mount_id = 0

    def target(self, layer: Layer) -> str:
        """Where a layer is mounted. One of an image store gets a mount point in the home."""
        if layer.writable:
            return layer.merged
        earlier = f"{self._home.earlier_read_only_mounts}/{layer.layer_id}"
        return earlier if is_overlay(earlier) else f"{self._home.read_only_mounts}/{layer.layer_id}"

    def users(self, layer: Layer) -> int:
        """How many uses of the layer's mount have not been put."""
        return self._counts.count(layer.layer_id, self.target(layer))

    def get(self, layer: Layer, mount_label: str) -> str:
        """Mount the layer, or count one more use of its mount; raises MountFailed, BrokenLayer, BadOption."""
        target = self.target(layer)
        label = label_option(mount_label)
        users = self.users(layer)
        mounts = not users and not is_overlay(target)
        if mounts:
            self._mount(layer, label)
        try:
            self._counts.store(layer.layer_id, users + 1)
        except OSError:
            if mounts:  # uncounted, nobody would undo it
                libc.umount(target, libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
            raise
        return target

    def put(self, layer: Layer) -> None:
        """Count one use less, and unmount after the last; without a use it does nothing. Raises MountFailed."""
        users = self.users(layer)
        if users > 1 or (users and self._locks.is_borrowed(layer.layer_id)):
            self._counts.store(layer.layer_id, users - 1)
        elif users:
            self.drop(layer)
        else:
            self.drop_unused(layer)

    def borrow(self, layer: Layer) -> str:
        """Mount the layer for a reader of this process, uncounted; pair it with :meth:`give_back`.

        Raises MountFailed or BrokenLayer.
        """
        target = self.target(layer)
        # Before the mount is made: at no moment is it there uncounted while its user lives.
        self._locks.borrow(layer.layer_id)
        try:
            if not is_overlay(target):
                self._counts.store(layer.layer_id, 0)
                self._mount(layer, "")
        except BaseException:
            self._locks.give_back(layer.layer_id)
            if not is_overlay(target):
                self._counts.forget(layer.layer_id)
            raise
        return target

    def give_back(self, layer: Layer) -> None:
        """Undo one :meth:`borrow`. What was read is read: a failure to unmount is logged."""
        self._locks.give_back(layer.layer_id)
        try:
            self.drop_unused(layer)
        except MountFailed as error:
            _LOG.warning("%s", error)

    def in_use(self, layer: Layer) -> bool:
        """Whether somebody uses the layer's mount; a mount that nobody uses is undone. Raises MountFailed."""
        return self.users(layer) > 0 or not self.drop_unused(layer)

    def drop_unused(self, layer: Layer) -> bool:
        """Unmount the layer if no get and no borrower uses it; whether it is not mounted then."""
        if not is_overlay(self.target(layer)):
            return True
        if self.users(layer) or self._locks.is_borrowed(layer.layer_id):
            return False
        self.drop(layer)
        return True

    def drop(self, layer: Layer) -> None:
        """Unmount the layer whoever uses it; raises MountFailed, and its count stays, if it is mounted still."""
        target = self.target(layer)
        if is_overlay(target):
            try:
                libc.umount(target, libc.MNT_DETACH | libc.UMOUNT_NOFOLLOW)
            except OSError as error:
                if is_overlay(target):
                    raise MountFailed(
                        f"cannot unmount {target}: {error.strerror}; the layer stays mounted and counted, so put"
                        " it again"
                    ) from error
        self._counts.forget(layer.layer_id)
        if not layer.writable:
            _remove_mount_point(target)

    def mounted_layers(self) -> list[str]:
        """The ids of layers that something is mounted for in this mount namespace."""
        found = []
        for mount in mountinfo.below(mountinfo.read_mounts(), self._home.path):
            directory, name = os.path.split(mount.target)
            if directory in (self._home.read_only_mounts, self._home.earlier_read_only_mounts):
                found.append(name)
            elif name == "merged" and os.path.dirname(directory) == self._home.path:
                found.append(os.path.basename(directory))
        return found

    def open_home(self) -> bool:
        """Make the home a private mount; whether it was none. The caller holds the home's mount alone."""
        mounted = self._home.make_private()
        self._home_mount_id = self._home.mount_id()
        return mounted

    @contextmanager
    def in_private_home(self) -> Iterator[None]:
        """Whatever is mounted in the home inside stays in this mount namespace, and no cleanup tears it away.

        A cleanup by another process may have undone the home's own mount since this driver was opened.
        """
        while True:
            with self._locks.mounting():
                if self._home.mount_id() == self._home_mount_id:
                    yield
                    return
            with self._locks.home_mount():
                self.open_home()

    def mount_staged(self, layer: Layer, upper: str, work: str, target: str) -> None:
        """Mount what the layer would be with another upper."""
        self._mount_over_lowers(layer, upper, work, target, (self._option,))

    def _mount(self, layer: Layer, label: str) -> None:
        target = self.target(layer)
        options = (self._option, label)
        if layer.writable:
            # containers-storage removes a layer's mount point when it unmounts.
            trees.make_directories(target, 0o700, self._root)
            trees.make_directories(layer.work, 0o700, self._root)
            self._mount_over_lowers(layer, layer.diff, layer.work, target, options)
        else:
            if not files.is_directory(target):
                self._staging.make_directory(target)
            try:
                # Without an upper the kernel writes nothing: image stores stay as they are.
                self._mount_over_lowers(layer, "", "", target, options)
            except BaseException:
                _remove_mount_point(target)
                raise

    def _mount_over_lowers(
        self, layer: Layer, upper: str, work: str, target: str, options: tuple[str, ...]
    ) -> None:
        lowers = tuple([lower.link for lower in self._layers.lowers(layer, must_exist=False)])
        if not upper:
            lowers = (layer.diff, *lowers)
        try:
            self._mount_overlay(MountRequest(lowers, upper, work, target, options))
        except MountFailed:
            self._layers.lowers(layer)  # raises BrokenLayer when a lower is not there
            raise

    def _mount_overlay(self, request: MountRequest) -> None:
        with self.in_private_home():
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


def _remove_mount_point(target: str) -> None:
    """Remove where a layer of an image store was mounted, and the directories above that are of no more use."""
    for directory in (target, os.path.dirname(target), os.path.dirname(os.path.dirname(target))):
        files.remove_empty(directory)
