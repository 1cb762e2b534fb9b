"""Questions that only trying answers: d_type, opaque marks, user namespaces, and whether native diff is right here.

Each probe works in a directory of its own, which the caller provides inside the home, so that the answer
is that of the filesystem which holds the layers.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from refdriver import files
from refdriver.errors import MountFailed, NotSupported
from refdriver.linux import libc
from refdriver.mounts import MountRequest, option_data
from refdriver.overlayxattr import OverlayXattrs

_WHOLE_RANGE: Final = ["0", "0", "4294967295"]


def in_user_namespace() -> bool:
    """Whether this process is root of a user namespace only (user_namespaces(7)); raises NotSupported.

    The first namespace maps every id to itself; that is all that tells it apart.
    """
    if os.geteuid() != 0:
        raise NotSupported(
            "mounting overlays needs root, or root of a user namespace; run as root, or through"
            " 'unshare --user --map-root-user --mount COMMAND' (kernel 5.11 and later)"
        )
    try:
        return files.read_text("/proc/self/uid_map").split() != _WHOLE_RANGE
    except FileNotFoundError:
        return False  # a kernel without user namespaces


def supports_d_type(directory: str) -> bool:
    """Whether directory entries carry their type here (getdents64(2)).

    Without it overlay cannot tell whiteouts while it reads a directory (xfs with ftype=0).
    """
    entry = f"{directory}/entry"  # so that there is one to look at
    os.close(os.open(entry, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return all(kind != libc.DT_UNKNOWN for _, kind in libc.directory_entry_types(fd))
    finally:
        os.close(fd)
        os.unlink(entry)


def check_opaque(directory: str, overlay: OverlayXattrs) -> None:
    """Refuse a filesystem that cannot mark that a directory hides the one below it (overlayfs.rst, opaque).

    The kernel mounts an overlay on it all the same, in which no directory of a lower layer can be removed, and none
    can be created over a deleted name (EIO). In a user namespace tmpfs is one before Linux 6.6, which brought it
    ``user.*``. Raises NotSupported.
    """
    marked = f"{directory}/opaque"
    os.mkdir(marked)
    try:
        os.setxattr(marked, overlay.opaque, b"y")
    except OSError as error:
        raise NotSupported(
            f"the filesystem of the home does not take the extended attribute {overlay.opaque}, by which overlay"
            f" marks a directory that hides the one below it: {error.strerror}; keep the home on another filesystem"
        ) from error


def check_user_namespace_overlay(directory: str) -> None:
    """Refuse a kernel that does not let a user namespace mount overlays and make whiteouts.

    Raises NotSupported with the kernel's reason.
    """
    try:
        os.mknod(f"{directory}/whiteout", 0o020000, os.makedev(0, 0))
    except OSError as error:
        raise NotSupported(
            f"a user namespace may not make whiteouts here: {error.strerror}; use kernel 5.11 or later, or root"
        ) from error
    try:
        mounted = _Overlay(directory, ("userxattr",))
    except MountFailed as error:
        raise NotSupported(f"{error}; a user namespace needs kernel 5.11 or later for overlays, or root") from error
    mounted.unmount()


def why_native_diff_is_wrong(directory: str, overlay: OverlayXattrs) -> str | None:
    """None if a layer's ``diff`` tells the whole truth here, else the reason why it does not.

    It does not where the kernel copies up the opaque attribute, renames directories by redirects, or copies up
    metadata without the data (overlayfs.rst: redirect_dir, metacopy).
    """
    os.makedirs(f"{directory}/l1/d")
    os.makedirs(f"{directory}/l1/d1")
    with open(f"{directory}/l1/data", "xb") as file:
        file.write(b"data")
    os.makedirs(f"{directory}/l2/d")
    try:
        os.setxattr(f"{directory}/l2/d", overlay.opaque, b"y")
        mounted = _Overlay(directory, ("userxattr",) if overlay.prefix.startswith("user.") else ())
    except (OSError, MountFailed) as error:
        return f"the probe failed: {error}"
    try:
        return _try_native_diff(directory, overlay)
    except OSError as error:
        return f"the probe failed: {error}"
    finally:
        mounted.unmount()


def _try_native_diff(directory: str, overlay: OverlayXattrs) -> str | None:
    merged, upper = f"{directory}/merged", f"{directory}/l3"
    open(f"{merged}/d/f", "xb").close()
    if overlay.opaque in os.listxattr(f"{upper}/d"):
        return "the kernel copies up the opaque mark"
    os.chmod(f"{merged}/data", 0o600)
    if overlay.prefix + "metacopy" in os.listxattr(f"{upper}/data"):
        return "the kernel copies up metadata without data (metacopy)"
    try:
        os.rename(f"{merged}/d1", f"{merged}/d2")
    except OSError as error:
        if error.errno == errno.EXDEV:
            return None
        raise
    if overlay.prefix + "redirect" in os.listxattr(f"{upper}/d2"):
        return "the kernel renames directories by redirects (redirect_dir)"
    return None


class _Overlay:
    """l2 over l1 under l3, mounted on ``merged``, all of them in one probe directory."""

    def __init__(self, directory: str, options: tuple[str, ...]) -> None:
        for name in ("l1", "l2", "l3", "work", "merged"):
            os.makedirs(f"{directory}/{name}", exist_ok=True)
        self._target = f"{directory}/merged"
        request = MountRequest(
            (f"{directory}/l2", f"{directory}/l1"),
            f"{directory}/l3",
            f"{directory}/work",
            self._target,
            options,
        )
        try:
            libc.mount("overlay", self._target, "overlay", 0, option_data(request))
        except OSError as error:
            raise MountFailed(f"cannot mount a probe overlay: {error.strerror}") from error

    def unmount(self) -> None:
        libc.umount(self._target, libc.MNT_DETACH)
