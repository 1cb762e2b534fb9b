"""Mounting layers: which option data to hand to the kernel, and handing it over.

mount(2) copies one page of option data and overwrites its last byte, so data fits when it is at most one
page less one byte; longer data is not refused but cut, and may then mount the wrong directory. A chain of
128 lowers under a long home does not fit. Hence three forms, tried in this order:

absolute
    what everybody sees in /proc/mounts: absolute paths.
relative
    the same from the home as the working directory: ``l/<short>`` for a lower. Made for this by the layout,
    but it reaches only what lies in the home.
short
    from a directory of symlinks named 0, 1, 2 and so on: reaches image stores and everything else.

Which form is used is decided purely, by :func:`plan_mount`. A working directory belongs to the process, so
the mount is made by a thread that has one of its own (unshare(CLONE_FS), unshare(2)): no fork and no
``chdir`` that other threads would see.
"""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from refdriver import labels
from refdriver.errors import MountFailed
from refdriver.linux import libc

PAGE_SIZE: Final = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One overlay to mount: absolute paths, the uppermost lower first.

    ``upper`` and ``work`` are empty for a mount that only reads.
    """

    lowers: tuple[str, ...]
    upper: str
    work: str
    target: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MountPlan:
    """What to hand to the kernel.

    ``directory`` is the working directory to mount from, "" for absolute paths. With ``links`` it is a
    directory still to be made, which holds these symlinks (name, target).
    """

    data: bytes
    directory: str = ""
    links: tuple[tuple[str, str], ...] = ()


def escape(path: str) -> str:
    """A path inside option data: backslash, colon and comma would end it otherwise (overlayfs.rst)."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def option_data(request: MountRequest) -> bytes:
    """The comma-separated options of a request, in the order of the driver's tradition."""
    lowers = ":".join(request.lowers)  # which rarely holds anything to escape
    if "\\" in lowers or "," in lowers or lowers.count(":") >= len(request.lowers):
        lowers = ":".join([escape(lower) for lower in request.lowers])
    words = ["lowerdir=" + lowers]
    if request.upper:
        words += ["upperdir=" + escape(request.upper), "workdir=" + escape(request.work)]
    return os.fsencode(",".join([*words, *(option for option in request.options if option)]))


def plan_mount(request: MountRequest, home: str, page_size: int = PAGE_SIZE) -> MountPlan:
    """Choose the first form that fits in ``page_size - 1`` bytes; raises MountFailed if none does."""
    limit = page_size - 1
    data = option_data(request)
    if len(data) <= limit:
        return MountPlan(data)
    if all(_is_below(home, path) for path in _paths(request)):
        relative = option_data(_from(home, request))
        if len(relative) <= limit:
            return MountPlan(relative, home)
    names = {path: str(number) for number, path in enumerate(_paths(request))}
    short = option_data(_renamed(request, names.__getitem__))
    if len(short) <= limit:
        return MountPlan(short, links=tuple((name, path) for path, name in names.items()))
    raise MountFailed(
        f"cannot mount layer, mount label too large {len(short)}: with {len(request.lowers)} lowers the kernel"
        f" takes {limit} bytes of options; use a shorter label"
    )


def mount_overlay(
    request: MountRequest, home: str, scratch: Callable[[], AbstractContextManager[str]]
) -> MountPlan:
    """Mount a request; ``scratch`` gives a directory for the short form, and takes it away again.

    Raises MountFailed with the kernel's reason.
    """
    plan = plan_mount(request, home)
    try:
        if plan.links:
            with scratch() as directory:
                for name, path in plan.links:
                    os.symlink(path, os.path.join(directory, name))
                _mount_from(directory, request.target, plan.data)
        elif plan.directory:
            _mount_from(plan.directory, request.target, plan.data)
        else:
            libc.mount("overlay", request.target, "overlay", 0, plan.data)
    except OSError as error:
        raise MountFailed(_explain(request, error)) from error
    return plan


def _mount_from(directory: str, target: str, data: bytes) -> None:
    def mount() -> None:
        libc.unshare(libc.CLONE_FS)
        os.chdir(directory)
        try:
            libc.mount("overlay", target, "overlay", 0, data)
        finally:
            os.chdir("/")  # the thread may end a moment later than its work, and keeps nothing busy meanwhile

    in_own_thread(mount)


def in_own_thread(work: Callable[[], None]) -> None:
    """Run something in a thread that ends with it, so that what it does to its own thread ends too."""
    errors: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            done.release()

    _thread.start_new_thread(run, ())  # threading.Thread takes three times the CPU time
    done.acquire()
    if errors:
        raise errors[0]


def _paths(request: MountRequest) -> Sequence[str]:
    return [*request.lowers, *(path for path in (request.upper, request.work) if path)]


def _renamed(request: MountRequest, rename: Callable[[str], str]) -> MountRequest:
    return MountRequest(
        tuple(rename(lower) for lower in request.lowers),
        rename(request.upper) if request.upper else "",
        rename(request.work) if request.work else "",
        request.target,
        request.options,
    )


def _from(home: str, request: MountRequest) -> MountRequest:
    """The same request from the home as the working directory; as :func:`_renamed` would make it, in less time."""
    above = len(home) + 1
    lowers = tuple([lower[above:] for lower in request.lowers])
    return MountRequest(lowers, request.upper[above:], request.work[above:], request.target, request.options)


def _is_below(home: str, path: str) -> bool:
    return path.startswith(home + "/")


def _explain(request: MountRequest, error: OSError) -> str:
    reason = f"cannot mount an overlay on {request.target}: {error.strerror}"
    if any(option.startswith("context=") for option in request.options) and not labels.kernel_takes_labels():
        return reason + " (it has a mount label and the kernel has no SELinux; mount without a label)"
    return reason + " (the kernel log may say more: dmesg)"
