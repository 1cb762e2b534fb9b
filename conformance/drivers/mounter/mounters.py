"""What mounts: the kernel by its own calls, or a command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from conformance.drivers import commands
from conformance.drivers.mounter.layers import Stack
from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused
from conformance.lab import daemons, libc, mountinfo, namespace
from conformance.lab.elsewhere import in_directory
from conformance.lab.overlaymount import Overlay, fits, mount_classic, mount_new
from conformance.lab.removal import remove_tree

PLACEHOLDERS: Final = ("{lowers}", "{upper}", "{work}", "{merged}")
_SPECIAL: Final = frozenset(":,\\")  # what separates and escapes in lists of paths and of options


class Mounter(Protocol):
    """Mounts the stack of a layer below a home, and unmounts it. Calls raise DriverRefused and DriverFailed."""

    def mount(self, home: Path, stack: Stack, limit: CallLimit) -> frozenset[int]:
        """Mount; the ids of processes that serve the mount."""

    def unmount(self, home: Path, stack: Stack, limit: CallLimit) -> None:
        """Unmount."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Overlay of the kernel, by mount(2) or by the new mount calls, with further options."""

    new_calls: bool = False
    options: tuple[str, ...] = ()

    def mount(self, home: Path, stack: Stack, limit: CallLimit) -> frozenset[int]:
        """With absolute paths where mount(2) takes them as they are, else with those relative to the home."""
        del limit  # the kernel answers
        short = Overlay(stack.lowers, stack.upper, stack.work, self.all_options())
        long = absolute(home, short)
        mount = mount_new if self.new_calls else mount_classic
        target = str(home / stack.merged)
        try:
            if is_plain(home) and not self.new_calls and fits(long.data):
                mount(long, target)
            else:  # a value of fsconfig(2) has at most 255 bytes
                in_directory(str(home), lambda: mount(short, target))
        except OSError as error:
            raise DriverRefused(f"overlay cannot be mounted: {error.strerror}: {short.data[:400]}") from error
        return frozenset()

    def all_options(self) -> tuple[str, ...]:
        """The options, with ``userxattr`` where this process is root of a user namespace only."""
        needs = namespace.in_user_namespace() and "userxattr" not in self.options
        return (*self.options, *(["userxattr"] if needs else []))

    def unmount(self, home: Path, stack: Stack, limit: CallLimit) -> None:
        del limit
        unmount(home / stack.merged)
        mark = home / stack.work / "work" / "incompat"
        if mark.is_dir():  # of a volatile mount: no crash came between, so its files are whole (overlayfs.rst)
            remove_tree(mark)


@dataclass(frozen=True, slots=True)
class Command:
    """A command that mounts and returns, and one that unmounts; () for umount2(2).

    Words have placeholders. Paths are absolute. If that of the home has a character that separates paths or
    options, they are relative to the home, and the command starts there: each command has its own way to escape.
    """

    words: tuple[str, ...]
    ending: tuple[str, ...] = ()

    def mount(self, home: Path, stack: Stack, limit: CallLimit) -> frozenset[int]:
        before = {(one.point, one.device) for one in mountinfo.mounts()}
        words, directory = self.filled(self.words, home, stack)
        done, left = daemons.left_by(lambda: commands.run(words, limit, "get", cwd=directory))
        try:
            if done.status:
                raise DriverRefused(_said(words, done))
            self._check(home, stack, before, words)
        except BaseException:
            daemons.kill(left)
            raise
        return left

    def _check(self, home: Path, stack: Stack, before: set[tuple[str, str]], words: Sequence[str]) -> None:
        """Raise DriverFailed if something is mounted outside of the home, or nothing where it should be."""
        came = [one.point for one in mountinfo.mounts() if (one.point, one.device) not in before]
        astray = [point for point in came if not point.startswith(f"{os.path.realpath(home)}/")]
        merged = os.path.realpath(home / stack.merged)
        if merged in came and not astray:
            return
        for point in reversed(came):
            libc.umount(point, libc.MNT_DETACH)
        said = f"it mounted {', '.join(came)}" if came else "it mounted nothing"
        raise DriverFailed(f"{words[0]} exited with 0 and should have mounted {merged}, but {said}")

    def unmount(self, home: Path, stack: Stack, limit: CallLimit) -> None:
        if not self.ending:
            unmount(home / stack.merged)
            return
        words, directory = self.filled(self.ending, home, stack)
        done = commands.run(words, limit, "put", cwd=directory)
        if done.status:
            raise DriverRefused(_said(words, done))

    def filled(self, words: Sequence[str], home: Path, stack: Stack) -> tuple[list[str], str]:
        """The words with paths in the place of placeholders, and the directory to start the command in."""
        paths = Overlay(stack.lowers, stack.upper, stack.work)
        plain = is_plain(home)
        if plain:
            paths = absolute(home, paths)
        merged = str(home / stack.merged) if plain else stack.merged
        values = (":".join(paths.lowers), paths.upper, paths.work, merged)
        found = []
        for word in words:
            for placeholder, value in zip(PLACEHOLDERS, values, strict=True):
                word = word.replace(placeholder, value)
            found.append(word)
        return found, "/" if plain else str(home)


def absolute(home: Path, overlay: Overlay) -> Overlay:
    """The same directories by absolute paths."""
    lowers = tuple(f"{home}/{one}" for one in overlay.lowers)
    return replace(overlay, lowers=lowers, upper=f"{home}/{overlay.upper}", work=f"{home}/{overlay.work}")


def is_plain(home: Path) -> bool:
    """Whether a path has no character that separates or escapes in lists of paths and of options."""
    return _SPECIAL.isdisjoint(str(home))


def unmount(target: Path) -> None:
    """Unmount by umount2(2); raises DriverRefused, such as for a mount in use."""
    try:
        libc.umount(target)
    except OSError as error:
        raise DriverRefused(f"{target} cannot be unmounted: {error.strerror}") from error


def make_read_only(target: Path) -> None:
    """Make a mount read-only, whatever its filesystem; raises OSError."""
    libc.mount("none", target, flags=libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY)


def _said(words: Sequence[str], done: commands.Done) -> str:
    said = (done.stderr + done.stdout).decode("utf-8", "replace").strip()
    return f"{words[0]} exited with {done.status}: {said[-2000:] or 'it said nothing'}"
