"""A mount namespace for a run, so that whatever happens nothing of it stays mounted."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

TMPFS: Final = 0x01021994  # magics of statfs(2)
OVERLAYFS: Final = 0x794C7630
XFS: Final = 0x58465342
_CLONE_NEWNS: Final = 0x20000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_MS_REC_PRIVATE: Final = 16384 | (1 << 18)
_MS_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8
_MS_BIND: Final = 4096
_MS_SHARED: Final = 1 << 20
_MNT_DETACH: Final = 2
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
# What a process that waits for an init sends it for what it is sent, and what the init makes of it. They are others
# than the first ones, as those reach the init too where they are sent to the whole process group.
_TO_INIT: Final = {
    signal.SIGTERM: signal.SIGUSR1,
    signal.SIGHUP: signal.SIGUSR1,
    signal.SIGINT: signal.SIGUSR2,
}
_FROM_INIT: Final = {signal.SIGUSR1: signal.SIGTERM, signal.SIGUSR2: signal.SIGINT}


class NoNamespace(Exception):
    """The kernel gives this process no mount namespace; the text says what would help."""


def _call(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(parent: int) -> None:
    """Be killed when the process ``parent``, which started this one, ends (prctl(2))."""
    _call(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
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
        _call(_LIBC.unshare(_CLONE_NEWPID))
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
    _call(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
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
    _call(_LIBC.prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0))


def enter_private_mounts() -> str:
    """Move this process into mounts of its own; "root" or "user-namespace", whichever it took.

    A user namespace is root of its own mounts only (user_namespaces(7)). Raises NoNamespace.
    """
    lane = "root" if os.geteuid() == 0 and _owns_the_machine() else "user-namespace"
    try:
        if os.geteuid() != 0:
            _enter_user_namespace()
        _call(_LIBC.unshare(_CLONE_NEWNS))
        _call(_LIBC.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None))
        if process_id() != os.getpid():
            # Where it is refused, as /proc is masked in a container, process ids of /proc are those of outside.
            _LIBC.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC), None)
    except OSError as error:
        raise NoNamespace(
            f"cannot make a mount namespace: {os.strerror(error.errno or errno.EPERM)}; run as root (sudo), or"
            " allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces,"
            " kernel.apparmor_restrict_unprivileged_userns=0; in a container: --privileged)"
        ) from error
    return lane


def _owns_the_machine() -> bool:
    try:
        return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    except FileNotFoundError:
        return True


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _call(_LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def mount_tmpfs(target: Path) -> None:
    """Mount a tmpfs, for scratch where no other filesystem can be an upper."""
    _call(_LIBC.mount(b"tmpfs", os.fsencode(target), b"tmpfs", ctypes.c_ulong(0), b"mode=0700"))


def share_mounts_in(directory: Path) -> None:
    """Mount a directory on itself, and share what is mounted below it with mount namespaces that come after."""
    name = os.fsencode(directory)
    _call(_LIBC.mount(name, name, None, ctypes.c_ulong(_MS_BIND), None))
    _call(_LIBC.mount(b"none", name, None, ctypes.c_ulong(_MS_SHARED), None))


def mount_overlay_at(layers: Path, target: Path) -> None:
    """Mount an overlay of the directories lower, upper and work below ``layers``."""
    option = b"" if _owns_the_machine() else b",userxattr"
    place = os.fsencode(layers)
    data = b"lowerdir=%b/lower,upperdir=%b/upper,workdir=%b/work" % (place, place, place) + option
    _call(_LIBC.mount(b"overlay", os.fsencode(target), b"overlay", ctypes.c_ulong(0), data))


def unmount(target: Path) -> None:
    """Detach what is mounted on a directory."""
    _call(_LIBC.umount2(os.fsencode(target), _MNT_DETACH))


def mounts_below(directory: Path) -> list[str]:
    """Where something is mounted below a directory, in the order in which it came (proc(5), mountinfo)."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    targets = [line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in lines]
    return [os.fsdecode(target) for target in targets if target.startswith(os.fsencode(directory) + b"/")]


def overlays_below(directory: Path) -> list[tuple[str, str]]:
    """Mount point and upper directory ("" if there is none) of each overlay below a directory (proc(5), mountinfo).

    The upper directory is as it was given to the kernel, so it may be relative.
    """
    found = []
    prefix = os.fsencode(directory) + b"/"
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        target, kind = _unescaped(before.split(b" ")[4]), after.split(b" ")
        if kind[0] == b"overlay" and target.startswith(prefix):
            options = b" ".join(kind[2:]).split(b",")  # commas of a value are escaped
            upper = next((one.partition(b"=")[2] for one in options if one.startswith(b"upperdir=")), b"")
            found.append((os.fsdecode(target), os.fsdecode(_unescaped(upper))))
    return found


def _unescaped(text: bytes) -> bytes:
    """A field of mountinfo with its octal escapes resolved."""
    return re.sub(rb"\\([0-7]{3})", lambda one: bytes([int(one[1], 8)]), text)


def unmount_below(directory: Path) -> None:
    """Detach whatever is mounted below a directory, the newest first."""
    for target in reversed(mounts_below(directory)):
        _LIBC.umount2(os.fsencode(target), _MNT_DETACH)


def filesystem_magic(path: Path) -> int:
    """``f_type`` of statfs(2)."""
    buffer = ctypes.create_string_buffer(256)
    _call(_LIBC.statfs(os.fsencode(path), buffer))
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF
