"""Other ways to mount: the newer calls, shorter paths, more options, mount points that come and go."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from refdriver import layermounts, layers, mounts
from refdriver.errors import MountFailed
from refdriver.linux import libc, newmount
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import variant

_MOUNTS: Final = ("OVL-MOUNT", "OVL-CHAIN", "OVL-NAMES-HOME", "OVL-STORE", "OVL-LIFE-NO")
_VALUE_MOST: Final = 255  # bytes of a value that fsconfig takes
_MS_NOATIME, _MS_PRIVATE, _MS_SLAVE = 1 << 10, 1 << 18, 1 << 19


def _configure_path(context: int, key: str, path: str) -> None:
    # Which keys unescape backslashes here differs between kernels.
    if len(os.fsencode(path)) <= _VALUE_MOST and "\\" not in path:
        newmount.configure(context, key, path)
        return
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        newmount.configure(context, key, f"/proc/self/fd/{fd}")  # looked up at once
    finally:
        os.close(fd)


def why_no_lower_at_a_time() -> str:
    """Why overlays cannot be configured lower by lower on this kernel; "" if they can."""
    try:
        context = newmount.fsopen("overlay")
    except OSError as error:
        return f"fsopen: {error.strerror}; run as root, on Linux 5.2 or later"
    try:
        newmount.configure(context, "lowerdir+", "/")
    except OSError as error:
        return f"lowerdir+: {error.strerror}; it takes Linux 6.7"
    finally:
        os.close(context)
    return ""


@variant(
    source="fsopen(2) and overlayfs.rst; util-linux and containerd mount so",
    touches=(*_MOUNTS, "OVL-STATUS"),
    why_not=why_no_lower_at_a_time,
)
class MountsByTheNewCalls(Patched):
    """Overlays are mounted by fsopen, fsconfig and move_mount, lower by lower, without a page of options."""

    @staticmethod
    @replaces(mounts.mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nothing has to be escaped, and no path has to be short."""
        del original, kwargs
        try:
            _mount_by_the_new_calls(args[0])
        except OSError as error:
            raise MountFailed(f"{args[0].target}: {error}") from error


def _mount_by_the_new_calls(request: mounts.MountRequest) -> None:
    context = newmount.fsopen("overlay")
    try:
        newmount.configure(context, "source", "overlay")
        for lower in request.lowers:
            _configure_path(context, "lowerdir+", lower)
        if request.upper:
            _configure_path(context, "upperdir", request.upper)
            _configure_path(context, "workdir", request.work)
        for option in filter(None, request.options):
            key, given, value = option.partition("=")
            newmount.configure(context, key, value.strip('"') if given else None)
        mount = newmount.create(context)
    finally:
        os.close(context)
    try:
        newmount.move_mount(mount, request.target)
    finally:
        os.close(mount)


@variant(source="moby's overlay2 when paths are long", touches=_MOUNTS)
class MountsFromTheHome(Patched):
    """Overlays are mounted by paths relative to the home, however short the absolute ones are."""

    @staticmethod
    @replaces(mounts.plan_mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """With a page in which the absolute form just does not fit."""
        request, home, *_ = args
        plan = original(*args, **kwargs)
        return plan if plan.directory or plan.links else original(request, home, len(plan.data), **kwargs)


@variant(source="overlayfs.rst; containerd adds index=off", touches=(*_MOUNTS, "OVL-TREE", "OVL-OPAQUE"))
class MountsWithMoreOptions(Patched):
    """Overlays are mounted with noatime and with index=off, whatever the kernel's default is."""

    @staticmethod
    @replaces(mounts.option_data)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Behind the others."""
        return bytes(original(*args, **kwargs)) + b",index=off"

    @staticmethod
    @replaces(libc.mount)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """MS_NOATIME."""
        source, target, kind, flags, data = args
        return original(source, target, kind, flags | _MS_NOATIME if kind == "overlay" else flags, data, **kwargs)


@variant(source="containers/storage", touches=(*_MOUNTS, "OVL-LIFE", "OVL-LAYOUT", "OVL-RESTART", "OVL-PARALLEL"))
class MakesMountPointsLate(Patched):
    """A layer's merged directory is there only while the layer is mounted."""

    @staticmethod
    @replaces(layers.LayerStore.build)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Not when the layer is made."""
        original(*args, **kwargs)
        with suppress(FileNotFoundError):
            os.rmdir(f"{args[1]}/merged")

    @staticmethod
    @replaces(layermounts.LayerMounts.drop)
    def second_replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nor when it was put."""
        original(*args, **kwargs)
        with suppress(OSError):  # of an image store, or mounted still
            os.rmdir(args[1].merged)


@variant(
    source="OVL-MOUNT-LAST-PUT: a put that cannot unmount is refused",
    touches=("OVL-MOUNT", "OVL-LIFE", "OVL-PARALLEL"),
)
class UnmountsTheIdleOnly(Patched):
    """A put that finds the tree in use is refused, instead of detaching it from under its users."""

    @staticmethod
    @replaces(layermounts.LayerMounts.put)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """umount2 without MNT_DETACH."""
        mounts, layer = args
        # A diff that is being read needs the mount, also while it has no file of it open.
        if mounts.users(layer) == 1 and not mounts._locks.is_borrowed(layer.layer_id):
            libc.umount(mounts.target(layer), libc.UMOUNT_NOFOLLOW)
        return original(*args, **kwargs)


@variant(source="mount_namespaces(7): neither kind propagates out", touches=("OVL-MOUNT", "OVL-OPEN"))
class MakesTheHomeASlave(Patched):
    """Mounts of the home are slaves of those that they were copied from, not private."""

    @staticmethod
    @replaces(libc.mount)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """MS_SLAVE for MS_PRIVATE."""
        source, target, kind, flags, data = args
        return original(source, target, kind, _MS_SLAVE if flags == _MS_PRIVATE else flags, data, **kwargs)
