"""A mount namespace for a run, so that whatever happens nothing of it stays mounted."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from conformance.lab import libc, mountinfo
from conformance.lab.nonamespace import confinement, remedy
from conformance.spec.errors import HarnessError

TMPFS: Final = 0x01021994  # magics of statfs(2)
OVERLAYFS: Final = 0x794C7630
XFS: Final = 0x58465342
# What a process that waits for an init sends it for what it is sent, and what the init makes of it. They are others
# than the first ones, as those reach the init too where they are sent to the whole process group.
_TO_INIT: Final = {
    signal.SIGTERM: signal.SIGUSR1,
    signal.SIGHUP: signal.SIGUSR1,
    signal.SIGINT: signal.SIGUSR2,
}
_FROM_INIT: Final = {signal.SIGUSR1: signal.SIGTERM, signal.SIGUSR2: signal.SIGINT}


class NoNamespace(HarnessError):
    """The kernel gives this process no mount namespace; the text says what would help."""


def die_with_parent(parent: int) -> None:
    """Be killed when the process ``parent``, which started this one, ends (prctl(2))."""
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os.kill(os.getpid(), signal.SIGKILL)


def enter_pid_namespace() -> str:
    """Go on as a child in a PID namespace; why there is none, "" if there is one.

    The kernel ends everything in it when its init ends (pid_namespaces(7)), so nothing that this process starts
    outlives it, or the process that called this. That one only waits from here on, ends as the child does, and
    passes SIGTERM, SIGINT and SIGHUP on to the child's process group, which is another one than its own, so that
    each comes once. Without the right to make a PID namespace, a user namespace is made first, which
    :func:`enter_private_mounts` goes on with.
    """
    parent = os.getppid()
    try:
        if os.geteuid() != 0:
            _enter_user_namespace()
        libc.unshare(libc.CLONE_NEWPID)
    except OSError as error:
        return f"no PID namespace: {os.strerror(error.errno or errno.EPERM)}"
    die_with_parent(parent)  # again: credentials that changed may have undone it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_TO_INIT, *_FROM_INIT})
    reads, writes = os.pipe2(os.O_CLOEXEC)
    init = os.fork()
    if init:
        os.close(writes)
        _wait_for(init, lambda number: os.kill(init, number), _TO_INIT)
        _end_with(int.from_bytes(os.read(reads, 4) or signal.SIGKILL.to_bytes(4, "little"), "little"))
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(reads)
    child = os.fork()
    if child:
        with suppress(OSError):  # the child may have done it and more already
            os.setpgid(child, child)
        status = _wait_for(child, lambda number: os.killpg(child, number), _FROM_INIT)
        os.write(writes, status.to_bytes(4, "little"))
        os._exit(0)
    os.close(writes)
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ""


def _wait_for(
    child: int, send: Callable[[signal.Signals], None], passed_on: Mapping[signal.Signals, signal.Signals]
) -> int:
    """The wait status of a child, while all others are reaped too, and signals are passed on."""
    while True:
        received = signal.Signals(signal.sigwait({signal.SIGCHLD, *passed_on}))
        if received in passed_on:
            with suppress(ProcessLookupError):
                send(passed_on[received])
            continue
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    return ended[1]


def _end_with(status: int) -> None:
    """End as a child did that had this wait status."""
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def process_id() -> int:
    """The id of this process in /proc, which is another one than getpid(2) in a PID namespace without its own."""
    return int(os.readlink("/proc/self"))


def set_subreaper(on: bool) -> None:
    """Become the parent of orphans among the descendants of this process, or no longer (prctl(2))."""
    libc.prctl(libc.PR_SET_CHILD_SUBREAPER, int(on))


def enter_private_mounts() -> str:
    """Move this process into mounts of its own; "root" or "user-namespace", whichever it took.

    A user namespace is root of its own mounts only (user_namespaces(7)). Raises NoNamespace.
    """
    lane = "root" if os.geteuid() == 0 and _owns_the_machine() else "user-namespace"
    try:
        if os.geteuid() != 0:
            _enter_user_namespace()
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", flags=libc.MS_REC | libc.MS_PRIVATE)
        if process_id() != os.getpid():
            # Where it is refused, as /proc is masked in a container, process ids of /proc are those of outside.
            with suppress(OSError):
                libc.mount("proc", "/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    except OSError as error:
        number = error.errno or errno.EPERM
        raise NoNamespace(
            f"cannot make a mount namespace: {os.strerror(number)}; {remedy(confinement(), number)}"
        ) from error
    return lane


def in_user_namespace() -> bool:
    """Whether this process is in a user namespace, so that overlay mounts need ``userxattr`` (overlayfs.rst)."""
    return not _owns_the_machine()


def _owns_the_machine() -> bool:
    try:
        return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    except FileNotFoundError:
        return True


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def mount_tmpfs(target: Path) -> None:
    """Mount a tmpfs, for scratch where no other filesystem can be an upper; raises OSError.

    The error of mount(2) names no path. If the target is missing, that of stat(2) says which.
    """
    target.stat()
    libc.mount("tmpfs", target, "tmpfs", data="mode=0700")


def share_mounts_in(directory: Path) -> None:
    """Mount a directory on itself, and share what is mounted below it with mount namespaces that come after."""
    libc.mount(directory, directory, flags=libc.MS_BIND)
    libc.mount("none", directory, flags=libc.MS_SHARED)


def mount_overlay_at(layers: Path, target: Path) -> None:
    """Mount an overlay of the directories lower, upper and work below ``layers``."""
    option = b"" if _owns_the_machine() else b",userxattr"
    place = os.fsencode(layers)
    data = b"lowerdir=%b/lower,upperdir=%b/upper,workdir=%b/work" % (place, place, place) + option
    libc.mount("overlay", target, "overlay", data=data)


def unmount(target: Path) -> None:
    """Detach what is mounted on a directory."""
    libc.detach(target)


def mounts_below(directory: Path) -> list[str]:
    """Where something is mounted below a directory, in the order in which it was mounted."""
    return [one.point for one in mountinfo.below(directory)]


def overlays_below(directory: Path) -> list[tuple[str, str, str]]:
    """Mount point, upper directory ("" if there is none) and device of each overlay below a directory.

    The upper directory is as it was given to the kernel, so it may be relative. Every overlay has its own device.
    """
    prefix = "upperdir="
    return [
        (
            one.point,
            next((text[len(prefix) :] for text in one.super_options if text.startswith(prefix)), ""),
            one.device,
        )
        for one in mountinfo.below(directory)
        if one.fstype == "overlay"
    ]


def unmount_below(directory: Path) -> None:
    """Detach whatever is mounted below a directory, the newest first."""
    for target in reversed(mounts_below(directory)):
        with suppress(OSError):
            libc.detach(target)


def filesystem_magic(path: Path) -> int:
    """``f_type`` of statfs(2)."""
    return int.from_bytes(libc.statfs(path)[:4], sys.byteorder)
