"""What helps where the kernel refuses a mount namespace (unshare(2), user_namespaces(7), mount_namespaces(7))."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from conformance.lab import mountinfo

# Settings of sysctl(8), the value that refuses user namespaces, and the value that allows them. The first is of
# Debian's kernels, the last of Ubuntu's.
_SETTINGS: Final = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "10000"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)


@dataclass(frozen=True, slots=True)
class Confinement:
    """How this process is confined.

    ``chroot`` is True if its root is certainly one of chroot(2): there is no mount at /. ``filtered`` is True if a
    seccomp filter is active, as in a container. ``settings`` has the settings of the kernel, by their names.
    """

    root: bool
    chroot: bool = False
    filtered: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


def confinement() -> Confinement:
    """That of this process, as far as /proc shows it."""
    found: dict[str, str] = {}
    for name, _, _ in _SETTINGS:
        with suppress(OSError):
            found[name] = Path("/proc/sys", *name.split(".")).read_text().strip()
    try:
        chroot = all(one.point != "/" for one in mountinfo.mounts())
        filtered = "\nSeccomp:\t2" in Path("/proc/self/status").read_text()
    except OSError:
        return Confinement(os.geteuid() == 0, settings=found)
    return Confinement(os.geteuid() == 0, chroot, filtered, found)


def remedy(found: Confinement, number: int) -> str:
    """What to do about the error ``number`` (errno(3)), in words that follow "cannot make a mount namespace"."""
    if found.root and found.chroot:
        return (
            "this is a chroot whose root is no mount point: bind the directory on itself before chroot"
            " (mount --bind DIRECTORY DIRECTORY), or enter it with systemd-nspawn"
        )
    if found.root:
        return "root may not mount here, as in a container: start the container with --privileged"
    if found.chroot:
        return (
            "the kernel allows no user namespaces in a chroot: run as root (sudo), or enter it with systemd-nspawn"
        )
    for name, refuses, allows in _SETTINGS:
        if found.settings.get(name) == refuses:
            return f"run as root (sudo), or allow user namespaces: sysctl {name}={allows}"
    if found.filtered:
        return "run as root (sudo); a seccomp filter is active, as in a container: start that with --privileged"
    if number == errno.EPERM:
        return (
            "run as root (sudo); if this is a chroot, the kernel allows no user namespaces in it: enter it with"
            " systemd-nspawn"
        )
    return "run as root (sudo)"
