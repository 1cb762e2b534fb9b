"""The home directory: making it, and keeping what is mounted in it to this mount namespace.

The home is bind-mounted on itself and made private (mount_namespaces(7)), so that layer mounts do not spread
to other namespaces, where they would keep layers busy that are long unmounted here.

containers-storage takes every directory in a home for a layer: its ``check`` lists it, and its repair of short
links fails on one without ``link``. No version does so with ``l``. ``check`` skips ``staging`` too, and from 1.64
on the repair does. So this driver's own files are files in the home, and its directories are in ``staging``, which
exists only while it is not empty. Their names begin with ``refdriver``: containers-storage uses ``staging`` too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from refdriver import files, trees
from refdriver.errors import LayerInUse, NotSupported
from refdriver.layers import LINK_DIRECTORY
from refdriver.linux import libc, mountinfo

_FDINFO_MAX: Final = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Home:
    """The absolute path of a home, and of what the driver keeps there beside the layers."""

    path: str

    @property
    def links(self) -> str:
        """Where the short links are."""
        return f"{self.path}/{LINK_DIRECTORY}"

    @property
    def lock_file(self) -> str:
        """One file for all locks between processes."""
        return f"{self.path}/.refdriver.lock"

    @property
    def staging(self) -> str:
        """Layers in the making, and in the unmaking."""
        return f"{self.path}/staging"

    @property
    def read_only_mounts(self) -> str:
        """Mount points of layers of image stores, whose own directories stay untouched."""
        return f"{self.staging}/refdriver.mounts"

    @property
    def earlier_read_only_mounts(self) -> str:
        """Where those mount points were up to version 0.3."""
        return f"{self.earlier_state}/merged"

    @property
    def earlier_state(self) -> str:
        """The directory that held all this up to version 0.3; see :mod:`refdriver.migration`."""
        return f"{self.path}/.refdriver"

    def nearest_existing_parent(self) -> str:
        """The directory whose filesystem the home is going to be on."""
        path = os.path.dirname(self.path)
        while not files.is_directory(path):
            path = os.path.dirname(path)
        return path

    def make(self, root: tuple[int, int]) -> None:
        """Make whatever is missing of the home's own directories, 0700, owned by mapped root."""
        for path in (self.path, self.links):
            trees.make_directories(path, 0o700, root)

    def make_private(self) -> bool:
        """Mount the home on itself, unless something is mounted there already, and make that private.

        Says whether it mounted anything. Raises NotSupported where the process may not mount.
        """
        try:
            mounted = mountinfo.topmost_at(mountinfo.read_mounts(), self.path) is None
            if mounted:
                libc.mount(self.path, self.path, None, libc.MS_BIND, None)
            libc.mount("none", self.path, None, libc.MS_PRIVATE, None)
        except PermissionError as error:
            raise NotSupported(
                f"cannot make {self.path} a private mount: {error.strerror}; run as root, or in a mount namespace"
                " of your own ('unshare --mount', with --user --map-root-user if you are not root)"
            ) from error
        return mounted

    def mount_id(self) -> int:
        """The id of the mount that the home's path leads to, as in mountinfo (proc(5))."""
        known = libc.mount_id(self.path)
        if known is not None:
            return known
        fd = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            words = (files.read_whole(f"/proc/self/fdinfo/{fd}", _FDINFO_MAX) or b"").split()
            return int(words[words.index(b"mnt_id:") + 1])
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """Undo :meth:`make_private`; a filesystem that was mounted there by others stays.

        Raises LayerInUse while layers are mounted in the home: they would be torn away from their users.
        """
        mounts = mountinfo.read_mounts()
        own = mountinfo.topmost_at(mounts, self.path)
        if own is None or not mountinfo.is_self_bind(mounts, own):
            return
        inside = mountinfo.below(mounts, self.path)
        if inside:
            raise LayerInUse(
                f"the home {self.path} cannot be unmounted while these are mounted:"
                f" {', '.join(sorted(os.path.relpath(mount.target, self.path) for mount in inside))}; put them"
            )
        libc.umount(self.path, libc.MNT_DETACH)
